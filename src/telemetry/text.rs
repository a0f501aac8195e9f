//! The fields of a line of text for people.
//!
//! Promises: foreign text in a line can not forge another line, act on a terminal or be invisible. The fields of
//! tracing-subscriber promise that of the message only, and not for line breaks and bidirectional controls.

use std::fmt::{self, Debug};

use changelog_core::model::Printable;
use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, format::Writer},
};

/// The message, and `name=value` of the other fields.
pub struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut fields_of_line = Fields { writer, is_first: true, result: Ok(()) };
        fields.record(&mut fields_of_line);
        fields_of_line.result
    }
}

struct Fields<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        let separator = if self.is_first { "" } else { " " };
        self.is_first = false;
        let name = name.strip_prefix("r#").unwrap_or(name);
        let value = Printable(value);
        match (name, self.writer.has_ansi_escapes()) {
            ("message", _) => write!(self.writer, "{separator}{value}"),
            (_, true) => write!(self.writer, "{separator}\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}"),
            (_, false) => write!(self.writer, "{separator}{name}={value}"),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Where in its source a line of the `log` crate was written. Its target is shown already.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field.name(), &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{self, Lines},
        *,
    };

    /// What `event` logs.
    fn logged(ansi: bool, event: impl FnOnce()) -> String {
        let subscriber = |lines: Lines| {
            let format = tracing_subscriber::fmt().with_ansi(ansi).fmt_fields(TextFields);
            format.with_writer(move || lines.clone()).finish()
        };
        testing::logged(subscriber, event)
    }

    /// Covers C81, S12.
    #[test]
    fn foreign_text_stays_on_its_line_and_is_escaped_in_all_places() {
        let text = "a\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{200b}\u{feff}\r\n2026 ERROR forged";
        let events: [fn(&str); 4] = [
            |text| tracing::info!(field = text, "m"),
            |text| tracing::info!(field = %text, "m"),
            |text| tracing::info!(field = ?text, "m"),
            |text| tracing::info!("{text}"),
        ];
        for event in events {
            let line = logged(false, || event(text));
            let line = line.strip_suffix('\n').unwrap();
            assert!(line.is_ascii() && !line.contains(char::is_control), "{line:?}");
            assert!(line.contains("forged"), "{line:?}");
            let coloured = logged(true, || event(text));
            assert!(!coloured.contains("\u{1b}[2J") && coloured.contains("\u{1b}["), "{coloured:?}");
            assert_eq!(coloured.lines().count(), 1, "{coloured:?}");
        }
    }

    /// Covers C58.
    #[test]
    fn a_line_has_the_message_and_each_field() {
        let line =
            logged(false, || tracing::info!(text = "a b", shown = %"c d", number = 7, r#type = true, "the message"));
        let expected = "the message text=\"a b\" shown=c d number=7 type=true\n";
        assert!(line.ends_with(expected), "{line:?}");
    }
}

//! An event as one line of JSON: `timestamp`, `level`, the fields of the event, `target`.
//!
//! Promises: a line is valid JSON, has each member once, and has at most 16 KiB. Characters that act on a terminal or
//! are not seen are escaped. The formatter of tracing-subscriber repeats a member if a field has the name of one of its
//! own.

use std::fmt::{self, Debug};

use changelog_core::model::PrintableJson;
use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::writer::MAX_LINE_BYTES;

/// Bytes of each text, tried in this order until the line is short enough. A control character takes six bytes. An
/// event has at most 32 fields, so the last one always fits.
const TEXT_LIMITS: [usize; 4] = [usize::MAX, 2_048, 256, 40];

/// The members that are not fields of the event.
const OWN_MEMBERS: [&str; 3] = ["timestamp", "level", "target"];

pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str();
        let target = fields.log_target.as_deref().unwrap_or(event.metadata().target());
        writeln!(writer, "{}", line(level, &fields.members, target))
    }
}

/// A line with a message only.
pub fn message(level: &str, text: &str) -> String {
    line(level, &[("message".to_owned(), text.into())], env!("CARGO_PKG_NAME"))
}

fn line(level: &str, members: &[(String, Value)], target: &str) -> String {
    let mut timestamp = String::new();
    // It fails only if the writer does.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let lines = TEXT_LIMITS.iter().filter_map(|limit| try_line(&timestamp, level, members, target, *limit).ok());
    lines.into_iter().find(|line| line.len() < MAX_LINE_BYTES).unwrap_or_default()
}

fn try_line(
    timestamp: &str,
    level: &str,
    members: &[(String, Value)],
    target: &str,
    text_limit: usize,
) -> serde_json::Result<String> {
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("timestamp", timestamp)?;
    object.serialize_entry("level", level)?;
    for (name, value) in members {
        match value {
            Value::String(text) if text.len() > text_limit => {
                let kept = &text[..text.floor_char_boundary(text_limit)];
                object.serialize_entry(name, &format_args!("{kept} [cut]"))?;
            }
            value => object.serialize_entry(name, value)?,
        }
    }
    object.serialize_entry("target", target)?;
    object.end()?;
    Ok(PrintableJson(&String::from_utf8_lossy(&line)).to_string())
}

/// The fields of an event, each name once.
#[derive(Default)]
struct Fields {
    members: Vec<(String, Value)>,
    /// The target of a line that came through the `log` crate. Its event has the target "log".
    log_target: Option<String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match (name, value) {
            ("log.target", Value::String(target)) => self.log_target = Some(target),
            // Where in its source a line of the `log` crate was written.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                let mut name = name.strip_prefix("r#").unwrap_or(name).to_owned();
                while OWN_MEMBERS.contains(&&*name) || self.members.iter().any(|(taken, _)| *taken == name) {
                    name.insert_str(0, "field.");
                }
                self.members.push((name, value));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use serde::de::{Deserializer as _, MapAccess, Visitor};

    use super::{
        super::testing::{self, Lines},
        *,
    };

    /// The members of an object in their order, repeated ones included.
    struct Members(Vec<(String, Value)>);

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
            while let Some(member) = map.next_entry()? {
                self.0.push(member);
            }
            Ok(self.0)
        }
    }

    /// The members of the one line that `event` logs.
    fn logged(event: impl FnOnce()) -> Vec<(String, Value)> {
        let subscriber = |lines: Lines| {
            tracing_subscriber::fmt().with_writer(move || lines.clone()).event_format(JsonLines).finish()
        };
        let text = testing::logged(subscriber, event);
        assert!(text.len() <= MAX_LINE_BYTES && text.ends_with('\n'), "{} bytes", text.len());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::Deserializer::from_str(&text).deserialize_map(Members(Vec::new())).unwrap()
    }

    /// Covers C58.
    #[test]
    fn a_line_has_each_member_once() {
        let events: [fn(); 5] = [
            || tracing::info!(message = "a field", "the text"),
            || tracing::info!(timestamp = 1, level = "x", target = true, "the text"),
            || tracing::info!(a = 1, a = 2, a = 3, "the text"),
            || tracing::info!({ field.level = 1, level = 2 }, "the text"),
            || tracing::info!("the text"),
        ];
        for event in events {
            let members = logged(event);
            let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
            assert!(
                members.iter().any(|(name, value)| name.ends_with("message") && value == "the text"),
                "{members:?}"
            );
            names.sort();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{members:?}");
        }
    }

    /// Covers C58, R41.
    #[test]
    fn a_long_line_is_cut_in_its_texts_and_stays_json() {
        for filler in ["x", "\u{1}", "é", "\"", "😀", "\u{ad}", "\u{200b}", "\u{e0041}"] {
            let long = filler.repeat(20_000);
            let members = logged(|| tracing::info!(a = long, b = long, c = 7, d = %long, "the text"));
            let of = |name: &str| members.iter().find(|(n, _)| n == name).unwrap().1.clone();
            assert_eq!((of("message"), of("c")), ("the text".into(), 7.into()));
            for name in ["a", "b", "d"] {
                let text = of(name).as_str().unwrap().to_owned();
                assert!(text.ends_with(" [cut]") && long.starts_with(text.strip_suffix(" [cut]").unwrap()), "{text}");
            }
        }
    }

    /// Covers C81, S12.
    #[test]
    fn no_line_has_a_control_or_invisible_character_and_it_stays_equal_as_json() {
        let text = "a\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{200b}\u{feff}\r\nb";
        let members = logged(|| tracing::info!(a = text, b = %text, "the {text}"));
        for (name, expected) in [("a", text.to_owned()), ("b", text.to_owned()), ("message", format!("the {text}"))] {
            assert!(members.contains(&(name.to_owned(), expected.into())), "{name}: {members:?}");
        }
        let line = message("ERROR", text);
        assert!(line.is_ascii() && !line.contains(char::is_control), "{line:?}");
    }
}

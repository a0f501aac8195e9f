//! The output of a command: lines for people on a terminal, JSON Lines in a pipe.
//!
//! Promises: text of a server or a value is escaped, so that it can not act on a terminal. JSON stays equal as JSON. A
//! value of an export stands byte for byte where no terminal reads it.

use std::io::{self, BufWriter, IsTerminal, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use changelog_core::model::{Printable, PrintableJson};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{json, ser::Formatter};

use super::{
    failure::Failure,
    format::Format,
    record::{Line, timestamp},
};
use crate::proto::v1;

pub struct Output {
    format: Format,
    to: BufWriter<Box<dyn Write + Send>>,
    is_terminal: bool,
}

/// The compact form of JSON, escaped. `values` says whether documents of values are escaped, too.
struct EscapedJson {
    values: bool,
}

impl Formatter for EscapedJson {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        write!(to, "{}", PrintableJson(fragment))
    }

    fn write_raw_fragment<W: Write + ?Sized>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        if self.values { write!(to, "{}", PrintableJson(fragment)) } else { to.write_all(fragment.as_bytes()) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Failed(format!("output can't be written: {error}")),
        }
    }
}

/// A bar or a spinner on standard error, hidden if that is not a terminal. Do not print to a terminal meanwhile.
pub fn progress(length: Option<u64>) -> ProgressBar {
    match (io::stderr().is_terminal(), length) {
        (false, _) => ProgressBar::hidden(),
        (true, Some(length)) => ProgressBar::new(length),
        (true, None) => ProgressBar::new_spinner(),
    }
}

impl Output {
    /// Prints to standard output.
    pub fn standard(format: Option<Format>) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let default = if is_terminal { Format::Text } else { Format::Json };
        Self { is_terminal, ..Self::new(format.unwrap_or(default), Box::new(io::stdout())) }
    }

    /// Prints to what is no terminal.
    pub fn new(format: Format, to: Box<dyn Write + Send>) -> Self {
        Self { format, to: BufWriter::new(to), is_terminal: false }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }

    /// Prints `text` for people, or `object` for programs.
    pub fn line(&mut self, text: &str, object: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            Format::Text => self.text(text),
            Format::Json => self.object(object, true),
        }
    }

    /// Prints a line for people.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.to, "{}", Printable(text))?)
    }

    fn object(&mut self, object: &impl Serialize, escape_values: bool) -> Result<(), Failure> {
        let mut json = serde_json::Serializer::with_formatter(&mut self.to, EscapedJson { values: escape_values });
        object.serialize(&mut json).map_err(io::Error::from)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Prints the bytes of a value. On a terminal all but line breaks and tabs are escaped.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.is_terminal {
            return Ok(self.to.write_all(bytes)?);
        }
        for part in String::from_utf8_lossy(bytes).split_inclusive(['\n', '\t']) {
            let text = part.strip_suffix(['\n', '\t']).unwrap_or(part);
            write!(self.to, "{}{}", Printable(text), &part[text.len()..])?;
        }
        Ok(())
    }

    /// Prints an entry with its position and time.
    pub fn entry(&mut self, entry: &v1::Entry) -> Result<(), Failure> {
        let line = Line::of(entry, true);
        if self.format == Format::Json {
            return self.object(&line, true);
        }
        let value = match (&line.value, &line.value_base64) {
            (Some(value), _) => value.get().to_owned(),
            (None, Some(text)) => format!("base64 {text}"),
            (None, None) => "deleted".to_owned(),
        };
        let (key, at) = (&entry.key, line.timestamp.unwrap_or_default());
        self.text(&format!("{key}  {value}  ({}/{}, {at})", entry.partition, entry.offset))
    }

    /// Prints a line as `import` reads it.
    pub fn export(&mut self, line: &Line) -> Result<(), Failure> {
        self.object(line, self.is_terminal)
    }

    /// Prints a Snapshot, which proves that the partition was read whole.
    pub fn snapshot(&mut self, snapshot: &v1::Snapshot) -> Result<(), Failure> {
        let (text, object) = Self::of_snapshot(snapshot);
        self.line(&text, &json!({"snapshot": object}))
    }

    /// Prints the Snapshot of a watch, after which changes follow. People need its token to go on later.
    pub fn synced(&mut self, snapshot: &v1::Snapshot) -> Result<(), Failure> {
        let (text, object) = Self::of_snapshot(snapshot);
        let token = BASE64_STANDARD.encode(&snapshot.resume_token);
        self.line(&format!("synced: {text}; token {token}"), &json!({"synced": object}))
    }

    fn of_snapshot(s: &v1::Snapshot) -> (String, serde_json::Value) {
        let text = format!(
            "partition {} is whole: offsets {} to {}, {} entries, {} tombstones, {} records read, {} skipped, \
             {} misplaced",
            s.partition, s.start_offset, s.end_offset, s.entries, s.tombstones, s.records_read, s.skipped, s.misplaced
        );
        let object = json!({
            "partition": s.partition, "start_offset": s.start_offset, "end_offset": s.end_offset,
            "records_read": s.records_read, "skipped": s.skipped, "misplaced": s.misplaced,
            "entries": s.entries, "tombstones": s.tombstones,
            "resume_token": BASE64_STANDARD.encode(&s.resume_token),
        });
        (text, object)
    }

    pub fn bookmark(&mut self, token: &[u8]) -> Result<(), Failure> {
        let token = BASE64_STANDARD.encode(token);
        self.line(&format!("bookmark {token}"), &json!({"bookmark": {"resume_token": token}}))
    }

    /// Prints the position of a write.
    pub fn written(
        &mut self,
        key: &str,
        position: Option<v1::Position>,
        at: Option<prost_types::Timestamp>,
    ) -> Result<(), Failure> {
        match position {
            Some(p) => {
                let at = at.as_ref().and_then(timestamp);
                let text = format!("{key}  partition {} offset {}", p.partition, p.offset);
                self.line(&text, &json!({"key": key, "partition": p.partition, "offset": p.offset, "timestamp": at}))
            }
            None => self.line(&format!("{key}  buffered"), &json!({"key": key, "buffered": true})),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Print<'a> = dyn Fn(&mut Output) -> Result<(), Failure> + 'a;

    /// What `print` writes.
    fn printed(format: Format, is_terminal: bool, print: impl Fn(&mut Output) -> Result<(), Failure>) -> String {
        let written = Written::default();
        let mut output = Output { is_terminal, ..Output::new(format, Box::new(written.clone())) };
        print(&mut output).unwrap();
        output.flush().unwrap();
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    const HIDDEN: [char; 8] = ['\u{1b}', '\u{7f}', '\u{9b}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{feff}', '\u{e0041}'];

    fn hidden() -> String {
        HIDDEN.iter().collect()
    }

    /// An entry whose key, value and header have every kind of character that is not printed.
    fn entry() -> v1::Entry {
        let value = format!("{{\"a\":\t\"{}\"}}", hidden().replace('\u{1b}', "\\u001b"));
        let header = v1::Header { key: hidden(), value: Some(hidden().into()) };
        let key = format!("w/t/{}", hidden());
        v1::Entry { key, value: Some(v1::entry::Value::Raw(value.into())), headers: vec![header], ..Default::default() }
    }

    /// Covers C81.
    #[test]
    fn nothing_that_acts_on_a_terminal_is_printed_and_json_stays_equal() {
        let entry = entry();
        let object = json!({"message": hidden()});
        let prints: [&Print<'_>; 4] = [
            &|output| output.entry(&entry),
            &|output| output.line(&hidden(), &object),
            &|output| output.written(&hidden(), None, None),
            &|output| output.written(&hidden(), Some(v1::Position::default()), None),
        ];
        for (i, print) in prints.into_iter().enumerate() {
            for (format, is_terminal) in [(Format::Text, true), (Format::Json, true), (Format::Json, false)] {
                let printed = printed(format, is_terminal, print);
                let line = printed.strip_suffix('\n').unwrap();
                assert!(!line.contains(HIDDEN) && !line.contains(char::is_control), "{i}: {line:?}");
                if format == Format::Json {
                    let found: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(found.to_string().contains(HIDDEN), "{i}: {found}");
                    assert!(i != 0 || found["value"] == json!({"a": hidden()}), "{found}");
                    assert!(i != 0 || found["headers"][0] == json!({"key": hidden(), "value": hidden()}), "{found}");
                }
            }
        }
    }

    /// Covers C65, C81.
    #[test]
    fn an_export_has_values_byte_for_byte_but_not_on_a_terminal() {
        let entry = entry();
        let Some(v1::entry::Value::Raw(value)) = &entry.value else { unreachable!() };
        let file = printed(Format::Json, false, |output| output.export(&Line::of(&entry, false)));
        assert!(file.contains(std::str::from_utf8(value).unwrap()), "{file}");
        assert_eq!(
            file.matches(HIDDEN).count(),
            HIDDEN.len() - 1,
            "those of the value, where one is escaped: {file:?}"
        );
        let terminal = printed(Format::Json, true, |output| output.export(&Line::of(&entry, false)));
        assert!(!terminal.contains(HIDDEN) && terminal.lines().count() == 1, "{terminal:?}");
    }

    /// Covers C81.
    #[test]
    fn raw_bytes_are_exact_but_not_on_a_terminal() {
        let value = format!("{{\n\t\"a\": \"{}\"\n}}\n", hidden());
        assert_eq!(printed(Format::Text, false, |output| output.raw(value.as_bytes())), value);
        let shown = printed(Format::Text, true, |output| output.raw(value.as_bytes()));
        assert!(!shown.contains(HIDDEN) && shown.starts_with("{\n\t\"a\": \"\\u{1b}"), "{shown:?}");
        assert_eq!(printed(Format::Text, true, |output| output.raw(b"a\xffb\r")), "a\u{fffd}b\\r");
    }
}

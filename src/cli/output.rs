//! The output of a command: lines for people on a terminal, JSON Lines in a pipe.

use std::io::{self, BufWriter, IsTerminal, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::json;

use super::{
    failure::Failure,
    format::Format,
    record::{Line, timestamp},
};
use crate::proto::v1;

pub struct Output {
    format: Format,
    to: BufWriter<Box<dyn Write + Send>>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Failed(format!("output can't be written: {error}")),
        }
    }
}

/// Escapes control characters. Text of other people must not move the cursor of a terminal or change its colours.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

impl Output {
    /// Prints to standard output.
    pub fn standard(format: Option<Format>) -> Self {
        let default = if io::stdout().is_terminal() { Format::Text } else { Format::Json };
        Self::new(format.unwrap_or(default), Box::new(io::stdout()))
    }

    pub fn new(format: Format, to: Box<dyn Write + Send>) -> Self {
        Self { format, to: BufWriter::new(to) }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }

    /// Prints `text` for people, or `object` for programs.
    pub fn line(&mut self, text: &str, object: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            Format::Text => writeln!(self.to, "{text}")?,
            Format::Json => self.object(object)?,
        }
        Ok(())
    }

    fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.to, object).map_err(io::Error::from)?;
        Ok(self.to.write_all(b"\n")?)
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.to.write_all(bytes)?)
    }

    /// Prints an entry with its position and time.
    pub fn entry(&mut self, entry: &v1::Entry) -> Result<(), Failure> {
        let line = Line::of(entry, true);
        if self.format == Format::Json {
            return self.object(&line);
        }
        let value = match (&line.value, &line.value_base64) {
            (Some(value), _) => printable(value.get()),
            (None, Some(text)) => format!("base64 {text}"),
            (None, None) => "deleted".to_owned(),
        };
        let key = printable(&entry.key);
        writeln!(
            self.to,
            "{key}  {value}  ({}/{}, {})",
            entry.partition,
            entry.offset,
            line.timestamp.unwrap_or_default()
        )?;
        Ok(())
    }

    /// Prints an entry as `import` reads it.
    pub fn export(&mut self, entry: &v1::Entry) -> Result<(), Failure> {
        self.object(&Line::of(entry, false))
    }

    /// Prints a Snapshot, which proves that the partition was read whole.
    pub fn snapshot(&mut self, s: &v1::Snapshot) -> Result<(), Failure> {
        let text = format!(
            "partition {} is whole: offsets {} to {}, {} entries, {} tombstones, {} records read, {} skipped, \
             {} misplaced",
            s.partition, s.start_offset, s.end_offset, s.entries, s.tombstones, s.records_read, s.skipped, s.misplaced
        );
        let object = json!({"snapshot": {
            "partition": s.partition, "start_offset": s.start_offset, "end_offset": s.end_offset,
            "records_read": s.records_read, "skipped": s.skipped, "misplaced": s.misplaced,
            "entries": s.entries, "tombstones": s.tombstones,
            "resume_token": BASE64_STANDARD.encode(&s.resume_token),
        }});
        self.line(&text, &object)
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
        let shown = printable(key);
        match position {
            Some(p) => {
                let at = at.as_ref().and_then(timestamp);
                let text = format!("{shown}  partition {} offset {}", p.partition, p.offset);
                self.line(&text, &json!({"key": key, "partition": p.partition, "offset": p.offset, "timestamp": at}))
            }
            None => self.line(&format!("{shown}  buffered"), &json!({"key": key, "buffered": true})),
        }
    }
}

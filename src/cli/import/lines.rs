//! The lines of an import, as bytes become text.
//!
//! Promises: each line is counted, and none is held that is longer than the limit. Input in another encoding than UTF-8
//! is one error.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// A longer buffer is given back after its line.
const KEPT_BYTES: usize = 1024 * 1024;

/// How input begins that is no text in UTF-8.
const FOREIGN: [(&[u8], &str); 4] = [
    (b"\xff\xfe", "UTF-16 or UTF-32"),
    (b"\xfe\xff", "UTF-16"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
];
/// No JSON has a NUL byte. In UTF-16 and UTF-32 each bracket and quote has one, so the start of the input shows them.
const NUL_BYTES: &str = "UTF-16, UTF-32 or no text: it has NUL bytes";
const NULS_WITHIN: u64 = 1024;

/// Why reading ends before the end.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("the input is {0}, and must be UTF-8")]
    Encoding(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A line, or why it is no text.
#[derive(Debug, PartialEq, Eq)]
pub struct InputLine<'a> {
    /// From 1.
    pub number: u64,
    pub text: Result<&'a str, String>,
}

/// Reads lines.
pub struct Lines<R> {
    reader: BufReader<R>,
    max_line: usize,
    buffer: Vec<u8>,
    /// Bytes of the line that is read, also those beyond the limit.
    length: usize,
    number: u64,
    bytes: u64,
    /// Whether a line with text was returned.
    begun: bool,
    /// Whether `buffer` was returned.
    is_complete: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub fn new(reader: R, max_line: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 20, reader),
            max_line,
            buffer: Vec::new(),
            length: 0,
            number: 0,
            bytes: 0,
            begun: false,
            is_complete: false,
        }
    }

    /// Lines so far.
    pub fn count(&self) -> u64 {
        self.number
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line; `None` at the end. Cancel safe: a line that was read in part is read on.
    pub async fn next(&mut self) -> Result<Option<InputLine<'_>>, InputError> {
        if self.is_complete {
            (self.length, self.is_complete) = (0, false);
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BYTES);
        }
        loop {
            let available = self.reader.fill_buf().await?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let (part, used) = match end {
                Some(at) => (&available[..at], at + 1),
                None => (available, available.len()),
            };
            let is_end = available.is_empty();
            let kept = part.len().min(self.max_line - self.buffer.len());
            self.buffer.extend_from_slice(&part[..kept]);
            let start = part.len().min(NULS_WITHIN.saturating_sub(self.bytes) as usize);
            if part[..start].contains(&0) {
                return Err(InputError::Encoding(self.foreign().unwrap_or(NUL_BYTES)));
            }
            self.length += part.len();
            self.bytes += used as u64;
            self.reader.consume(used);
            if is_end && self.length == 0 {
                return Ok(None);
            }
            if is_end || end.is_some() {
                break;
            }
        }
        (self.number, self.is_complete) = (self.number + 1, true);
        if let Some(what) = self.foreign() {
            return Err(InputError::Encoding(what));
        }
        self.begun |= !self.buffer.trim_ascii().is_empty();
        Ok(Some(InputLine { number: self.number, text: self.text() }))
    }

    /// What the first text is, if its first bytes say that it is not UTF-8.
    fn foreign(&self) -> Option<&'static str> {
        let of_start = FOREIGN.iter().find(|(start, _)| self.buffer.starts_with(start)).filter(|_| !self.begun);
        of_start.map(|(_, what)| *what)
    }

    fn text(&self) -> Result<&str, String> {
        if self.length > self.max_line {
            return Err(format!("the line has {} bytes, at most {} are read", self.length, self.max_line));
        }
        let text = std::str::from_utf8(&self.buffer).map_err(|error| error.to_string())?;
        // Files that begin with a byte order mark may have been joined, and a tool may have added another mark.
        Ok(text.trim_start_matches(|c: char| c == '\u{feff}' || c.is_ascii_whitespace()).trim_ascii_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of an input that comes in parts of any length, and how many bytes were counted.
    async fn lines(input: &[u8], part: usize) -> (Vec<Result<String, String>>, Result<u64, String>) {
        let (mut writer, reader) = tokio::io::duplex(part);
        let input = input.to_vec();
        let length = input.len() as u64;
        let writing = tokio::spawn(async move {
            // The reader may end early.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, &input).await;
        });
        let (mut lines, mut found) = (Lines::new(reader, 16), Vec::new());
        let ended = loop {
            match lines.next().await {
                Ok(Some(line)) => {
                    let text = line.text.map(ToOwned::to_owned);
                    found.push(text);
                    assert_eq!(line.number, found.len() as u64);
                }
                Ok(None) => break Ok(lines.count()),
                Err(error) => break Err(error.to_string()),
            }
        };
        assert!(ended.is_err() || lines.bytes() == length, "{} of {length} bytes", lines.bytes());
        drop(lines);
        writing.await.unwrap();
        (found, ended)
    }

    fn texts(texts: &[&str]) -> Vec<Result<String, String>> {
        texts.iter().map(|text| Ok((*text).to_owned())).collect()
    }

    /// Covers C65.
    #[tokio::test]
    async fn each_line_is_counted_whatever_its_end_and_its_length() {
        for part in [1, 3, 100] {
            let (found, ended) = lines(b"{}\r\n\n  a\nlast", part).await;
            assert_eq!((found, ended), (texts(&["{}", "", "a", "last"]), Ok(4)));
            let (found, ended) = lines(b"1234567890123456\n12345678901234567890\nb\n\xff\nc", part).await;
            assert_eq!((ended, found[0].clone()), (Ok(5), Ok("1234567890123456".to_owned())));
            assert_eq!(found[1], Err("the line has 20 bytes, at most 16 are read".to_owned()));
            assert_eq!((&found[2], &found[4]), (&Ok("b".to_owned()), &Ok("c".to_owned())));
            assert!(found[3].as_ref().unwrap_err().contains("utf-8"), "{found:?}");
            assert_eq!(lines(b"", part).await, (vec![], Ok(0)));
        }
    }

    /// Covers C65.
    #[tokio::test]
    async fn a_byte_order_mark_is_accepted_at_the_start_of_each_joined_file() {
        let (found, _) = lines("\u{feff}{}\n\u{feff}[]\n".as_bytes(), 2).await;
        assert_eq!(found, texts(&["{}", "[]"]));
        // Several of them, with blanks between.
        let (found, _) = lines("\u{feff}\u{feff}{}\n \u{feff}[]\n\t\u{feff} \u{feff}1\r\n".as_bytes(), 2).await;
        assert_eq!(found, texts(&["{}", "[]", "1"]));
    }

    /// Covers C65.
    #[tokio::test]
    async fn input_in_another_encoding_is_one_error() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
        let text = "{\"key\":1}\n{}\n{}\n";
        let with_mark = format!("\u{feff}{text}");
        let utf32: Vec<_> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        for input in [
            utf16(&with_mark, u16::to_le_bytes),
            utf16(&with_mark, u16::to_be_bytes),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
            utf16(&format!("\n\n{text}"), u16::to_be_bytes),
            utf16(&format!("\r\n{text}"), u16::to_le_bytes),
            utf16(&format!(" {text}"), u16::to_le_bytes),
            utf16(&format!("[1]\n{text}"), u16::to_le_bytes),
            utf16(&format!("\t\n{text}"), u16::to_be_bytes),
            utf32,
        ] {
            let (found, ended) = lines(&input, 5).await;
            let error = ended.unwrap_err();
            assert!(error.contains("UTF-16") && error.contains("UTF-8"), "{error}");
            assert!(found.iter().all(|line| line.as_deref().is_ok_and(str::is_empty)), "{found:?}");
        }
        assert!(lines(b"\x1f\x8b\x08\0\n", 5).await.1.unwrap_err().contains("gzip"));
        assert!(lines(b"\x28\xb5\x2f\xfd\n", 5).await.1.unwrap_err().contains("zstd"));
        // Its header has NUL bytes, too.
        assert!(lines(b"\x1f\x8b\x08\0\0\0\0\0", 1).await.1.unwrap_err().contains("gzip"));
        // After a line in UTF-8.
        let joined = [b"{}\n".to_vec(), utf16(&with_mark, u16::to_le_bytes)].concat();
        assert!(lines(&joined, 5).await.1.unwrap_err().contains("UTF-16"));
        // Later such a line is one bad line.
        let (found, ended) = lines(&[&b"{}\n".repeat(400), &b"\0\n{}\n"[..]].concat(), 5).await;
        assert_eq!((ended, found.len()), (Ok(402), 402));
    }
}

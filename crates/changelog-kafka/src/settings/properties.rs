//! The text of properties: a file, a variable, or the value of a flag.
//!
//! A line is `name=value`. Blank lines and lines that begin with `#` or `!` are skipped, as in a properties file of
//! Java. A backslash at the end of a line continues it, and two stand for one. A value that begins with `-----BEGIN`
//! goes on to its last `-----END` line, so a PEM file can be pasted as it is.
//!
//! Promises that no error quotes the text, because it may hold a secret. Does not: know which properties there are,
//! except to notice that one was continued by mistake.

use std::str::Lines;

use super::{names::Property, pem};

/// What is wrong with the text of properties. It never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PropertiesError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has no `=`, or nothing before it.
    #[error("must be name=value")]
    NoProperty,
    /// It has no `=`, and the property before it has no value.
    #[error("must be name=value; the property before it has no value, which must stand on the same line")]
    ValueOnNextLine,
    /// It is text in a PEM value, or next to one.
    #[error("is no PEM: leave such lines out, as openssl x509 -in FILE and openssl pkey -in FILE do")]
    TextBesidePem,
    /// It ends in a backslash, and it is the last one.
    #[error("ends in a backslash, which continues it, but no line follows: write two if the value ends in one")]
    NothingFollows,
    /// It ends in a backslash, and the next line is another property.
    #[error("ends in a backslash, which continues it, but a property follows: write two if the value ends in one")]
    PropertyFollows,
    /// A PEM block begins there, and it has no end.
    #[error("the PEM block that begins here has no line -----END")]
    NoPemEnd,
    /// A PEM block begins there, and what follows is none.
    #[error("must be PEM: -----BEGIN with a label, lines of base64, and -----END with the same label")]
    NoPem,
    /// It has a NUL byte, and librdkafka's texts end at one.
    #[error("has a NUL byte")]
    Nul,
}

/// Parses lines of `name=value`. The head of this module's documentation describes the format.
///
/// White space around names and values does not count. Of two lines with the same name, the later one counts.
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, PropertiesError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = PhysicalLines { lines: text.lines(), number: 0 };
    let mut found = Vec::<(String, String)>::new();
    while let Some(first) = lines.next() {
        let line = lines.number;
        let wrong = |problem| PropertiesError { line, problem };
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', '!']) {
            continue;
        }
        if trimmed.contains('\0') {
            return Err(wrong(Problem::Nul));
        }
        // A PEM block may begin on the line after its name, and a second block may follow.
        let is_unfinished = |value: &&mut String| pem::begins(trimmed) && (value.is_empty() || pem::begins(value));
        if let Some(value) = found.last_mut().map(|(_, value)| value).filter(is_unfinished) {
            let block = lines.pem(trimmed)?;
            *value = pem::normalized(&format!("{value}\n{block}")).ok_or_else(|| wrong(Problem::NoPem))?;
            continue;
        }
        let (is_pem, is_empty) =
            found.last().map_or((false, false), |(name, value)| (is_pem_property(name), value.is_empty()));
        if is_pem && is_text_beside_pem(trimmed) {
            return Err(wrong(Problem::TextBesidePem));
        }
        let no_property = || wrong(if is_empty { Problem::ValueOnNextLine } else { Problem::NoProperty });
        let (name, value) = trimmed.split_once('=').ok_or_else(no_property)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || pem::begins(name) {
            return Err(wrong(Problem::NoProperty));
        }
        let value = if pem::begins(value) { value.to_owned() } else { lines.continued(value)? };
        if is_pem_property(name) && is_text_beside_pem(&value) {
            return Err(wrong(Problem::TextBesidePem));
        }
        let value = if pem::begins(&value) {
            pem::normalized(&lines.pem(&value)?).ok_or_else(|| wrong(Problem::NoPem))?
        } else {
            value
        };
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

fn is_pem_property(name: &str) -> bool {
    Property::named(name).is_some_and(|property| property.name().rsplit('.').next() == Some("pem"))
}

/// Whether it is a line that OpenSSL writes for people, next to PEM: of pkcs12, x509, s_client and crl.
fn is_text_beside_pem(line: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "bag attributes",
        "key attributes",
        "localkeyid",
        "friendlyname",
        "subject",
        "issuer",
        "certificate:",
        "certificate chain",
        "private-key:",
        "s:",
        "i:",
        "certificate revocation list",
    ];
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').to_ascii_lowercase();
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
}

struct PhysicalLines<'a> {
    lines: Lines<'a>,
    /// Of the last line that was taken.
    number: usize,
}

impl<'a> PhysicalLines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.number += 1;
        Some(line)
    }

    fn wrong(&self, problem: Problem) -> PropertiesError {
        PropertiesError { line: self.number, problem }
    }

    /// A value that begins like this, with the lines that continue it.
    fn continued(&mut self, value: &str) -> Result<String, PropertiesError> {
        let mut whole = String::new();
        let mut part = value;
        loop {
            let kept = part.trim_end_matches('\\');
            let backslashes = part.len() - kept.len();
            whole.push_str(kept);
            whole.extend(std::iter::repeat_n('\\', backslashes / 2));
            if backslashes.is_multiple_of(2) {
                return Ok(whole.trim().to_owned());
            }
            let at = self.number;
            let next = self.next().ok_or_else(|| self.wrong(Problem::NothingFollows))?.trim();
            if next.contains('\0') {
                return Err(self.wrong(Problem::Nul));
            }
            if next.split_once('=').is_some_and(|(name, _)| Property::named(name.trim()).is_some()) {
                return Err(PropertiesError { line: at, problem: Problem::PropertyFollows });
            }
            if pem::begins(next) {
                return Ok(whole + next);
            }
            part = next;
        }
    }

    /// The text that begins like this, to the end of its PEM block.
    fn pem(&mut self, begin: &str) -> Result<String, PropertiesError> {
        let first = self.number;
        let mut block = begin.to_owned();
        let mut open = pem::is_open_after(begin, false);
        while open {
            let Some(next) = self.next() else {
                return Err(PropertiesError { line: first, problem: Problem::NoPemEnd });
            };
            if next.contains('\0') {
                return Err(self.wrong(Problem::Nul));
            }
            open = pem::is_open_after(next, open);
            block.push('\n');
            block.push_str(next);
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests;

//! Escapes foreign text for messages and logs.
//!
//! Promises: text can not forge a line or change how a line reads, and takes at most 80 characters.

use std::fmt;

/// Shows text in messages: quoted, control and format characters escaped, cut after 80 characters.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 80;
        f.write_str("\"")?;
        for c in self.0.chars().take(LIMIT) {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // Bidirectional and zero-width characters change how a line reads.
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    write!(f, "{}", c.escape_unicode())?;
                }
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str(if self.0.chars().nth(LIMIT).is_some() { "…\"" } else { "\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    /// Covers C3, S12, B5.
    #[test]
    fn control_and_bidirectional_characters_are_escaped_and_long_text_is_cut() {
        assert_eq!(Escaped("a\nb").to_string(), r#""a\nb""#);
        assert_eq!(Escaped("x\u{202e}y\u{85}").to_string(), r#""x\u{202e}y\u{85}""#);
        assert_eq!(Escaped("say \"hi\"").to_string(), r#""say \"hi\"""#);
        let long = Escaped(&"é".repeat(81)).to_string();
        assert!(long.ends_with("…\"") && long.chars().count() == 83);
    }
}

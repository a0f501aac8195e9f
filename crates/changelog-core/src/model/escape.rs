//! Escapes foreign text for messages, logs, terminals and JSON.
//!
//! Promises: text can not forge a line, move a cursor or change how a line reads. Control characters, bidirectional
//! controls and characters that are not seen are escaped. JSON stays equal as JSON.

use std::fmt::{self, Write};

/// Characters that have no form of their own: Unicode's format characters, its Default_Ignorable_Code_Point, its
/// noncharacters, line and paragraph separators, and three blanks that Unicode has as symbols. Format characters that
/// show as a sign of their own (as U+06DD does) are left out. White space is not here.
const INVISIBLE: [(char, char); 22] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    // The Braille pattern without dots.
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    // Noncharacters. The others are the last two of each plane.
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{13430}', '\u{1343f}'),
    // The filler of the Khitan small script.
    ('\u{16fe4}', '\u{16fe4}'),
    ('\u{1bca0}', '\u{1bca3}'),
    // The musical symbol without a head.
    ('\u{1d159}', '\u{1d159}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character is not seen, although it is neither white space nor a control character: U+200B, U+00AD, U+2800.
pub fn is_invisible(c: char) -> bool {
    let is_last_of_plane = c as u32 & 0xfffe == 0xfffe;
    c as u32 >= 0xad && (is_last_of_plane || INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&c)))
}

/// Whether a character may not reach a terminal as it is.
fn is_escaped(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Writes `text` with `escape` in place of each character that is escaped.
fn write_escaped(
    text: &str,
    f: &mut fmt::Formatter<'_>,
    escape: impl Fn(char, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return f.write_str(text);
    }
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
        f.write_str(&rest[..at])?;
        escape(c, f)?;
        rest = &rest[at + c.len_utf8()..];
    }
    f.write_str(rest)
}

/// `\n`, `\t`, `\u{202e}`.
fn write_escape(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", c.escape_default())
}

/// Shows text in messages: quoted, escaped, cut after 80 characters.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 80;
        f.write_char('"')?;
        for c in self.0.chars().take(LIMIT) {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if is_escaped(c) => write_escape(c, f)?,
                c => f.write_char(c)?,
            }
        }
        f.write_str(if self.0.chars().nth(LIMIT).is_some() { "…\"" } else { "\"" })
    }
}

/// Shows all of a text to people: escaped, on one line, neither quoted nor cut.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(self.0, f, write_escape)
    }
}

/// Shows JSON, or a part of a string of it: escaped as `\u202e`, on one line, and equal as JSON.
pub struct PrintableJson<'a>(pub &'a str);

impl fmt::Display for PrintableJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(self.0, f, |c, f| match c {
            // In JSON these stand between tokens only.
            '\t' | '\n' | '\r' => f.write_char(' '),
            c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use regex_syntax::hir::{Class, HirKind};

    use super::*;

    /// The characters of a class as Unicode's tables have them.
    fn class(pattern: &str) -> BTreeSet<char> {
        let parsed = regex_syntax::parse(pattern).unwrap();
        let HirKind::Class(Class::Unicode(class)) = parsed.kind() else { panic!("{pattern} is no class") };
        class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect()
    }

    /// Covers C81.
    #[test]
    fn invisible_characters_are_those_of_unicode() {
        let unicode = class(r"[\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}]");
        let shown = class(r"\p{Prepended_Concatenation_Mark}");
        let own = ['\u{2800}', '\u{16fe4}', '\u{1d159}'];
        let expected: BTreeSet<_> = unicode.difference(&shown).copied().chain(own).collect();
        let found: BTreeSet<_> = ('\0'..=char::MAX).filter(|c| is_invisible(*c)).collect();
        let shown = |of: &BTreeSet<char>, other: &BTreeSet<char>| {
            of.difference(other).map(|c| format!("{:04x}", u32::from(*c))).collect::<Vec<_>>()
        };
        assert_eq!((shown(&expected, &found), shown(&found, &expected)), (vec![], vec![]), "missing, and too many");
    }

    /// Covers C3, C81, S12, B5.
    #[test]
    fn control_and_bidirectional_characters_are_escaped_and_long_text_is_cut() {
        assert_eq!(Escaped("a\nb").to_string(), r#""a\nb""#);
        assert_eq!(Escaped("x\u{202e}y\u{85}").to_string(), r#""x\u{202e}y\u{85}""#);
        assert_eq!(Escaped("a\u{ad}b\u{2800}\u{e0041}").to_string(), r#""a\u{ad}b\u{2800}\u{e0041}""#);
        assert_eq!(Escaped("say \"hi\"").to_string(), r#""say \"hi\"""#);
        let long = Escaped(&"é".repeat(81)).to_string();
        assert!(long.ends_with("…\"") && long.chars().count() == 83);
    }

    /// Covers C81.
    #[test]
    fn text_for_people_and_json_keep_what_is_seen() {
        let text = "Zürich 東京 🦀 e\u{301} \"\\ \u{6dd}";
        assert_eq!((Printable(text).to_string(), PrintableJson(text).to_string()), (text.to_owned(), text.to_owned()));
        assert_eq!(Printable("a\u{1b}[2J\r\u{9b}\u{200b}b").to_string(), r"a\u{1b}[2J\r\u{9b}\u{200b}b");
        assert_eq!(PrintableJson("{\t\"a\":\"\u{7f}\u{e0041}\"}\n").to_string(), "{ \"a\":\"\\u007f\\udb40\\udc41\"} ");
    }

    proptest! {
        /// Covers C81.
        #[test]
        fn no_escaped_text_has_a_control_or_invisible_character_and_json_stays_equal(
            text in prop_oneof![
                any::<String>(),
                "[\u{0}-\u{ff}\u{2000}-\u{206f}\u{fe00}-\u{feff}\u{e0000}-\u{e0fff}]{0,8}",
            ],
        ) {
            for shown in [Escaped(&text).to_string(), Printable(&text).to_string(), PrintableJson(&text).to_string()] {
                prop_assert!(!shown.chars().any(is_escaped), "{}", shown);
            }
            let json = serde_json::to_string(&[&text]).unwrap();
            let shown = PrintableJson(&json).to_string();
            prop_assert!(!shown.chars().any(is_escaped), "{}", shown);
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
        }
    }
}

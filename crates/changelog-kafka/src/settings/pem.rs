//! PEM in the value of a property, in the forms in which people write it there.
//!
//! OpenSSL wants each label on a line of its own, and lines of base64. Here the lines may also be joined by blanks (as
//! Java's properties files do), by `\n` as two characters, or end in a backslash. The value may stand in quotes.

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// The length of a line of base64 (RFC 7468).
const WIDTH: usize = 64;
const QUOTES: [char; 2] = ['"', '\''];

/// Whether a value is PEM, or its first part. A value in quotes counts.
pub fn begins(value: &str) -> bool {
    value.trim_start_matches(QUOTES).starts_with(BEGIN)
}

/// Whether there is PEM anywhere in a text.
pub fn is_in(text: &str) -> bool {
    text.contains("-----BEGIN")
}

/// Whether a block is open after this line. `open` is whether one was open before it.
pub fn is_open_after(line: &str, open: bool) -> bool {
    match (line.rfind(BEGIN), line.rfind(END)) {
        (Some(begin), Some(end)) => begin > end,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => open,
    }
}

/// The blocks as OpenSSL reads them, or `None` if the value is something else.
pub fn normalized(value: &str) -> Option<String> {
    let value = value.trim().trim_matches(QUOTES).replace("\\r", "").replace("\\n", "\n");
    let between = |c: char| c.is_whitespace() || c == '\\';
    let (mut rest, mut lines) = (value.trim_matches(between), Vec::new());
    while !rest.is_empty() {
        let (label, after) = rest.strip_prefix(BEGIN)?.split_once(DASHES)?;
        let is_label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
        let (body, after) = after.split_once(&format!("{END}{label}{DASHES}"))?;
        lines.push(format!("{BEGIN}{label}{DASHES}"));
        if !label.chars().all(is_label) || !push_body(body, &mut lines) {
            return None;
        }
        lines.push(format!("{END}{label}{DASHES}"));
        rest = after.trim_start_matches(between);
    }
    Some(lines.join("\n"))
}

/// Whether it is headers (as in `Proc-Type: 4,ENCRYPTED`) and base64.
fn push_body(body: &str, lines: &mut Vec<String>) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let is_header = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | ',' | '.' | ' ');
    let (mut base64, mut has_headers) = (String::new(), false);
    for line in body.lines() {
        let line = line.trim().trim_end_matches('\\').trim_end();
        if line.contains(':') && base64.is_empty() && line.chars().all(is_header) {
            has_headers = true;
            lines.push(line.to_owned());
        } else {
            base64.extend(line.chars().filter(|c| !c.is_whitespace()));
        }
    }
    if has_headers {
        lines.push(String::new());
    }
    // Each character is one byte if all are of base64.
    let is_whole = !base64.is_empty() && base64.chars().all(is_base64);
    lines.extend(base64.as_bytes().chunks(WIDTH).map(|chunk| String::from_utf8_lossy(chunk).into_owned()));
    is_whole
}

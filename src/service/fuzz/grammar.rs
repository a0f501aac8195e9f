//! The grammar of JSON (RFC 8259) with at most 127 levels, written again without a library. It accepts escapes of
//! unpaired surrogates and numbers beyond a double, as the RFC does.

/// Whether the bytes are one document.
pub fn is_json(bytes: &[u8]) -> bool {
    let document = std::str::from_utf8(bytes).ok().and_then(|_| value(space(bytes), 127));
    document.is_some_and(|rest| space(rest).is_empty())
}

/// What follows a value, or `None` if there is no value.
fn value(bytes: &[u8], levels: usize) -> Option<&[u8]> {
    let after = |word: &[u8]| bytes.strip_prefix(word);
    match bytes.first()? {
        b'n' => after(b"null"),
        b't' => after(b"true"),
        b'f' => after(b"false"),
        b'"' => string(bytes),
        b'[' => items(&bytes[1..], b"]", |item| value(item, levels.checked_sub(1)?), levels),
        b'{' => {
            let member = |name| value(space(space(string(name)?).strip_prefix(b":")?), levels.checked_sub(1)?);
            items(&bytes[1..], b"}", member, levels)
        }
        _ => number(bytes),
    }
}

/// What follows a list with this end.
fn items<'a>(
    bytes: &'a [u8],
    end: &[u8],
    item: impl Fn(&'a [u8]) -> Option<&'a [u8]>,
    levels: usize,
) -> Option<&'a [u8]> {
    let mut rest = space(bytes);
    levels.checked_sub(1)?;
    if let Some(rest) = rest.strip_prefix(end) {
        return Some(rest);
    }
    loop {
        rest = space(item(space(rest))?);
        match rest.strip_prefix(b",") {
            Some(more) => rest = more,
            None => return rest.strip_prefix(end),
        }
    }
}

fn string(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => rest,
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
            [b'\\' | 0..=0x1f, ..] | [] => return None,
            [_, rest @ ..] => rest,
        }
    }
}

fn number(bytes: &[u8]) -> Option<&[u8]> {
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let mut rest = unsigned.strip_prefix(b"0").map_or_else(|| digits(unsigned), Some)?;
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = digits(fraction)?;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        rest = digits(exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent))?;
    }
    Some(rest)
}

/// What follows one digit or more.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &bytes[count..])
}

fn space(bytes: &[u8]) -> &[u8] {
    let count = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    &bytes[count..]
}

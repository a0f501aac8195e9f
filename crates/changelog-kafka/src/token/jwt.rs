//! The claims of a JWT that decide when it is renewed.
//!
//! Promises that any text is claims, no JWT, or an error in words that has no part of the text. Does not check the
//! signature.

use std::time::{Duration, SystemTime};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

/// What is read of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub expires_at: Option<SystemTime>,
    /// Printable ASCII, cut after some characters.
    pub subject: Option<String>,
}

/// Some issuers pad their parts.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// The end of the year 9999. A later time can't be shown.
const MAX_SECONDS: f64 = 253_402_300_799.0;
const MAX_SUBJECT: usize = 100;

/// The claims of a JWT. `None` for a token of another form, whose contents only its issuer knows.
pub fn claims(token: &str) -> Result<Option<Claims>, String> {
    if !starts_like_json(token) {
        return Ok(None);
    }
    let parts: Vec<_> = token.split('.').take(6).collect();
    let [header, payload, signature] = parts[..] else {
        // Five parts are an encrypted JWT, which only the broker can read.
        let is_encrypted = parts.len() == 5;
        let cut_off = format!("is a JWT that is cut off or damaged: it has {} of 3 parts", parts.len());
        return if is_encrypted { Ok(None) } else { Err(cut_off) };
    };
    let header = object(header).ok_or("is a damaged JWT: its header is no JSON object in base64url")?;
    let is_unsigned = header.get("alg").and_then(Value::as_str).is_some_and(|alg| alg.eq_ignore_ascii_case("none"));
    if signature.is_empty() && !is_unsigned {
        return Err("is a JWT that is cut off: it has no signature".to_owned());
    }
    let payload = object(payload).ok_or("is a damaged JWT: its payload is no JSON object in base64url")?;
    let expires_at = payload.get("exp").filter(|exp| !exp.is_null()).map(time).transpose()?;
    let subject = payload.get("sub").and_then(Value::as_str).map(|sub| {
        sub.chars().take(MAX_SUBJECT).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
    });
    Ok(Some(Claims { expires_at, subject }))
}

/// Whether the first part is the header of a JWT, or its beginning: text that begins with `{`. A random token may begin
/// so, but does not go on as text.
fn starts_like_json(token: &str) -> bool {
    let header = token.split('.').next().filter(|header| header.is_ascii()).unwrap_or_default();
    // A single character at the end, behind groups of four, is no whole byte.
    let whole = if header.len() % 4 == 1 { &header[..header.len() - 1] } else { header };
    let is_text = |bytes: &[u8]| bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    BASE64.decode(whole).is_ok_and(|bytes| bytes.starts_with(b"{") && is_text(&bytes))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64.decode(part).ok()?).ok()
}

/// A NumericDate (RFC 7519): seconds, also with a fraction.
fn time(exp: &Value) -> Result<SystemTime, String> {
    let seconds = exp.as_f64().filter(|seconds| seconds.is_finite()).ok_or("is a JWT whose exp is no number")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS)))
}

#[cfg(test)]
mod tests;

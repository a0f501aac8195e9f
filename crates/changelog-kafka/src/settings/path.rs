//! What stands in the place of a path.
//!
//! Promises that a key, a password or a text of properties is never shown as a path.

use super::{
    pem,
    secrets::{is_properties, shown_text},
};

/// The longest name of a file, and the longest path (NAME_MAX and PATH_MAX of Linux).
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4095;

/// A path, if it may be shown.
pub fn shown_path(path: &str) -> Option<&str> {
    let is_shown = !path.contains(['=', '\n', '\r']) && is_short(path) && !is_like_base64(path) && !is_like_jwt(path);
    Some(path).filter(|_| is_shown).and_then(shown_text)
}

/// A path in quotes, or other words.
pub fn quoted_path(path: &str) -> String {
    let shown = shown_path(path).map(|path| format!("{path:?}"));
    shown.unwrap_or_else(|| "a path that is not shown, as it may be a secret,".to_owned())
}

/// What stands in the place of a path that can't be opened, if that is something else.
pub fn instead_of_path(text: &str) -> Option<&'static str> {
    if pem::is_in(text) {
        Some("holds PEM, not a path")
    } else if is_properties(text) || text.contains(['\n', '\r']) && text.contains('=') {
        Some("is a text of properties, not a path")
    } else if text.contains(['\n', '\r']) {
        Some("has several lines, so it is no path")
    } else if is_like_base64(text) {
        Some("is base64, as in a key, and not a path")
    } else if is_like_jwt(text) {
        Some("is a token, not a path")
    } else if !is_short(text) {
        Some("is too long for a path")
    } else {
        None
    }
}

fn is_short(path: &str) -> bool {
    path.len() <= MAX_PATH && path.split('/').all(|name| name.len() <= MAX_NAME)
}

/// Whether it may be a line of a key. Most paths that are so long have a dot or a hyphen, or begin with a slash.
fn is_like_base64(text: &str) -> bool {
    const LEAST: usize = 40;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let has_sign = text.contains(['+', '=']);
    text.len() >= LEAST && text.chars().all(is_base64) && (has_sign || !text.starts_with('/'))
}

/// A JWT begins with a JSON object in base64 (RFC 7519).
fn is_like_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE64: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0123456789abcdef/+";

    /// Covers S12.
    #[test]
    fn a_secret_in_the_place_of_a_path_is_named_and_not_shown() {
        let long = "x".repeat(256);
        for (text, what) in [
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "PEM"),
            ("-----BEGIN PRIVATE KEY-----", "PEM"),
            ("/etc/-----BEGIN PRIVATE KEY-----", "PEM"),
            ("sasl.username=u\nsasl.password=hunter2", "properties"),
            ("sasl.password=hunter2", "properties"),
            ("sasl.pasword = hunter2", "properties"),
            ("# a comment\nmy.own=hunter2", "properties"),
            ("hunter2\nhunter3", "several lines"),
            (BASE64, "base64"),
            (&BASE64[..48], "base64"),
            ("q8x3wAbCdEfq8x3wAbCdEfq8x3wAbCdEfq8x3wAbCdEf==", "base64"),
            ("/8x3wAbCdEfq8x3wAbCdEfq8x3wAbCdEfq8x3wAbCdEf==", "base64"),
            (&format!("eyJhbGci.{long}"), "too long"),
            ("eyJhbGci.eyJzdWIi.hunter2", "token"),
            (&"a.b/".repeat(1024), "too long"),
        ] {
            let instead = instead_of_path(text).unwrap_or_default();
            assert!(instead.contains(what), "{text:?}: {instead}");
            assert!(quoted_path(text).contains("not shown"), "{text:?}");
        }
        for may_be_secret in ["/a=b/c", "hunter2=", "https://user:hunter2@host/key"] {
            assert!(quoted_path(may_be_secret).contains("not shown"), "{may_be_secret}");
        }
    }

    /// Covers S11.
    #[test]
    fn a_path_is_shown() {
        let deep = "/etc/kubernetes/secrets/kafka/client/certificates/key".to_owned();
        for path in ["/etc/ssl/ca.pem", "key.pem", "./x", "../a b/ü", &deep, &format!("/{}", "x".repeat(255)), "C:\\k"]
        {
            assert_eq!(quoted_path(path), format!("{path:?}"));
            assert_eq!(instead_of_path(path), None);
        }
    }
}

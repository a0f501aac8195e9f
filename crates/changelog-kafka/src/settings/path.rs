//! What stands in the place of a path.
//!
//! Promises that a key, a token, a password or a text of properties is not shown as a path. A password that has
//! only small letters looks like a name, and is shown.

use super::{
    pem,
    secrets::{is_properties, shown_text},
};

/// The longest name of a file, and the longest path (NAME_MAX and PATH_MAX of Linux).
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4095;

/// A path, if it may be shown.
pub fn shown_path(path: &str) -> Option<&str> {
    let is_path = is_short(path) && !is_like_base64(path) && !is_like_jwt(path) && !may_be_secret(path);
    let is_shown = is_path && !path.contains(['=', '\n', '\r']);
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
    } else if is_like_jwt(text) || is_like_token(text) {
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

/// The shortest text that is taken for a key or a token. Names of files are shorter, or have an ending.
const LEAST: usize = 40;

/// Whether it may be a line of a key. Most paths that are so long have a dot or a hyphen, or begin with a slash.
fn is_like_base64(text: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let has_sign = text.contains(['+', '=']);
    text.len() >= LEAST && text.chars().all(is_base64) && (has_sign || !text.starts_with('/'))
}

/// A JWT begins with a JSON object in base64 (RFC 7519).
fn is_like_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() == 2
}

/// Endings of the names of files. A token has none of them.
const ENDINGS: &str = "cer cert cfg conf crl crt der jks json jwt key p12 pem pfx properties token txt";

/// Whether it may be a token or a password. A text that begins with a directory is a path. Else only a name with an
/// ending, or of words, is shown.
fn may_be_secret(text: &str) -> bool {
    let begins_with_directory = ["/", "./", "../", "~/"].iter().any(|start| text.starts_with(start));
    let has_ending = text.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.split(' ').any(|known| known == ending));
    let is_words = text.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '_' | '.' | '/'));
    !begins_with_directory && !has_ending && !is_words
}

/// Whether it is an opaque token (RFC 6750, section 2.1). Base64 for URLs has hyphens and underscores.
fn is_like_token(text: &str) -> bool {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    let kinds: [fn(&char) -> bool; 3] = [char::is_ascii_digit, char::is_ascii_lowercase, char::is_ascii_uppercase];
    let is_mixed = || kinds.iter().all(|is_kind| text.chars().any(|c| is_kind(&c)));
    text.len() >= LEAST && text.chars().all(is_of_token) && is_mixed() && may_be_secret(text)
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
            ("ya29.a0AfB_byCdEfGhIjKlMnOpQrStUvWxYz0123456789-HUNTER2", "token"),
            ("abc_16C7e42F292c6912E7710c838347Ae178B4a", "token"),
            ("xyz-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy", "token"),
            ("0.AXcAq8x3wAbCdEf~q8x3wAbCdEfq8x3wAbCdEf.q8x3wAbCdEf", "token"),
            ("tok.CAESIJlWh-q8x3wAbCdEfq8x3wAbCdEfq8x3wAbCdEfGh4KHGh2cy4", "token"),
            ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "base64"),
            (&"a.b/".repeat(1024), "too long"),
        ] {
            let instead = instead_of_path(text).unwrap_or_default();
            assert!(instead.contains(what), "{text:?}: {instead}");
            assert!(quoted_path(text).contains("not shown"), "{text:?}");
        }
        for may_be_secret in [
            "/a=b/c",
            "hunter2=",
            "https://user:hunter2@host/key",
            "https://host/key?code=hunter2",
            "hunter2",
            "Pass word!",
            // Tokens of RFC 6749 and RFC 6750, a UUID, and shorter ones.
            "2YotnFZFEjr1zCsicMWpAA",
            "mF_9.B5f-4.1JqM",
            "s.zL5q9XKcDtv1",
            "7b2c1d34-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
            "ya29.a0AfB_byC",
            "q8x3/AbCdEf",
        ] {
            assert!(quoted_path(may_be_secret).contains("not shown"), "{may_be_secret}");
        }
    }

    /// Covers S11.
    #[test]
    fn a_path_is_shown() {
        let deep = "/etc/kubernetes/secrets/kafka/client/certificates/key".to_owned();
        for path in [
            "/etc/ssl/ca.pem",
            "key.pem",
            "./x",
            "../a b/ü",
            &deep,
            &format!("/{}", "x".repeat(255)),
            "token",
            "client-key",
            "certificates/ca",
            "Kafka2.pem",
            "kafka-2.properties",
            "certificates/Company_Kafka_Client-2_Certificate_of_2031.crt",
            "./Token1",
            "~/kafka2",
            "/var/run/secrets/kafka/..2026_11_27_06_00_00.123456789/token",
            "/var/lib/kubelet/pods/7b2c1d34-5e6f-4a7b-8c9d-0e1f2a3b4c5d/volumes/token",
        ] {
            assert_eq!(quoted_path(path), format!("{path:?}"));
            assert_eq!(instead_of_path(path), None);
        }
    }
}

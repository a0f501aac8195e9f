//! Which texts of properties may be shown, in errors, in `changelogd config` and in debug output.
//!
//! Promises that no value is shown whose property is secret or unknown, and no name that may be a line of a key.

use changelog_core::rule::{Rule, holds};

use super::names::Property;

/// Properties whose values must not be shown: librdkafka's own list (rdkafka_conf.c, `_RK_SENSITIVE`), and ours. A file
/// of certificates often has the key, too.
const SECRETS: [&str; 18] = [
    "https.ca.pem",
    "sasl.jaas.config",
    "sasl.kerberos.kinit.cmd",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl_certificate",
    "ssl_key",
];

/// What makes a name secret that is in no list of ours.
const HINTS: [&str; 7] = ["password", "passphrase", "secret", "credential", "keystore.key", "certificate.chain", "pem"];

/// Whether a property's value must not be shown, whatever the case of its name. That holds for unknown properties, too:
/// `sasl.pasword` is one.
pub fn is_secret(name: &str) -> bool {
    let Some(property) = Property::named(name) else { return holds(Rule::UnknownValueIsSecret) };
    let name = property.name();
    SECRETS.contains(&name) || HINTS.iter().any(|hint| name.contains(hint))
}

/// What stands for a text that must not be shown.
pub const REDACTED: &str = "[redacted]";

/// The value of a property, if it may be shown.
pub fn shown_value<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    // A value may stand behind the wrong name.
    let is_key = || value.contains("-----BEGIN");
    let has_user = || value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    (!is_secret(name) && !is_key() && !has_user()).then_some(value)
}

/// The name of a property, if it may be shown. What stands before the first `=` of a line of base64 may be a part of a
/// key, so an unknown name is shown only if it has the form of one.
pub fn shown_name(name: &str) -> Option<&str> {
    const MAX: usize = 60;
    let separators = ['.', '_', '-'];
    let legal = |c: char| c.is_ascii_alphanumeric() || separators.contains(&c);
    let has_form = || name.contains(separators) || Property::nearest(name).is_some();
    let is_shown = name.len() <= MAX && name.chars().all(legal) && has_form();
    (is_shown || Property::named(name).is_some()).then_some(name)
}

/// A property as `changelogd config` shows it.
pub fn shown_property(name: &str, value: &str) -> String {
    format!("{}={}", shown_name(name).unwrap_or(REDACTED), shown_value(name, value).unwrap_or(REDACTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S12.
    #[test]
    fn secret_properties_are_recognized_in_any_case_and_unknown_ones_are_secret() {
        for name in SECRETS {
            for name in [name.to_owned(), name.to_uppercase(), name.replace('s', "S")] {
                assert!(is_secret(&name), "{name}");
            }
        }
        let aliases =
            ["sasl.oauthbearer.client.credentials.client.secret", "ssl.keystore.key", "ssl.truststore.password"];
        for name in aliases.iter().chain(&["sasl.pasword", "SASL.PASSWORT", "no.such", "", "topic.sasl.password"]) {
            assert!(is_secret(name), "{name}");
        }
        for shown in ["linger.ms", "sasl.mechanism", "ssl.ca.location", "sasl.oauthbearer.token.endpoint.url", "acks"] {
            assert!(!is_secret(shown), "{shown}");
        }
    }

    /// Covers S12.
    #[test]
    fn a_value_that_holds_a_key_or_a_user_is_hidden_under_any_name() {
        assert_eq!(shown_property("linger.ms", "5"), "linger.ms=5");
        assert_eq!(shown_property("SASL.PASSWORD", "hunter2"), "SASL.PASSWORD=[redacted]");
        assert_eq!(shown_property("sasl.pasword", "hunter2"), "sasl.pasword=[redacted]");
        for value in ["-----BEGIN PRIVATE KEY-----\nMIIE", "https://user:hunter2@host/token"] {
            assert_eq!(shown_property("client.id", value), "client.id=[redacted]");
        }
    }

    /// Covers S12.
    #[test]
    fn a_line_of_a_key_is_no_name() {
        let base64 = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        for text in
            [base64, &base64[..20], "q8x/3w", "-----BEGIN PRIVATE KEY-----", "pass word", "a.b:c", "\u{1b}[1m.x"]
        {
            assert_eq!(shown_name(text), None, "{text}");
        }
        let token = format!("eyJhbGciOiJIUzI1NiJ9.{base64}");
        assert_eq!(shown_name(&token), None);
        for name in ["no.such", "sasl.pasword", "SASL.PASSWORD", "ut_handle_ProduceResponse", "debgu", "topic.acks"] {
            assert_eq!(shown_name(name), Some(name));
        }
    }
}

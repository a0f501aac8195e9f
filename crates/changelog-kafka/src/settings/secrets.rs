//! Which texts of properties may be shown, in errors, in `changelogd config` and in debug output.
//!
//! Promises that no value is shown whose property is secret or unknown, and no name that may be a password or a line of
//! a key. A value may stand in the wrong place: behind the name of another property, or several joined on one line.

use std::borrow::Cow;

use changelog_core::rule::{Rule, holds};

use super::{
    names::{self, Property},
    pem,
};

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
    SECRETS.contains(&name) || has_hint(name)
}

/// What stands for a text that must not be shown.
pub const REDACTED: &str = "[redacted]";

/// Properties whose values have the form `name=value`.
const WITH_PAIRS: [&str; 4] =
    ["sasl.jaas.config", "sasl.kerberos.kinit.cmd", "sasl.oauthbearer.config", "sasl.oauthbearer.extensions"];

/// The value of a property, if it may be shown. Of a URL only its scheme and host are.
pub fn shown_value<'a>(name: &str, value: &'a str) -> Option<Cow<'a, str>> {
    if is_secret(name) {
        None
    } else if Property::named(name).is_some_and(|property| property.name() == URL) {
        url_origin(value).map(|origin| Cow::Owned(if origin == value { origin } else { format!("{origin}/…") }))
    } else {
        shown_text(value).map(Cow::Borrowed)
    }
}

/// The property whose value is a URL. Its path and its query may hold a secret.
const URL: &str = "sasl.oauthbearer.token.endpoint.url";

/// The scheme and the host of a URL. `None` for other texts, and for a URL with a user, who has a password, too.
fn url_origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
    let is_url = !scheme.is_empty() && scheme.chars().all(is_scheme) && authority.chars().all(is_host);
    is_url.then(|| format!("{scheme}://{authority}"))
}

/// No more of a value is searched for names. Paths and lists of ciphers are shorter, and PEM is not searched.
const MAX_SEARCHED: usize = 4096;

/// A text that is no secret by its name, if it may be shown.
pub fn shown_text(text: &str) -> Option<&str> {
    let has_more_than_origin = || text.contains("://") && url_origin(text).is_none_or(|origin| origin != text);
    let names_secret = || words(text).any(|word| word.ends_in_name() || word.is_like_name());
    let is_shown = text.len() <= MAX_SEARCHED
        && !pem::is_in(text)
        && !has_more_than_origin()
        && !names_secret()
        && !has_name_before_blank(text);
    is_shown.then_some(text)
}

/// Whether the name of a property stands before a blank, where a value may follow: `sasl.password hunter2`.
fn has_name_before_blank(text: &str) -> bool {
    let is_name = |word: &str| Property::named(word).is_some_and(|property| property.name().contains('.'));
    let mut rest = text.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        if rest.peek().is_some() && is_name(word.trim_matches(['"', '\''])) {
            return true;
        }
    }
    false
}

/// Whether the value of a property has another property in it, because several were joined on one line.
pub fn has_other_property(name: &str, value: &str) -> bool {
    // A password may have any characters. So only names that can't stand there by chance count.
    let takes_any = is_secret(name) || Property::named(name).is_some_and(|p| WITH_PAIRS.contains(&p.name()));
    !pem::begins(value) && words(value).any(|word| word.ends_in_name() || !takes_any && word.is_property())
}

/// Whether a text that stands in the place of something else is properties.
pub fn is_properties(text: &str) -> bool {
    words(text).any(Word::is_property)
}

fn has_hint(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HINTS.iter().any(|hint| name.contains(hint))
}

/// The word before an equals sign or a colon.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    /// Whether it stands at the beginning, or behind a blank or a separator.
    is_separate: bool,
    before_colon: bool,
}

impl Word<'_> {
    /// Whether the name of a property is at its end. Names without a dot are words of every day.
    fn ends_in_name(self) -> bool {
        let bytes = self.text.as_bytes();
        let ends_in = |name: &str| {
            bytes.len().checked_sub(name.len()).is_some_and(|at| bytes[at..].eq_ignore_ascii_case(name.as_bytes()))
        };
        names::all().any(|name| name.contains('.') && ends_in(name))
    }

    /// Whether it is near to the name of a property, or is that of some secret. Hosts stand before colons.
    fn is_like_name(self) -> bool {
        !self.before_colon && (has_hint(self.text) || Property::nearest(self.text).is_some())
    }

    /// Whether it is certainly meant as the name of a property. `retry` is near to one, and may be something else.
    fn is_property(self) -> bool {
        let is_meant = || {
            let is_misspelt = self.text.contains('.') && self.is_like_name();
            is_misspelt || has_hint(self.text) || Property::named(self.text).is_some()
        };
        self.ends_in_name() || self.is_separate && !self.before_colon && is_meant()
    }
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    /// Longer than each name of a property. A longer word is cut in front.
    const MAX: usize = 80;
    let text = &text[..text.floor_char_boundary(MAX_SEARCHED)];
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let between = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    text.match_indices(['=', ':']).filter_map(move |(at, sign)| {
        let before = text[..at].trim_end_matches(between);
        let start = before.bytes().rev().take(MAX).take_while(|byte| is_of_word(char::from(*byte))).count();
        let (rest, mut word) = before.split_at(before.len() - start);
        let mut is_separate = rest.is_empty() || rest.ends_with(|c: char| between(c) || ";,|{".contains(c));
        // An escaped line feed, which is two characters.
        if rest.ends_with('\\') && word.starts_with(['n', 'r', 't']) {
            (word, is_separate) = (&word[1..], true);
        }
        (!word.is_empty()).then_some(Word { text: word, is_separate, before_colon: sign == ":" })
    })
}

/// The name of a property, if it may be shown. What stands before the first `=` of a line may be a password or a part
/// of a key. So an unknown name is shown only if it has the form of a name, and is near to one.
pub fn shown_name(name: &str) -> Option<&str> {
    const MAX: usize = 60;
    let separators = ['.', '_', '-'];
    let is_words = |is_letter: fn(&char) -> bool| name.chars().all(|c| is_letter(&c) || separators.contains(&c));
    let has_form = name.len() <= MAX
        && name.contains(separators)
        && (is_words(char::is_ascii_lowercase) || is_words(char::is_ascii_uppercase));
    let is_shown = Property::named(name).is_some() || has_form && Property::nearest(name).is_some();
    is_shown.then_some(name)
}

/// A property as `changelogd config` shows it.
pub fn shown_property(name: &str, value: &str) -> String {
    let shown = shown_value(name, value).unwrap_or(Cow::Borrowed(REDACTED));
    format!("{}={shown}", shown_name(name).unwrap_or(REDACTED))
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
        for value in [
            "-----BEGIN PRIVATE KEY-----\nMIIE",
            "https://user:hunter2@host/token",
            "https://host/token?client_secret=hunter2",
            "x;my-passphrase=hunter2",
        ] {
            assert_eq!(shown_property("client.id", value), "client.id=[redacted]");
        }
    }

    /// Covers S12.
    #[test]
    fn of_a_url_only_scheme_and_host_are_shown() {
        for (url, shown) in [
            ("https://idp.example", "https://idp.example"),
            ("https://idp.example/", "https://idp.example/…"),
            ("https://idp.example:8443/hunter2/token", "https://idp.example:8443/…"),
            ("https://idp.example/token?code=hunter2&sig=abcdef", "https://idp.example/…"),
            ("https://idp.example?client_secret=hunter2", "https://idp.example/…"),
            ("http://[::1]:80#hunter2", "http://[::1]:80/…"),
            ("https://idp.example\\hunter2", "https://idp.example/…"),
            ("https://user:hunter2@idp.example/token", "[redacted]"),
            ("https://hunter2 /token", "[redacted]"),
            ("idp.example/token?code=hunter2", "[redacted]"),
            ("https:/idp.example/token?code=hunter2", "[redacted]"),
            ("hunter2", "[redacted]"),
        ] {
            for name in [URL, &URL.to_uppercase()] {
                assert_eq!(shown_property(name, url), format!("{name}={shown}"));
            }
            // Any text may be in the place of another one.
            let elsewhere = shown_property("client.id", url);
            assert!(!url.contains("://") || !elsewhere.contains("hunter2"), "{elsewhere}");
        }
    }

    /// Covers S12.
    #[test]
    fn a_value_behind_the_name_of_a_property_and_a_blank_is_not_shown() {
        for text in [
            "sasl.password hunter2",
            "SASL.PASSWORD\thunter2",
            "'ssl.key.password' hunter2",
            "--kafka-property sasl.password hunter2",
            "sasl.password\nhunter2",
        ] {
            assert_eq!(shown_text(text), None, "{text}");
        }
        for text in ["sasl.password", "a b", "debug x", "team of linger.ms"] {
            assert_eq!(shown_text(text), Some(text));
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
        for name in ["sasl.pasword", "SASL.PASSWORT", "SASL.PASSWORD", "ut_handle_ProduceResponse", "Topic.Acks"] {
            assert_eq!(shown_name(name), Some(name));
        }
    }

    /// Covers S12.
    #[test]
    fn a_password_is_no_name() {
        let passwords =
            ["q8x_3w-AbCdEf", "correct.horse.battery", "no.such", "Sasl.Pasw0rd", "debgu", "hunter2", "a-b"];
        for password in passwords {
            assert_eq!(shown_name(password), None, "{password}");
        }
    }

    /// Covers S12.
    #[test]
    fn properties_that_were_joined_are_found_and_not_shown() {
        for (name, value) in [
            ("security.protocol", "SASL_SSL;sasl.username=u;sasl.password=hunter2"),
            ("security.protocol", "SASL_SSL,sasl.password=hunter2"),
            ("security.protocol", "SASL_SSL sasl.password = hunter2"),
            ("security.protocol", "SASL_SSL\\nsasl.password=hunter2"),
            ("ssl.ca.location", "/ca.pem,sasl.password=hunter2"),
            ("linger.ms", "5 SASL.PASSWORD=hunter2"),
            ("linger.ms", "5|sasl.pasword=hunter2"),
            ("linger.ms", "5%0Asasl.password=hunter2"),
            ("client.id", "x,password=hunter2"),
            ("client.id", "x;acks=1"),
            ("client.id", "{\"sasl.password\": \"hunter2\"}"),
            ("client.id", "sasl.password: hunter2"),
        ] {
            assert!(has_other_property(name, value), "{name}={value}");
            assert_eq!(shown_value(name, value), None, "{name}={value}");
        }
        for (name, value) in
            [("sasl.password", "hunter2;sasl.username=u"), ("sasl.username", "u,sasl.password=hunter2")]
        {
            assert!(has_other_property(name, value), "{name}={value}");
        }
    }

    /// Covers S11.
    #[test]
    fn an_equals_sign_alone_does_not_make_a_value_several_properties() {
        for (name, value) in [
            ("sasl.password", "a=b,password=c;debug=x"),
            ("sasl.username", "cn=user,ou=secret=x"),
            ("sasl.oauthbearer.config", "principal=admin scope=acks lifeSeconds=3600 password=x"),
            ("sasl.oauthbearer.extensions", "retries=1,secret=2"),
            ("ssl.ca.location", "/etc/ssl=1/debug=2/password=3/ca.pem"),
            ("client.id", "team=a,zone=b,retry=c"),
            ("ssl.ca.pem", "-----BEGIN CERTIFICATE-----\nMIIE=\n-----END CERTIFICATE-----"),
            ("ssl.cipher.suites", "DEFAULT@SECLEVEL=1"),
            ("client.id", "secret-service:9092"),
        ] {
            assert!(!has_other_property(name, value), "{name}={value}");
        }
    }

    /// A value as long as a file of properties may be.
    #[test]
    fn only_the_beginning_of_a_long_value_is_searched_and_nothing_is_shown() {
        let value = " no.such=1".repeat(100_000);
        assert!(!has_other_property("client.id", &value));
        assert_eq!(shown_value("client.id", &value), None);
    }
}

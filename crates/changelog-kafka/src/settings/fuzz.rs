//! Fuzz target: the text of properties and the list of brokers, which people write.

use std::net::SocketAddr;

use changelogd_testkit::fuzz::{config, corpus, mutated, mutations};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{Brokers, Settings, parse_properties, properties::Problem, shown_property};

/// What each secret of an input has in each of its lines.
const MARK: &str = "hunter2";

/// Names of secret properties, as they should be written.
const SECRET_NAMES: [&str; 8] = [
    "sasl.password",
    "sasl.username",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.jaas.config",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
];

/// The property as a line of a properties file.
fn written(name: &str, value: &str) -> String {
    let kept = value.trim_end_matches('\\');
    format!("{name}={kept}{}\n", "\\".repeat(2 * (value.len() - kept.len())))
}

/// Begins with an empty line, so that a byte order mark in the first name is none.
fn text(properties: &[(String, String)]) -> String {
    "\n".to_owned() + &properties.iter().map(|(name, value)| written(name, value)).collect::<String>()
}

/// A text of valid properties.
fn valid() -> impl Strategy<Value = String> {
    let name = prop_oneof![select(&SECRET_NAMES[..]).prop_map(ToOwned::to_owned), "[a-zA-Z.]{1,12}", "[^=\n]{1,6}"];
    let value = prop_oneof![
        "[ -~]{0,20}",
        "\\PC{0,10}",
        "[a-z]{0,3}\\\\{0,4}",
        "(A: b\n\n?)?[A-Z]{1,3}( |\n|\\\\n| \\\\\n)[A-Za-z0-9+/\n ]{0,150}={0,2}"
            .prop_map(|body| format!("-----BEGIN X Y-----\n{body}\n-----END X Y-----")),
    ];
    let line = prop_oneof![
        8 => (name, value).prop_map(|(name, value)| format!("{name}={value}\n")),
        1 => "[#!][ -~]{0,10}\n",
        1 => "[ \t]{0,3}\r?\n",
        1 => "[a-z.]{1,9} ?= ?[a-z]{1,3},\\\\\n {0,3}[a-z]{0,3}\n",
    ];
    vec(line, 0..6).prop_map(|lines| lines.concat())
}

/// A secret in lines of base64. Some have a `=` at the end, as padding.
fn secret() -> impl Strategy<Value = Vec<String>> {
    vec("[A-Za-z0-9+/]{12,57}={0,2}".prop_map(|text| format!("{MARK}{text}")), 1..5)
}

/// A name of a secret property, or a misspelt one.
fn secret_name() -> impl Strategy<Value = String> {
    (select(&SECRET_NAMES[..]), any::<[u8; 3]>()).prop_map(|(name, [how, at, with])| {
        let at = usize::from(at) % name.len();
        let (before, after) = (&name[..at], &name[at + 1..]);
        match how % 6 {
            0 => name.to_owned(),
            1 => name.to_uppercase(),
            2 => format!("topic.{name}"),
            3 => format!("{before}{after}"),
            4 => format!("{before}{}{after}", char::from(b'a' + with % 26)),
            _ => format!("{}{}", before.to_uppercase(), &name[at..]),
        }
    })
}

/// A text with secrets in all the forms in which they end up in one, damaged ones too.
fn text_with_secrets() -> impl Strategy<Value = String> {
    let between = select(&[";", ",", " ", "|", "\\n", "\", \""][..]);
    let property = (secret_name(), secret(), any::<u8>(), between).prop_map(|(name, lines, form, between)| {
        let (first, all) = (&lines[0], lines.join("\n"));
        let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
        match form % 11 {
            0 => format!("{name}={first}"),
            1 => format!("{name} {first}"),
            2 => format!("{name}={begin}\n{all}\n{end}"),
            3 => format!("{name}={begin}\n{all}"),
            4 => format!("{begin}\n{all}\n{end}"),
            5 => format!("{name}=\n{all}\n{end}"),
            6 => format!("{name}={}", lines.join("\\\n")),
            7 => format!("{name}={begin} {} {end}", lines.join(" ")),
            8 => format!("client.id=x{between}{name}={first}"),
            9 => format!("linger.ms=5{between}{name} = {first}"),
            _ => all,
        }
    });
    let harmless = select(&["linger.ms=5", "# a comment", "client.id=x", ""][..]).prop_map(ToOwned::to_owned);
    vec(prop_oneof![2 => property, 1 => harmless], 1..5).prop_map(|lines| lines.join("\n"))
}

fn round_trip(input: &str) {
    let Ok(properties) = parse_properties(input) else { return };
    for (name, value) in &properties {
        assert!(!name.is_empty() && name.trim() == name && !name.contains(['=', '\n', '\0']), "{input:?}: {name:?}");
        let is_pem = value.starts_with("-----BEGIN ");
        assert!(value.trim() == value && !value.contains('\0'), "{input:?}: {value:?}");
        assert!(is_pem || !value.contains('\n'), "{input:?}: {value:?}");
    }
    let again = text(&properties);
    assert_eq!(parse_properties(&again), Ok(properties), "{input:?}: {again:?}");
}

proptest! {
    #![proptest_config(config())]

    /// Covers S15.
    #[test]
    fn properties_that_are_read_are_read_again_from_what_is_written(input in valid()) {
        round_trip(&input);
    }

    /// Covers S15.
    #[test]
    fn a_changed_text_is_properties_or_refused(one in valid(), other in valid(), changes in mutations()) {
        round_trip(&String::from_utf8_lossy(&mutated(one.as_bytes(), other.as_bytes(), &changes)));
    }

    /// Covers S15.
    #[test]
    fn any_text_is_properties_or_refused_without_a_panic(input in "\\PC*|[\\x00-\\x20=#\\\\a\"-]{0,40}") {
        round_trip(&input);
    }

    /// Covers S12, S15.
    #[test]
    fn no_error_and_nothing_that_is_shown_has_a_line_of_a_secret(input in text_with_secrets()) {
        let mut settings = Settings::new("b:9092", "t");
        let mut shown = match parse_properties(&input) {
            Err(error) => format!("{error} {error:?}"),
            Ok(properties) => {
                settings.properties = properties.into_iter().collect();
                String::new()
            }
        };
        for (name, value) in settings.properties.values() {
            shown += &shown_property(name, value);
        }
        shown += &format!("{settings:?}");
        if let Err(error) = settings.known_properties() {
            shown += &format!("{error} {error:?}");
        }
        prop_assert!(!shown.contains(MARK), "{input:?}: {shown}");
    }

    /// Covers S15, B24.
    #[test]
    fn a_list_of_brokers_is_taken_exactly_if_each_part_is_a_host_and_a_port(
        parts in vec("[a-c1-3.:-]{0,6}(:[0-9]{1,6})?|\\[[0-9a-f:]{0,6}\\](:[0-9]{1,5})?|\\PC{0,4}", 0..3),
    ) {
        let input = parts.join(",");
        let is_name = |host: &str| {
            let labels: Vec<_> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            labels.iter().all(|label| !label.is_empty() && label.chars().all(legal))
                && labels.last().is_some_and(|label| label.contains(|c: char| !c.is_ascii_digit()))
        };
        let is_broker = |part: &str| {
            let has_port = !part.ends_with(']') && part.contains(':');
            let with_port = if has_port { part.to_owned() } else { format!("{part}:9092") };
            let named = with_port.split_once(':').is_some_and(|(host, port)| {
                is_name(host) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
            });
            named || with_port.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0)
        };
        let expected = input.split(',').all(|part| is_broker(part.trim()));
        let brokers = input.parse::<Brokers>();
        prop_assert_eq!(brokers.is_ok(), expected, "{}", input);
        if let Ok(brokers) = brokers {
            let again = brokers.to_string();
            prop_assert_eq!(again.parse::<Brokers>(), Ok(brokers), "{}", again);
        }
    }
}

/// Covers S12, S15.
#[test]
fn the_corpus_of_properties_is_answered_as_it_says() {
    for input in corpus(include_str!("../../tests/corpus/properties.txt")) {
        let (bytes, expected) = input.parts.split_first().expect("a text");
        let bytes = std::str::from_utf8(bytes).expect("UTF-8");
        let parsed = parse_properties(bytes);
        let outcome = match parsed.as_ref().map_err(|error| error.problem) {
            Ok(_) => "ok",
            Err(Problem::NoProperty) => "no-property",
            Err(Problem::ValueOnNextLine) => "value-on-next-line",
            Err(Problem::TextBesidePem) => "text-beside-pem",
            Err(Problem::NothingFollows) => "nothing-follows",
            Err(Problem::PropertyFollows) => "property-follows",
            Err(Problem::NoPemEnd) => "no-pem-end",
            Err(Problem::NoPem) => "no-pem",
            Err(Problem::Nul) => "nul",
        };
        assert_eq!(outcome, input.expected, "line {}: {parsed:?}", input.line);
        let found = parsed.unwrap_or_default().into_iter().flat_map(|(name, value)| [name, value]);
        let found: Vec<_> = found.map(String::into_bytes).collect();
        assert_eq!(found, expected, "line {}", input.line);
        round_trip(bytes);
    }
}

use super::*;

fn parsed(text: &str) -> Vec<(String, String)> {
    parse_properties(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn one(text: &str) -> String {
    match &*parsed(text) {
        [(_, value)] => value.clone(),
        other => panic!("{text:?}: {other:?}"),
    }
}

/// Covers S12.
#[test]
fn property_files_are_read_and_never_quoted() {
    let text = "# a comment\n\n sasl.password = a=b \nlinger.ms=1\n";
    let expected = [("sasl.password", "a=b"), ("linger.ms", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(parsed(text), expected);
    assert_eq!(parsed(&text.replace('\n', "\r\n")), expected);
    assert_eq!(parsed(&format!("\u{feff}{text}")), expected);
    for (wrong, line) in [("linger.ms=1\nhunter2", 2), ("=hunter2", 1), ("\n\nsasl.password: hunter2", 3)] {
        let error = parse_properties(wrong).unwrap_err();
        assert_eq!(error, PropertiesError { line, problem: Problem::NoProperty });
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// Covers S11.
#[test]
fn a_backslash_at_the_end_continues_a_line_and_two_stand_for_one() {
    assert_eq!(one("ssl.cipher.suites=A,\\\n   B,\\\r\n\tC"), "A,B,C");
    assert_eq!(one("sasl.password=a\\b"), "a\\b");
    assert_eq!(one("sasl.password=a\\\\\n"), "a\\");
    assert_eq!(one("sasl.password=a\\\\\\\\"), "a\\\\");
    assert_eq!(one("sasl.password=a\\\\\\\n#b"), "a\\#b");
    // A line that is continued can hold an equals sign, such as that of Java's JAAS configuration.
    assert_eq!(one("sasl.jaas.config=Module required \\\n username=\"a\";"), "Module required username=\"a\";");
    let problem = |text: &str| parse_properties(text).unwrap_err();
    let nothing = PropertiesError { line: 1, problem: Problem::NothingFollows };
    assert_eq!(problem("sasl.password=hunter2\\"), nothing);
    assert_eq!(problem("sasl.password=hunter2\\\n"), nothing);
    for next in ["linger.ms=1", " SSL.CA.LOCATION = /ca.pem"] {
        let error = problem(&format!("\nsasl.password=hunter2\\\n{next}"));
        assert_eq!(error, PropertiesError { line: 2, problem: Problem::PropertyFollows });
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

const KEY: &str = include_str!("../../../tests/fixtures/tls/key.pem");
const CERTIFICATE: &str = include_str!("../../../tests/fixtures/tls/certificate.pem");

/// Covers S11.
#[test]
fn pem_is_taken_in_each_form_in_which_people_write_it() {
    let key = KEY.trim();
    let continued = key.replace('\n', " \\\n   ");
    for text in [
        format!("ssl.key.pem={key}"),
        format!("ssl.key.pem = {key}\n"),
        format!("ssl.key.pem=\n{key}"),
        format!("ssl.key.pem=\\\n{key}"),
        format!("ssl.key.pem=\"{key}\""),
        format!("ssl.key.pem='{key}'"),
        format!("ssl.key.pem={continued}"),
        format!("ssl.key.pem=\\\n  {continued}"),
        format!("ssl.key.pem={}", key.replace('\n', "\\n")),
        format!("ssl.key.pem={}", key.replace('\n', "\\r\\n")),
        format!("ssl.key.pem={}", key.replace('\n', " ")),
        format!("ssl.key.pem={}", key.replace('\n', "\r\n")),
        format!("ssl.key.pem={}", key.replace('\n', "\n    ")),
        format!("ssl.key.pem={}", key.replace('\n', "\n\n")),
    ] {
        assert_eq!(one(&text), key, "{text}");
        let between = parsed(&format!("linger.ms=1\n{text}\nclient.id=x"));
        let names: Vec<_> = between.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["linger.ms", "ssl.key.pem", "client.id"], "{text}");
    }
    let chain = format!("{}\n{}", CERTIFICATE.trim(), CERTIFICATE.trim());
    for text in [format!("ssl.ca.pem={chain}"), format!("ssl.ca.pem={}", chain.replace('\n', "\\n"))] {
        assert_eq!(one(&text), chain, "{text}");
    }
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,92EB\n\nAAAA\n\
                     -----END RSA PRIVATE KEY-----";
    assert_eq!(one(&format!("ssl.key.pem={encrypted}")), encrypted);
}

/// Covers S12.
#[test]
fn a_key_that_is_cut_off_is_an_error_without_its_lines() {
    let lines: Vec<_> = KEY.trim().lines().collect();
    for text in [
        format!("linger.ms=1\nssl.key.pem={}", lines[..lines.len() - 1].join("\n")),
        format!("linger.ms=1\nssl.key.pem={}\n-----BEG", lines[0]),
        format!("linger.ms=1\n{}", lines[1..].join("\n")),
        format!("linger.ms=1\n{}", KEY.trim()),
    ] {
        let error = parse_properties(&text).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        let shown = error.to_string();
        assert!(lines[1..lines.len() - 1].iter().all(|line| !shown.contains(line)), "{shown}");
    }
    let nul = parse_properties("sasl.password=hunt\0er2").unwrap_err();
    assert_eq!(nul, PropertiesError { line: 1, problem: Problem::Nul });
}

/// The output of `openssl pkcs12 -nodes`, and of `openssl x509 -text`.
/// Covers S11, S12, B24.
#[test]
fn text_beside_pem_is_refused_with_the_way_out() {
    let (certificate, key) = (CERTIFICATE.trim(), KEY.trim());
    let bag = "Bag Attributes\n    localKeyID: 42 A5 \n";
    let both = format!(
        "{bag}subject=CN = test\n\nissuer=CN = test\n\n{certificate}\n{bag}Key Attributes: <No Attributes>\n{key}"
    );
    for (text, line) in [
        (format!("ssl.certificate.pem={both}"), 1),
        (format!("linger.ms=1\nssl.key.pem=\n{both}"), 3),
        (format!("ssl.certificate.pem={certificate}\n{bag}{key}"), 1 + certificate.lines().count()),
        (format!("ssl.ca.pem={certificate}\nsubject=CN = test\n{certificate}"), 1 + certificate.lines().count()),
        (format!("ssl.ca.pem={certificate}\n 1 s:CN = test\n{certificate}"), 1 + certificate.lines().count()),
        (format!("SSL.CA.PEM=Certificate:\n    Data:\n        Version: 3 (0x2)\n{certificate}"), 1),
    ] {
        let error = parse_properties(&text).unwrap_err();
        assert_eq!(error, PropertiesError { line, problem: Problem::TextBesidePem }, "{text}");
        assert!(error.to_string().contains("openssl"), "{error}");
    }
    // Elsewhere such lines are what they look like.
    assert_eq!(parsed("client.id=x\nsubject=CN=test").len(), 2);
}

/// Covers S12, B24.
#[test]
fn a_value_on_the_line_after_its_name_is_named_and_not_shown() {
    let error = parse_properties("linger.ms=1\nsasl.password=\nhunter2\n").unwrap_err();
    assert_eq!(error, PropertiesError { line: 3, problem: Problem::ValueOnNextLine });
    assert!(error.to_string().contains("same line") && !error.to_string().contains("hunter2"), "{error}");
}

/// A file of the largest size that is read is parsed in a time that grows with its size only.
#[test]
fn a_block_of_many_lines_is_read_once() {
    let text = format!("ssl.ca.pem=-----BEGIN X-----\n{}-----END X-----", "A\n".repeat(500_000));
    assert_eq!(one(&text).matches('A').count(), 500_000);
}

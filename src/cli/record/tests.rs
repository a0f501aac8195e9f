use super::*;

fn entry(value: &[u8]) -> v1::Entry {
    v1::Entry {
        key: "w/t/i".to_owned(),
        value: Some(v1::entry::Value::Raw(Bytes::copy_from_slice(value))),
        timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 5_000_000 }),
        ..Default::default()
    }
}

fn header(key: &str, value: Option<&'static [u8]>) -> v1::Header {
    v1::Header { key: key.to_owned(), value: value.map(Bytes::from_static) }
}

/// The change of a line that has one.
fn change(line: &str) -> Change {
    parse(line).unwrap_or_else(|bad| panic!("{line}: {bad:?}")).unwrap_or_else(|| panic!("{line}: no change"))
}

fn why(line: &str) -> String {
    parse(line).expect_err(line).why
}

/// Covers C65.
#[test]
fn values_pass_through_a_line_byte_for_byte() {
    let values: [&[u8]; 22] = [
        b"null",
        b"true",
        b"false",
        b"\"\"",
        b"{}",
        b"[]",
        b"[null]",
        b"{\"a\":null}",
        b"\"null\"",
        b"-0",
        b"1e400",
        b"0.10000000000000000000000000000000001",
        b"12345678901234567890123456789012345678901234567890",
        b"{ \"b\" : 1.50,  \"a\":[ ], \"b\":2 }",
        b"\"\\ud800\\u0000\"",
        b" null ",
        b"{\n}",
        b"1\r",
        b"\xff",
        b"",
        b"not json",
        "\"\u{2028}é\u{feff}\"".as_bytes(),
    ];
    for value in values {
        let line = serde_json::to_string(&Line::of(&entry(value), true)).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(change(&line).value.as_deref(), Some(value), "{line}");
        assert_eq!(not_importable(&entry(value)), None);
    }
    let line = serde_json::to_string(&Line::of(&entry(b"{ \"a\" :1}"), true)).unwrap();
    assert!(line.ends_with("\"timestamp\":\"1970-01-01T00:00:01.005Z\",\"value\":{ \"a\" :1}}"), "{line}");
}

/// Covers C65.
#[test]
fn tombstones_and_null_headers_pass_through_a_line() {
    let headers = vec![
        header("h", None),
        header("h", Some(b"")),
        header("h", Some(b"x")),
        header("h", Some(b"\xff")),
        header("\u{202e}", Some("\u{1b}é".as_bytes())),
        header("", Some(b"")),
    ];
    let entry = v1::Entry { is_tombstone: true, value: None, headers: headers.clone(), ..entry(b"") };
    let line = serde_json::to_string(&Line::of(&entry, false)).unwrap();
    assert_eq!(change(&line), Change { key: "w/t/i".to_owned(), value: None, headers });
}

/// Covers C65.
#[test]
fn lines_of_version_0_1_0_are_read() {
    let line =
        "{\"key\":\"w/t/i\",\"value\":{ \"a\" :1},\"headers\":[{\"key\":\"h\",\"value\":\"v\"},{\"key\":\"n\"}]}";
    let Change { key, value, headers } = change(line);
    assert_eq!((&*key, headers), ("w/t/i", vec![header("h", Some(b"v")), header("n", None)]));
    assert_eq!(value.as_deref(), Some(&b"{ \"a\" :1}"[..]));
    assert_eq!(change("{\"key\":\"w/t/i\",\"deleted\":true}").value, None);
    // What `load` and `stream` print between and behind the entries.
    for skipped in ["{\"snapshot\":{}}", "{ \"bookmark\" : {\"resume_token\":\"\"} }", "{\"snapshot\":{\"x\":[1]}}"] {
        assert_eq!(parse(skipped), Ok(None), "{skipped}");
    }
}

/// Covers C65.
#[test]
fn lines_without_a_record_or_with_two_values_are_refused() {
    for bad in [
        "{\"key\":\"k\"}",
        "{\"key\":\"k\",\"value\":1,\"deleted\":true}",
        "{\"key\":\"k\",\"value\":null,\"deleted\":true}",
        "{\"key\":\"k\",\"value\":null,\"value_base64\":\"\"}",
        "{\"key\":\"k\",\"value_base64\":\"?\"}",
        "{\"key\":\"k\",\"tombstone\":false}",
    ] {
        let error = parse(bad).expect_err(bad);
        assert_eq!(error.key, "k", "{bad}: {error:?}");
    }
    assert_eq!(why("{\"value\":1}"), "has no key");
    assert_eq!(why("{}"), "has no key");
    assert!(why("[1]").contains("column"), "{}", why("[1]"));
    assert!(!why("{\"key\":7,\"value\":1}").contains("line"), "the number of the line in the file is said");
}

/// Covers C65.
#[test]
fn members_that_are_not_known_or_come_twice_are_refused_and_named() {
    for (bad, named) in [
        ("{\"key\":\"k\",\"value\":1,\"later\":[1]}", "`later`"),
        ("{\"key\":\"k\",\"Value\":1}", "`Value`"),
        ("{\"key\":\"k\",\"value\":1,\"ttl\":null}", "`ttl`"),
        ("{\"import\":{}}", "`import`"),
        ("{\"key\":\"k\",\"value\":1,\"headers\":[{\"key\":\"h\",\"text\":\"v\"}]}", "`text`"),
        ("{\"key\":\"k\",\"key\":\"l\",\"value\":1}", "`key`"),
        ("{\"key\":\"k\",\"value\":1,\"value\":2}", "`value`"),
        ("{\"key\":\"k\",\"deleted\":true,\"tombstone\":true}", "`tombstone`"),
        ("{\"key\":\"k\",\"value\":1,\"snapshot\":{}}", "snapshot"),
    ] {
        assert!(why(bad).contains(named), "{bad}: {}", why(bad));
    }
}

/// Covers C16, C65.
#[test]
fn an_entry_that_no_server_takes_back_is_named_with_its_limit() {
    static LONG: [u8; 20_000] = [b'x'; 20_000];
    let with = |headers| not_importable(&v1::Entry { headers, ..entry(b"1") });
    for (headers, limit) in [
        (vec![header("h", Some(b"")), header("", Some(b""))], "header 1 has no key"),
        (vec![header("h", None); 65], "65 headers, at most 64"),
        (vec![header("h", Some(&LONG))], "20001 bytes, at most 16384"),
        (vec![header("a\0", None)], "NUL"),
    ] {
        let why = with(headers).expect("it is refused");
        assert!(why.contains(limit), "{why}");
    }
    assert_eq!(with(vec![header("h", None), header("h", Some(b"")), header("h", Some(b"\xff"))]), None);
    assert!(not_importable(&v1::Entry { value: None, ..entry(b"") }).is_some());
    assert_eq!(not_importable(&v1::Entry { value: None, is_tombstone: true, ..entry(b"") }), None);
}

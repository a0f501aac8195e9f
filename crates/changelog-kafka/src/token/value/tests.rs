use changelogd_testkit::identity_provider::unsecured_jwt;

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(seconds)
}

/// Covers R62.
#[test]
fn the_expiry_is_the_earlier_one_of_the_jwt_and_the_given_life() {
    let jwt = unsecured_jwt("s", at(0), at(60));
    // The last one has the clock of a machine that is 20 seconds behind.
    for (text, life, expected) in [
        (&*jwt, Some(5), Some(at(5))),
        (&jwt, Some(60), Some(at(60))),
        (&jwt, Some(3_600), Some(at(60))),
        (&jwt, None, Some(at(60))),
        ("opaque", Some(5), Some(at(5))),
        ("opaque", None, None),
        (&unsecured_jwt("s", at(20), at(80)), Some(60), Some(at(60))),
    ] {
        let token = Token::parse(text, life.map(Duration::from_secs), at(0)).unwrap();
        assert_eq!(token.expires_at(), expected, "{text}, {life:?}");
        assert_eq!(token.or_expiring_at(at(7)).expires_at(), Some(expected.unwrap_or(at(7))));
    }
    // A life that no clock can add.
    for (text, expected) in [("opaque", None), (&*jwt, Some(at(60)))] {
        assert_eq!(Token::parse(text, Some(Duration::MAX), at(0)).unwrap().expires_at(), expected);
    }
    let token = Token::parse(&jwt, None, at(0)).unwrap();
    assert!(!token.has_expired(at(59)) && token.has_expired(at(60)));
}

/// Covers R62, R64.
#[test]
fn what_is_no_token_is_an_error_without_it() {
    let expired = unsecured_jwt("s", at(0), at(60));
    let long = "x".repeat(MAX_TOKEN_BYTES + 1);
    for (text, words) in [
        ("", "is empty"),
        ("hunter2 hunter2", "white space"),
        ("hunter2\nhunter2", "white space"),
        ("hunter2\0", "white space"),
        ("hünter2", "white space"),
        (&*expired, "has expired at 1970-01-12T13:47:40Z"),
        (&*long, "more than 65536 bytes"),
    ] {
        let error = Token::parse(text, None, at(60)).unwrap_err();
        assert!(error.contains(words) && !error.contains("nter2"), "{words}: {error}");
    }
    assert!(Token::parse(&long[1..], None, at(60)).is_ok());
}

/// Covers R64.
#[test]
fn the_debug_output_of_a_token_has_no_token() {
    let token = Token::parse("hunter2", None, at(0)).unwrap();
    let shown = format!("{token:?} {:?}", token.clone().with_extensions(vec![("k".to_owned(), "hunter2".to_owned())]));
    assert!(!shown.contains("hunter2"), "{shown}");
}

use changelogd_testkit::identity_provider::unsecured_jwt;

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(seconds)
}

/// Covers R62.
#[test]
fn the_expiry_is_that_of_the_jwt_else_the_given_one() {
    let jwt = unsecured_jwt("s", at(0), at(60));
    let life = Some(Duration::from_secs(5));
    assert_eq!(Token::parse(&jwt, life, at(0)).unwrap().expires_at(), Some(at(60)));
    assert_eq!(Token::parse("opaque", life, at(0)).unwrap().expires_at(), Some(at(5)));
    assert_eq!(Token::parse("opaque", None, at(0)).unwrap().expires_at(), None);
    assert!(Token::parse("opaque", Some(Duration::MAX), at(0)).is_ok());
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

use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use changelogd_testkit::identity_provider::unsecured_jwt;
use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn jwt(header: &str, payload: &str, signature: &str) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{signature}", part(header), part(payload))
}

/// Covers R62.
#[test]
fn the_expiry_and_the_subject_of_a_jwt_are_read() {
    let token = unsecured_jwt("service", seconds(1_000), seconds(2_000));
    let expected = Claims { expires_at: Some(seconds(2_000)), subject: Some("service".to_owned()) };
    assert_eq!(claims(&token), Ok(Some(expected)));
    for (exp, expected) in [
        (r#"{"exp":1700000000}"#, Some(seconds(1_700_000_000))),
        (r#"{"exp":1.5e9}"#, Some(seconds(1_500_000_000))),
        (r#"{"exp":-5}"#, Some(seconds(0))),
        (r#"{"exp":1e300}"#, Some(seconds(253_402_300_799))),
        (r#"{"exp":null}"#, None),
        ("{}", None),
    ] {
        let found = claims(&jwt(r#"{"alg":"RS256"}"#, exp, "c2ln")).unwrap().unwrap();
        assert_eq!(found, Claims { expires_at: expected, subject: None }, "{exp}");
    }
    // Padding, which RFC 7515 does not have, and characters that only this alphabet has.
    let padded = format!("{}.{}.c2ln", BASE64_URL_SAFE.encode("{}"), BASE64_URL_SAFE.encode(r#"{"sub":"ÿþ?>"}"#));
    assert_eq!(claims(&padded).unwrap().unwrap().subject.as_deref(), Some("???>"));
}

/// Covers R62.
#[test]
fn a_token_of_another_form_has_no_claims() {
    let encrypted = format!("{}.a.b.c.d", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"dir"}"#));
    let signed_url = BASE64_URL_SAFE_NO_PAD.encode("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster");
    for token in [
        &*signed_url,
        "2YotnFZFEjr1zCsicMWpAA",
        "v4.local.abc",
        "a",
        "....",
        &encrypted,
        "ey-random-token-0123456789",
        "exyz0123",
    ] {
        assert_eq!(claims(token), Ok(None), "{token}");
    }
}

/// Covers R62.
#[test]
fn a_jwt_that_is_cut_off_or_damaged_is_an_error_without_any_part_of_it() {
    let whole = jwt(r#"{"alg":"RS256"}"#, r#"{"exp":1700000000,"sub":"hunter2"}"#, "c2lnbmF0dXJl");
    let ends = [whole.find('.').unwrap(), whole.rfind('.').unwrap()];
    for end in [6, ends[0], ends[0] + 9, ends[1], ends[1] + 1] {
        let error = claims(&whole[..end]).unwrap_err();
        assert!(error.contains("cut off"), "{error}");
    }
    for (token, words) in [
        (format!("{whole}.x"), "4 of 3 parts"),
        (jwt("{not json", "{}", "s"), "header"),
        (jwt("{}", "[1]", "s"), "payload"),
        (jwt("{}", "", "s"), "payload"),
        (jwt("{}", r#"{"exp":"soon"}"#, "s"), "exp is no number"),
        (jwt("{}", r#"{"exp":[]}"#, "s"), "exp is no number"),
        (jwt("{}", &"[".repeat(10_000), "s"), "payload"),
        (format!("{}.!!.s", BASE64_URL_SAFE_NO_PAD.encode("{}  ")), "payload"),
    ] {
        let error = claims(&token).unwrap_err();
        assert!(error.contains(words) && !error.contains("hunter2"), "{words}: {error}");
    }
}

proptest! {
    /// Covers R62.
    #[test]
    fn any_text_is_claims_none_or_an_error_that_has_no_part_of_it(
        text in prop_oneof![
            "[ -~]{0,200}",
            "[A-Za-z0-9_.=-]{0,300}",
            "eyJ[A-Za-z0-9_.-]{0,200}",
            any::<String>(),
        ]
    ) {
        if let Err(error) = claims(&text) {
            prop_assert!(text.len() < 12 || !error.contains(&text), "{}", error);
        }
    }

    /// Covers R62.
    #[test]
    fn claims_survive_a_round_trip(exp in 0_u64..253_402_300_799, sub in "[!-~]{0,100}", other in "[ -~]{0,40}") {
        let payload = serde_json::json!({ "exp": exp, "sub": sub, "other": other }).to_string();
        let found = claims(&jwt(r#"{"alg":"ES256"}"#, &payload, "c2ln")).unwrap().unwrap();
        prop_assert_eq!(found, Claims { expires_at: Some(seconds(exp)), subject: Some(sub) });
    }

    /// Covers R62.
    #[test]
    fn any_claims_are_read_without_a_panic(payload in ".{0,200}", exp in any::<f64>()) {
        let _ = claims(&jwt("{}", &payload, "s"));
        let found = claims(&jwt("{}", &format!(r#"{{"exp":{exp:e}}}"#), "s"));
        prop_assert!(!exp.is_finite() || found.is_ok(), "{exp}");
    }
}

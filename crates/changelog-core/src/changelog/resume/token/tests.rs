use proptest::prelude::*;

use super::*;
use crate::model::PartitionCount;

fn topic(id: &str) -> Topic {
    Topic {
        name: "t".into(),
        id: id.into(),
        partition_count: PartitionCount::new(4).unwrap(),
        max_value_bytes: None,
        delete_retention: Duration::from_secs(100),
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn token(next: Option<i64>, as_of: u64) -> Token {
    let cursor = Cursor { next, leader_epoch: 3, as_of: at(as_of) };
    Token::new(&topic("id"), Bytes::from_static(b"scope"), BTreeMap::from([(Partition::new(2).unwrap(), cursor)]))
}

fn check(token: &Token, topic: &Topic, scope: &'static [u8], partition: i32, now: u64) -> Result<(), TokenError> {
    token.check(topic, &[Bytes::from_static(scope)], &[Partition::new(partition).unwrap()], at(now))
}

const FIXED: &str = "010a02696410041a0573636f7065220908021007180620e80767bfb896";

/// Covers C32.
#[test]
fn the_bytes_of_a_token_do_not_change() {
    let bytes = token(Some(7), 1).encode();
    assert_eq!(format!("{:02x?}", &*bytes).replace(", ", ""), format!("[{FIXED}]"));
    assert_eq!(Token::decode(&bytes).unwrap(), token(Some(7), 1));
}

/// Covers C32, B17.
#[test]
fn a_token_serves_its_own_stream_only() {
    let good = token(Some(7), 1000);
    assert_eq!(check(&good, &topic("id"), b"scope", 2, 1050), Ok(()));
    assert!(matches!(check(&good, &topic("id"), b"other", 2, 1000), Err(TokenError::Invalid(_))));
    assert!(matches!(check(&good, &topic("id"), b"scope", 3, 1000), Err(TokenError::Invalid(_))));
    assert!(matches!(check(&good, &topic("id2"), b"scope", 2, 1000), Err(TokenError::Resync(_))));
    assert!(matches!(check(&good, &topic("id"), b"scope", 2, 1051), Err(TokenError::Resync(_))));
    assert_eq!(check(&token(None, 1000), &topic("id"), b"scope", 2, 9000), Ok(()), "it starts over anyway");
}

/// Covers R9, F26.
#[test]
fn a_token_from_the_future_has_no_known_age() {
    let at_noon = token(Some(7), 1000);
    assert_eq!(check(&at_noon, &topic("id"), b"scope", 2, 940), Ok(()), "clocks differ a little");
    assert!(matches!(check(&at_noon, &topic("id"), b"scope", 2, 939), Err(TokenError::Resync(_))));
    assert_eq!(check(&token(None, 1000), &topic("id"), b"scope", 2, 0), Ok(()), "it starts over anyway");
}

/// Covers R9, C58.
#[test]
fn the_age_of_a_token_is_named_in_milliseconds_and_its_texts_are_escaped() {
    let short = Topic { delete_retention: Duration::from_millis(500), ..topic("id") };
    let refused =
        |token: &Token, topic: &Topic, now: u64| check(token, topic, b"scope", 2, now).unwrap_err().to_string();
    let old = refused(&token(Some(7), 1_000), &short, 1_001);
    assert!(old.contains("1000 ms old") && old.contains("delete.retention.ms, which is 500 ms"), "{old}");
    // A client can make a token.
    let forged = Token { topic_id: "\u{1b}[31m\u{202e}".to_owned(), ..token(Some(7), 1_000) };
    let other = refused(&forged, &short, 1_000);
    assert!(other.contains(r"\u{1b}[31m\u{202e}"), "{other}");
}

/// Covers B17.
#[test]
fn the_page_on_upgrades_has_this_version_of_tokens() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/upgrading.md"));
    let row = page.lines().find_map(|line| line.strip_prefix(concat!("| ", env!("CARGO_PKG_VERSION"), " | ")));
    let columns: Vec<_> = row.expect("a row of this version").split(" | ").collect();
    assert_eq!(columns[1], VERSION.to_string());
}

proptest! {
    /// Covers S15, B17.
    #[test]
    fn a_damaged_token_is_refused(
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = token(Some(7), 1).encode().to_vec();
        let kept = cut.index(bytes.len());
        prop_assert!(Token::decode(&bytes[..kept]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Token::decode(&bytes).is_err());
    }

    /// Covers S15, B17.
    #[test]
    fn any_bytes_are_refused_as_a_token_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(Token::decode(&bytes).is_err());
    }
}

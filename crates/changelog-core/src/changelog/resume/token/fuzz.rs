//! Fuzz target: the bytes of resume tokens.
//!
//! A changed token passes its checksum by chance once in 2^32 times. So of 4,000 runs with a million cases one fails.

use std::collections::{BTreeSet, HashSet};

use changelogd_testkit::fuzz::{config, corpus, mutated, mutations};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
    sample::select,
};

use super::*;
use crate::{
    changelog::resume::{Content, Scope},
    model::{PartitionCount, WorkspaceId},
};

/// Offsets, times and numbers at which encodings change their length, or checks their answer.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![select(vec![0, 1, 127, 128, 16_384, i64::MAX - 1, i64::MAX]), 0..i64::MAX]
}

fn cursor(next: impl Strategy<Value = i64>, millis: impl Strategy<Value = i64>) -> impl Strategy<Value = Cursor> {
    (option::of(next), any::<i32>(), millis).prop_map(|(next, leader_epoch, millis)| Cursor {
        next,
        leader_epoch,
        as_of: at(millis),
    })
}

fn at(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis as u64)
}

fn token_of(cursor: impl Strategy<Value = Cursor>) -> impl Strategy<Value = Token> {
    let scope = prop_oneof![any::<[u8; 16]>().prop_map(Bytes::from_owner), Just(Bytes::new())];
    let topic_id = select(vec!["", "id", "QbDbT2NuSbK0nJKd_MBvNQ", "\u{e9}\u{1f980}"]);
    let cursors = btree_map((0..8_i32).prop_map(|p| Partition::new(p).expect("not negative")), cursor, 0..4);
    (topic_id, any::<i32>(), scope, cursors).prop_map(|(topic_id, partition_count, scope, cursors)| Token {
        topic_id: topic_id.to_owned(),
        partition_count,
        scope,
        cursors,
    })
}

/// A token of a stream.
fn token() -> impl Strategy<Value = Token> {
    token_of(cursor(number(), number()))
}

/// The time of most tokens that a client makes, in milliseconds.
const NOON: i64 = 1_764_000_000_000;

/// A token that a client may have made: also with negative offsets, and with times near each other.
fn made() -> impl Strategy<Value = Token> {
    let next = prop_oneof![9 => number(), 1 => select(vec![-1, i64::MIN])];
    prop_oneof![1 => token(), 4 => token_of(cursor(next, NOON..NOON + 1_000))]
}

/// The bytes with a checksum that is right: a client can compute it.
fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&content);
    content.extend_from_slice(&checksum.to_be_bytes());
    content
}

/// What `check` must say, by the documents: TOKEN_INVALID for another scope, RESYNC_REQUIRED for another log or age.
fn expected(token: &Token, topic: &Topic, scope: &[u8], partitions: &[i32], now: i64) -> &'static str {
    let of_stream = token.cursors.keys().map(|p| p.number()).eq(partitions.iter().copied());
    let half_retention = (topic.delete_retention.as_millis() / 2) as i128;
    let usable = token.cursors.values().filter(|cursor| cursor.next.is_some()).all(|cursor| {
        let age = i128::from(now) - i128::from(millis(cursor.as_of));
        (-60_000..=half_retention).contains(&age)
    });
    match () {
        () if token.scope != scope => "invalid",
        () if token.topic_id != topic.id || token.partition_count != topic.partition_count.get() => "resync",
        () if !of_stream => "invalid",
        () if usable => "ok",
        () => "resync",
    }
}

fn outcome<T>(result: &Result<T, TokenError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(TokenError::Invalid(_)) => "invalid",
        Err(TokenError::Resync(_)) => "resync",
    }
}

type Parts = (BTreeSet<i32>, BTreeSet<&'static str>, HashSet<String>, u8);

/// The parts of a scope. Names are short and alike, so that their joined bytes are often the same.
fn scope_parts() -> impl Strategy<Value = Parts> {
    let names =
        || prop_oneof![3 => btree_set(select(vec!["a", "b"]), 0..3), 1 => btree_set(select(vec!["ab", "aa"]), 0..3)];
    let types = names().prop_map(|names| names.into_iter().map(str::to_owned).collect());
    (btree_set(0..2_i32, 0..2), names(), types, 0..3_u8)
}

fn scope((partitions, workspaces, types, kind): &Parts) -> Option<Scope> {
    let workspaces: Vec<_> = workspaces.iter().filter_map(|w| WorkspaceId::parse(w).ok()).collect();
    let partitions: Vec<_> = partitions.iter().copied().collect();
    match (kind, &*workspaces) {
        (0, [workspace]) => Some(Scope::of_workspace(workspace.clone(), types.clone())),
        (0, _) => None,
        (1, _) => Some(Scope::of_stream(&partitions, &workspaces, types, Content::Records)),
        _ => Some(Scope::of_stream(&partitions, &workspaces, types, Content::Latest)),
    }
}

proptest! {
    #![proptest_config(config())]

    /// Covers C32, B17, S15.
    #[test]
    fn a_changed_token_is_refused_or_the_same(one in token(), other in token(), changes in mutations()) {
        let (first, second) = (one.encode(), other.encode());
        prop_assert_eq!(Token::decode(&first), Ok(one.clone()));
        let changed = mutated(&first, &second, &changes);
        match Token::decode(&changed) {
            Ok(found) if found == one => prop_assert_eq!(changed, first),
            Ok(found) => prop_assert_eq!((&found, &changed[..]), (&other, &second[..])),
            Err(TokenError::Invalid(_)) => {}
            // Few bytes have a right checksum by chance, such as those of a version 255 without content.
            Err(TokenError::Resync(_)) => {
                let content = &changed[..changed.len() - 4];
                prop_assert_ne!(content[0], VERSION);
                prop_assert_eq!(&sealed(content.to_vec()), &changed);
            }
        }
    }

    /// A client can compute a checksum, too.
    /// Covers C32, B17, S15.
    #[test]
    fn a_forged_token_has_one_meaning_and_one_encoding(
        (one, other, changes) in (made(), made(), prop_oneof![Just(Vec::new()), mutations()]),
        noise in option::weighted(0.1, vec(any::<u8>(), 0..40)),
        (retention, drift) in (0..2_000_000_u64, -1_200_000..1_200_000_i64),
        (another, partitions) in (any::<[bool; 3]>(), vec(0..8_i32, 0..4)),
    ) {
        let content = |token: &Token| token.content().to_vec();
        let mut changed = noise.unwrap_or_else(|| mutated(&content(&one), &content(&other), &changes));
        let forged = sealed(changed.clone());
        let decoded = Token::decode(&forged);
        match changed.first_mut() {
            None => prop_assert_eq!(outcome(&decoded), "invalid"),
            Some(&mut VERSION) => prop_assert_ne!(outcome(&decoded), "resync"),
            // Also the content of this version under another number, whatever it is.
            Some(version) => {
                prop_assert_eq!(outcome(&decoded), "resync");
                *version = VERSION;
            }
        }
        let Ok(found) = Token::decode(&sealed(changed.clone())) else { return Ok(()) };
        prop_assert_eq!(&*found.encode(), &*sealed(changed));
        prop_assert!(found.cursors.values().all(|cursor| cursor.next.is_none_or(|next| next >= 0)));

        let topic = Topic {
            name: "t".into(),
            id: if another[0] { "another".into() } else { found.topic_id.clone() },
            partition_count: PartitionCount::new(found.partition_count.into())
                .filter(|_| !another[1])
                .unwrap_or(PartitionCount::new(3).expect("not zero")),
            max_value_bytes: None,
            delete_retention: Duration::from_millis(retention),
        };
        let scope = if another[2] { Bytes::from_static(b"another scope") } else { found.scope.clone() };
        let own: Vec<_> = found.cursors.keys().map(|p| p.number()).collect();
        let now = NOON + drift;
        for partitions in [own, partitions] {
            let selected: Vec<_> = partitions.iter().filter_map(|p| Partition::new(*p)).collect();
            let checked = found.check(&topic, std::slice::from_ref(&scope), &selected, at(now));
            prop_assert_eq!(outcome(&checked), expected(&found, &topic, &scope, &partitions, now));
        }
    }

    /// Covers C32, B17.
    #[test]
    fn two_scopes_have_one_fingerprint_only_if_they_are_equal(one in scope_parts(), other in scope_parts()) {
        if let (Some(one), Some(other)) = (scope(&one), scope(&other)) {
            prop_assert_eq!(one.fingerprint() == other.fingerprint(), one == other);
        }
    }
}

/// Covers C32, B17, S15.
#[test]
fn the_corpus_of_tokens_is_answered_as_it_says() {
    for input in corpus(include_str!("../../../../tests/corpus/tokens.txt")) {
        let [bytes] = &input.parts[..] else { panic!("line {}: one token", input.line) };
        let decoded = Token::decode(bytes);
        assert_eq!(outcome(&decoded), input.expected, "line {}: {decoded:?}", input.line);
        if let Ok(token) = decoded {
            assert_eq!(token.encode(), bytes, "line {}", input.line);
        }
    }
}

//! Fuzz target: the bytes of the embedded store, in the engine and in the marker file.
//!
//! A changed entry passes its checksum by chance once in 2^32 times. So of 1,000 runs with a million cases one fails.

use std::{cmp::Ordering, path::Path};

use bytes::Bytes;
use changelog_core::model::{Header, Partition, PartitionCount};
use changelogd_testkit::fuzz::{config, corpus, mutated, mutations};
use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

use crate::{OpenError, layout::*, store::Identity};

/// Numbers at which the order of bytes could differ from the order of numbers.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        select(vec![0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 31, 1 << 32, i64::MAX - 1, i64::MAX]),
        0..i64::MAX,
    ]
}

fn partition() -> impl Strategy<Value = Partition> {
    let number = prop_oneof![select(vec![0, 1, 127, 128, 255, 256, 65_536, i32::MAX]), 0..i32::MAX];
    number.prop_map(|number| Partition::new(number).expect("not negative"))
}

/// Keys, some of which begin like another one.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![&b""[..], b"w", b"w/", b"ws/", b"/t/", b"i", b"\0", b"\xff", b"\xff\xff\xff\xff"]);
    vec(pieces, 0..5).prop_map(|pieces| pieces.concat())
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let name = select(vec!["", "h", "content-type", "\u{e9}"]);
    let header = (name, option::of(key()));
    vec(header.prop_map(|(key, value)| Header { key: key.to_owned(), value: value.map(Bytes::from) }), 0..3)
}

/// The content of a record.
fn content() -> impl Strategy<Value = Vec<u8>> {
    (number(), any::<i64>(), headers(), option::of(key()))
        .prop_map(|(offset, timestamp, headers, value)| encode_record(offset, timestamp, &headers, value.as_deref()))
}

fn position(key: &[u8]) -> (Option<i64>, Option<(Partition, i64)>, Option<u64>) {
    (offset_of_log(key), position_of_tombstone(key), sequence_of(key))
}

/// Every content that is decoded has one encoding, and no position in it is negative.
fn canonical(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(record) = decode_record(b"w/t/i", bytes, Bytes::copy_from_slice) {
        let timestamp = record.timestamp.expect("a record of the store has a timestamp");
        prop_assert!(record.offset >= 0);
        prop_assert_eq!(encode_record(record.offset, timestamp, &record.headers, record.value.as_deref()), bytes);
        let head = RecordHead::decode(bytes).map(|(head, _)| head);
        prop_assert_eq!(head, Some(RecordHead { offset: record.offset, timestamp, tombstone: record.is_tombstone() }));
    }
    if let Some(head) = Head::decode(bytes) {
        prop_assert!(head.next >= 0);
        prop_assert_eq!(head.encode(), bytes);
    }
    if let Some(offset) = offset_of_log(bytes) {
        let partition = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
        prop_assert!(offset >= 0);
        prop_assert!(Partition::new(partition).is_none_or(|partition| log_key(partition, offset) == bytes));
    }
    if let Some((partition, offset)) = position_of_tombstone(bytes) {
        let written = i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        prop_assert!(offset >= 0);
        prop_assert!(written < 0 || tombstone_key(written, partition, offset) == bytes);
    }
    prop_assert!(sequence_of(bytes).is_none_or(|sequence| sequence_key(sequence) == bytes));
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    /// Covers C11, S15, R35.
    #[test]
    fn changed_contents_are_refused_or_have_one_encoding(
        (one, other) in (content(), content()),
        head in (number(), any::<i64>()),
        changes in mutations(),
        noise in vec(any::<u8>(), 0..24),
    ) {
        let head = Head { next: head.0, timestamp: head.1 };
        prop_assert_eq!(Head::decode(&head.encode()), Some(head));
        prop_assert!(decode_record(b"w/t/i", &one, Bytes::copy_from_slice).is_some());
        canonical(&one)?;
        canonical(&mutated(&one, &other, &changes))?;
        canonical(&mutated(&head.encode(), &one, &changes))?;
        canonical(&noise)?;
    }

    /// Covers C47.
    #[test]
    fn entry_keys_have_the_order_of_what_they_stand_for(
        (one, other) in ((partition(), number(), number()), (partition(), number(), number())),
        (first, second) in (key(), key()),
        changes in mutations(),
    ) {
        let (logs, tombstones) = (log_key, |(p, offset, written)| tombstone_key(written, p, offset));
        prop_assert_eq!(logs(one.0, one.1).cmp(&logs(other.0, other.1)), (one.0, one.1).cmp(&(other.0, other.1)));
        let by_time = |(partition, offset, written): (Partition, i64, i64)| (written, partition, offset);
        prop_assert_eq!(tombstones(one).cmp(&tombstones(other)), by_time(one).cmp(&by_time(other)));
        // A purge takes what is below the bytes of a time.
        prop_assert_eq!(tombstones(one)[..] < other.2.to_be_bytes()[..], one.2 < other.2);
        let latest = (latest_key(one.0, &first), latest_key(other.0, &second));
        prop_assert_eq!(latest.0.cmp(&latest.1), (one.0, &first).cmp(&(other.0, &second)));
        prop_assert_eq!(latest.0.starts_with(&latest.1), one.0 == other.0 && first.starts_with(&second));
        prop_assert_eq!(key_of_latest(&latest.0), &*first);
        prop_assert_eq!(position(&logs(one.0, one.1)), (Some(one.1), None, None));
        prop_assert_eq!(position(&tombstones(one)), (None, Some((one.0, one.1)), None));
        // The batch is above all entries of each keyspace, and never among those of a partition.
        let batch = (sequence_key(one.1 as u64), sequence_key(other.1 as u64));
        prop_assert_eq!(batch.0.cmp(&batch.1), one.1.cmp(&other.1));
        for entry in [&log_key(other.0, other.1)[..], &tombstones(other), &latest.1, &head_key(other.0), IDENTITY] {
            prop_assert_eq!(entry.cmp(&batch.0), Ordering::Less);
            prop_assert!(!entry.starts_with(SEQUENCE));
        }
        prop_assert!(batch.0.starts_with(SEQUENCE) && sequence_of(&batch.0) == Some(one.1 as u64));
        prop_assert_ne!(head_key(one.0), purged_below_key(other.0));
        prop_assert_eq!(head_key(one.0).cmp(&head_key(other.0)), one.0.cmp(&other.0));
        canonical(&mutated(&logs(one.0, one.1), &tombstones(other), &changes))?;
        canonical(&mutated(&tombstones(one), &logs(other.0, other.1), &changes))?;
        canonical(&mutated(&batch.0, &logs(other.0, other.1), &changes))?;
    }

    /// Covers R35, S15.
    #[test]
    fn an_entry_is_read_only_under_its_own_key_and_unchanged(
        (place, elsewhere, content, other) in (key(), key(), key(), key()),
        (moved, changes, version) in (mutations(), mutations(), 0..4_u8),
    ) {
        let sealed = seal(&place, &content);
        // The same by the layout's documentation, with each version.
        let body = [&[version][..], &content].concat();
        let length = (place.len() as u64).to_be_bytes();
        let crc = crc32fast::hash(&[&length[..], &place, &body].concat());
        let documented = [&body[..], &crc.to_be_bytes()].concat();
        prop_assert_eq!(documented == sealed, version == 2);
        prop_assert_eq!(unseal(&place, &documented).is_some(), version == 2);
        prop_assert_eq!(unseal(&place, &sealed), Some(&*content));
        for elsewhere in [mutated(&place, &elsewhere, &moved), elsewhere.clone()] {
            prop_assert_eq!(unseal(&elsewhere, &sealed).is_some(), elsewhere == place);
        }
        // The limit between key and content can't move.
        let (mut longer, mut shorter) = (place.clone(), sealed.clone());
        longer.push(shorter.remove(0));
        prop_assert_eq!(unseal(&longer, &shorter), None);
        let changed = mutated(&sealed, &seal(&elsewhere, &other), &changes);
        let allowed = [&sealed, &seal(&place, &other)].contains(&&changed) || place == elsewhere;
        prop_assert!(allowed || unseal(&place, &changed).is_none());
    }

    /// Covers C10, R35, S15.
    #[test]
    fn a_changed_marker_file_is_refused(
        (one, other) in (any::<(u128, [u8; 2])>(), any::<(u128, [u8; 2])>()),
        changes in mutations(),
    ) {
        let identity = |(id, [low, high]): (u128, [u8; 2])| Identity {
            id: Uuid::from_u128(id),
            partition_count: PartitionCount::new(i64::from(low) * i64::from(high) + 1).expect("not zero"),
        };
        let (one, other) = (identity(one).to_text(), identity(other).to_text());
        let changed = mutated(one.as_bytes(), other.as_bytes(), &changes);
        let Ok(changed) = String::from_utf8(changed) else { return Ok(()) };
        for text in [&one, &changed] {
            match Identity::parse(Path::new("/data"), text) {
                Ok(found) => prop_assert!(found.to_text() == *text && [&one, &other].contains(&text), "{}", text),
                Err(OpenError::Format { stored, .. }) => {
                    let line = format!("format {stored}");
                    prop_assert!(stored != "2" && text.lines().any(|l| l == line), "{}", text);
                }
                Err(error) => prop_assert!(*text != one, "{}", error),
            }
        }
    }
}

/// Covers C11, R35, S15.
#[test]
fn the_corpus_of_the_layout_is_read_as_it_says() {
    for input in corpus(include_str!("../../tests/corpus/layout.txt")) {
        let parts: Vec<_> = input.parts.iter().map(Vec::as_slice).collect();
        let found = match (&*input.expected, &parts[..]) {
            ("record", [key, content]) => decode_record(key, content, Bytes::copy_from_slice).is_some(),
            ("no-record", [key, content]) => decode_record(key, content, Bytes::copy_from_slice).is_none(),
            ("head", [content]) => Head::decode(content).is_some(),
            ("no-head", [content]) => Head::decode(content).is_none(),
            ("sealed", [key, sealed, content]) => {
                unseal(key, sealed) == Some(*content) && seal(key, content) == *sealed
            }
            ("damaged", [key, sealed]) => unseal(key, sealed).is_none(),
            ("log", [key]) => offset_of_log(key).is_some(),
            ("no-log", [key]) => offset_of_log(key).is_none(),
            ("tombstone", [key]) => position_of_tombstone(key).is_some(),
            ("no-tombstone", [key]) => position_of_tombstone(key).is_none(),
            ("batch", [key]) => sequence_of(key).is_some(),
            ("no-batch", [key]) => sequence_of(key).is_none(),
            other => panic!("line {}: {other:?}", input.line),
        };
        assert!(found, "line {}: {input:?}", input.line);
        for part in parts {
            canonical(part).unwrap_or_else(|error| panic!("line {}: {error}", input.line));
        }
    }
}

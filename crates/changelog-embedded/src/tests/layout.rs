//! Fixed vectors of the stored bytes, and properties of their codecs.

use bytes::Bytes;
use changelog_core::model::{Header, Partition};
use proptest::{collection::vec, option, prelude::*};

use super::super::layout::*;

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Existing stores hold these bytes. A change here needs a new format version.
#[test]
fn the_layout_matches_existing_stores() {
    let partition = Partition::new(7).unwrap();
    let entry_key = latest_key(partition, b"w/t/1");
    let headers =
        [Header { key: "h".into(), value: Some(Bytes::from_static(b"v")) }, Header { key: "n".into(), value: None }];
    let content = encode_record(258, 1_700_000_000_000, &headers, Some(b"{}"));
    assert_eq!(hex(&entry_key), "00000007772f742f31");
    assert_eq!(hex(&log_key(partition, 258)), "000000070000000000000102");
    assert_eq!(hex(&tombstone_key(1, partition, 258)), "0000000000000001000000070000000000000102");
    assert_eq!(hex(&head_key(partition)), "7000000007");
    assert_eq!(hex(&sequence_key(258)), "ff0000000000000102");
    assert_eq!(
        hex(&content),
        "0000000000000001020000018bcfe56800\
         000000020000000168000000017600000001\
         6effffffff7b7d"
    );
    assert_eq!(hex(&seal(b"place", b"content")), "02636f6e74656e74cef92c21");
    assert_eq!(hex(&encode_record(1, 2, &[], None)), "010000000000000001000000000000000200000000");
    assert_eq!(hex(&Head { next: 3, timestamp: 4 }.encode()), "00000000000000030000000000000004");
}

/// Covers R35.
#[test]
fn the_page_on_upgrades_has_this_store_format() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/upgrading.md"));
    let row = page.lines().find_map(|line| line.strip_prefix(concat!("| ", env!("CARGO_PKG_VERSION"), " | ")));
    let columns: Vec<_> = row.expect("a row of this version").split(" | ").collect();
    assert_eq!(columns[0], VERSION.to_string());
}

#[test]
fn keys_sort_by_number() {
    let (one, two) = (Partition::new(1).unwrap(), Partition::new(2).unwrap());
    assert!(log_key(one, 255) < log_key(one, 256) && log_key(one, i64::MAX) < log_key(two, 0));
    assert!(tombstone_key(255, two, 9) < tombstone_key(256, one, 0));
}

proptest! {
    /// Covers C11.
    #[test]
    fn records_are_decoded_as_they_were_encoded(
        key in vec(any::<u8>(), 0..40), offset in 0..i64::MAX, timestamp: i64,
        value in option::of(vec(any::<u8>(), 0..60)),
        headers in vec(("[a-zé]{1,8}", option::of(vec(any::<u8>(), 0..9))), 0..4),
    ) {
        let headers: Vec<_> =
            headers.into_iter().map(|(key, value)| Header { key, value: value.map(Bytes::from) }).collect();
        let content = encode_record(offset, timestamp, &headers, value.as_deref());
        let record = decode_record(&key, &content, Bytes::copy_from_slice).unwrap();
        let head = RecordHead::decode(&content).unwrap().0;
        prop_assert_eq!((head.offset, head.timestamp, head.tombstone), (offset, timestamp, value.is_none()));
        prop_assert_eq!(record.value, value.map(Bytes::from));
        prop_assert_eq!(
            (record.offset, record.timestamp, record.key, record.headers),
            (offset, Some(timestamp), Bytes::from(key), headers)
        );
    }

    /// Covers R35.
    #[test]
    fn a_flipped_bit_or_another_key_is_found(content in vec(any::<u8>(), 0..40), at: usize, bit in 0..8u8) {
        let mut sealed = seal(b"here", &content);
        prop_assert_eq!(unseal(b"here", &sealed), Some(&content[..]));
        prop_assert_eq!(unseal(b"there", &sealed), None);
        let at = at % sealed.len();
        sealed[at] ^= 1 << bit;
        prop_assert_eq!(unseal(b"here", &sealed), None);
    }

    /// Covers S15.
    #[test]
    fn foreign_bytes_are_refused_without_panic(bytes in vec(any::<u8>(), 0..80)) {
        let _ = (unseal(b"", &bytes), decode_record(b"", &bytes, Bytes::copy_from_slice), Head::decode(&bytes));
        let _ = (offset_of_log(&bytes), position_of_tombstone(&bytes), key_of_latest(&bytes));
    }

    #[test]
    fn keys_are_decoded_as_they_were_encoded(written in 0..i64::MAX, number in 0..i32::MAX, offset in 0..i64::MAX) {
        let partition = Partition::new(number).unwrap();
        prop_assert_eq!(offset_of_log(&log_key(partition, offset)), Some(offset));
        prop_assert_eq!(sequence_of(&sequence_key(offset as u64)), Some(offset as u64));
        let tombstone = tombstone_key(written, partition, offset);
        prop_assert_eq!(position_of_tombstone(&tombstone), Some((partition, offset)));
    }
}

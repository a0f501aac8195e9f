//! Stores that exist can still be opened: a store of format 2, made once with the binary of that time, is read and
//! written.
//!
//! `tests/fixtures/embedded-format-2/make.sh` has the exact commands that made the store and the listing of its
//! records. The listing is what that binary's own `changelogd stream --output json` printed.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;

/// A line of the listing that has a record.
#[derive(Deserialize)]
struct RecordLine {
    key: String,
    partition: i32,
    offset: i64,
    timestamp: String,
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    #[serde(default)]
    tombstone: bool,
    #[serde(default)]
    headers: Vec<HeaderLine>,
}

#[derive(Deserialize)]
struct HeaderLine {
    key: String,
    value: Option<String>,
    value_base64: Option<String>,
}

/// A line of the listing that has the end of a partition.
#[derive(Deserialize)]
struct EndLine {
    snapshot: End,
}

#[derive(Deserialize)]
struct End {
    partition: i32,
    end_offset: i64,
}

fn decoded(base64: &str) -> bytes::Bytes {
    BASE64_STANDARD.decode(base64).unwrap().into()
}

impl RecordLine {
    fn record(self) -> Record {
        let value = match (&self.value, &self.value_base64) {
            (Some(json), None) => Some(bytes::Bytes::copy_from_slice(json.get().as_bytes())),
            (None, Some(base64)) => Some(decoded(base64)),
            (None, None) => None,
            (Some(_), Some(_)) => panic!("{}: two values", self.key),
        };
        assert_eq!(value.is_none(), self.tombstone, "{}", self.key);
        let header = |line: HeaderLine| Header {
            key: line.key,
            value: line.value.map(bytes::Bytes::from).or_else(|| line.value_base64.as_deref().map(decoded)),
        };
        Record {
            offset: self.offset,
            timestamp: Some(self.timestamp.parse::<jiff::Timestamp>().unwrap().as_millisecond()),
            key: self.key.into(),
            value,
            headers: self.headers.into_iter().map(header).collect(),
        }
    }
}

/// The records of the listing in order of partition and offset, and the end offset of each partition.
fn listing(path: &Path) -> (Vec<(i32, Record)>, BTreeMap<i32, i64>) {
    let (mut records, mut ends) = (Vec::new(), BTreeMap::new());
    for line in fs::read_to_string(path).unwrap().lines() {
        if line.starts_with("{\"snapshot\"") {
            let EndLine { snapshot } = serde_json::from_str(line).unwrap();
            assert!(ends.insert(snapshot.partition, snapshot.end_offset).is_none());
        } else {
            let line: RecordLine = serde_json::from_str(line).unwrap();
            records.push((line.partition, line.record()));
        }
    }
    (records, ends)
}

async fn of_partition(log: &EmbeddedLog, partition: i32, start: StartAt) -> Result<Vec<Record>, ReadError> {
    let topic = log.topic().await?;
    let selection = Selection::all(topic.partition_count);
    let partitions = vec![(Partition::new(partition).unwrap(), start)];
    let request =
        ReplayRequest { topic, partitions, selection, follow: Follow::No, owned_records: false, deadline: soon() };
    let (mut replay, mut records) = (log.replay(request).await?, Vec::new());
    while let Some(event) = replay.next().await {
        if let ReplayEvent::Records { records: batch, .. } = event? {
            records.extend(batch);
        }
    }
    Ok(records)
}

#[tokio::test]
async fn a_store_of_format_2_is_read_and_written_as_it_was() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embedded-format-2");
    let (expected, ends) = listing(&fixture.join("records.jsonl"));
    assert!(expected.len() == 11 && expected.iter().filter(|(_, r)| r.is_tombstone()).count() == 3);
    assert_eq!(ends, BTreeMap::from([(0, 3), (1, 87), (2, 4)]));
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture.join("store"), dir.path());
    // A clock that stands at 1970, so that no tombstone is old enough to be purged.
    let opened = || EmbeddedLog::open_at(&Settings::new(dir.path()), Arc::new(|| HOUR)).expect("the store opens");
    let log = opened();

    let topic = log.topic().await.unwrap();
    assert_eq!(topic.partition_count.get(), 3);
    let marker = fs::read_to_string(fixture.join("store/store")).unwrap();
    assert!(marker.starts_with(&format!("format 2\nid {}\n", topic.id)), "{marker}");
    let found: BTreeMap<_, _> =
        log.describe().await.partitions.iter().map(|p| (p.partition.number(), p.high)).collect();
    assert_eq!(found, ends);

    for partition in 0..3 {
        let expected: Vec<_> = expected.iter().filter(|(p, _)| *p == partition).map(|(_, r)| r.clone()).collect();
        assert_eq!(of_partition(&log, partition, StartAt::Low).await.unwrap(), expected);
    }
    let records: Vec<_> = expected.iter().map(|(_, record)| record.clone()).collect();
    assert_eq!(scan(&log).await.unwrap(), records);
    for workspace in ["alpha", "beta", "gamma", "large", "purged"] {
        let start = format!("{workspace}/");
        let expected: Vec<_> = records.iter().filter(|r| r.key.starts_with(start.as_bytes())).cloned().collect();
        assert_eq!(load(&log, workspace).await.unwrap(), expected, "{workspace}");
    }
    // Partition 0 had two tombstones, the last one at offset 2. Both were purged.
    let start = |offset| StartAt::Offset { offset, leader_epoch: -1 };
    let error = of_partition(&log, 0, start(2)).await.unwrap_err();
    assert!(matches!(error, ReadError::Truncated { .. }), "{error:?}");
    assert_eq!(of_partition(&log, 0, start(3)).await.unwrap(), []);

    // The offsets go on, and no timestamp is earlier than the last one.
    for (key, partition) in [("purged/t/1", 0), ("alpha/user/3", 1), ("beta/order/1", 2)] {
        let last = expected.iter().filter(|(p, _)| *p == partition).filter_map(|(_, r)| r.timestamp).max();
        let appended = put(&log, key, Some("again")).await;
        assert_eq!(
            (appended.position.offset, log.topic().await.unwrap().id.clone()),
            (ends[&partition], topic.id.clone()),
            "{key}"
        );
        assert!(appended.timestamp >= last, "{key}: {appended:?}");
    }
    let written = all(&log).await.unwrap();
    assert_eq!(written.len(), 12);
    drop(log);
    assert_eq!(all(&opened()).await.unwrap(), written);
}

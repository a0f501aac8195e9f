//! Tombstones that the cleaner removes soon, and resume tokens that are older.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use changelogd_testkit::{Isolation, shared_oracle};

use crate::{
    clients::READ,
    fault::Stage,
    sidecar::{Client, reason, said},
};

/// The cleaner has no schedule that a test could know, and it needs to run twice.
const CLEANED_WITHIN: Duration = Duration::from_secs(120);

pub fn wrong(error: &impl std::fmt::Display) -> String {
    format!("the oracle: {error}")
}

/// A topic from which the cleaner soon removes what it may.
pub const CLEANER: [(&str, &str); 4] = [
    ("min.compaction.lag.ms", "0"),
    ("min.cleanable.dirty.ratio", "0"),
    ("segment.bytes", "1048576"),
    ("segment.ms", "300"),
];

/// From now on tombstones stay for a second. The setting is not made at the start, because a load that takes longer
/// than half of it is refused.
pub fn shorten(stage: &mut Stage<'_>, topic: &str) -> Result<(), String> {
    let direct = stage.cluster.direct();
    let done = stage.blocking(|_| {
        shared_oracle().config(&direct, topic, &[("delete.retention.ms", "1000")])?;
        // A cleaner that does not know the new value yet would give the tombstones their old lifetime.
        shared_oracle().describe(&direct, topic)
    });
    let shown = done.map_err(|error| wrong(&error))?.configs.get("delete.retention.ms").cloned();
    if shown.as_deref() == Some("1000") { Ok(()) } else { Err(format!("delete.retention.ms is {shown:?}")) }
}

/// The result of a stream of records that has reached the end: the state, its snapshots, its token.
pub async fn token(client: &mut Client) -> Result<(BTreeMap<String, (String, i64)>, usize, bytes::Bytes), String> {
    let content = v1::Content::Records.into();
    let request = v1::StreamAllRequest { content, ..Default::default() };
    for _ in 0..20 {
        match crate::clients::stream(client, request.clone(), BTreeMap::new(), READ).await {
            Ok(ended) => return Ok(ended),
            // The stream took longer than half of delete.retention.ms.
            Err(status) if reason(&status).as_deref() == Some("LOG_MOVED") => {}
            Err(status) => return Err(format!("a stream was answered {}", said(&status))),
        }
    }
    Err("no stream was quick enough for a token".to_owned())
}

/// Waits until the cleaner has removed the values and tombstones of these keys.
pub async fn gone(stage: &mut Stage<'_>, topic: &str, keys: &[String]) -> Result<Duration, String> {
    let (direct, since) = (stage.cluster.direct(), Instant::now());
    loop {
        // Java's clock is right. Segments are closed by the times of their records, and our records may have wrong
        // times.
        let rolled = stage.blocking(|_| {
            shared_oracle().produce(
                &direct,
                topic,
                Some(0),
                Some(b"rolling/t/1".as_slice()),
                Some(b"1".as_slice()),
                &[],
            )
        });
        rolled.map_err(|error| wrong(&error))?;
        let dump = stage.blocking(|_| shared_oracle().dump(&direct, topic, Isolation::ReadCommitted));
        let dump = dump.map_err(|error| wrong(&error))?;
        let is_doomed = |key: &[u8]| keys.iter().any(|doomed| doomed.as_bytes() == key);
        if !dump.records.iter().any(|r| r.key.as_deref().is_some_and(is_doomed)) {
            return Ok(since.elapsed());
        }
        if since.elapsed() > CLEANED_WITHIN {
            return Err(format!("the cleaner has not taken the tombstones within {CLEANED_WITHIN:?}"));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

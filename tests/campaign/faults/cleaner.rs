//! F10 and F27: the cleaner runs while a key is overwritten all the time and slow loads read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{Mode, Proxy};
use tonic::Code;

use crate::{
    fault::{Fault, Stage},
    sidecar::{Client, limited, reason, said},
};

use super::calls::{Tally, fill, timed_load, timed_set};

/// Covers R40, F10, F27.
pub struct Cleaner;

const HOT: &str = "w/t/hot";
const STILL: usize = 500;

#[async_trait]
impl Fault for Cleaner {
    fn id(&self) -> &'static str {
        "F10+F27"
    }

    fn title(&self) -> &'static str {
        "the cleaner runs, a key is overwritten all the time, loads are slow"
    }

    fn expected(&self) -> &'static str {
        "the key is in every load, at least as new as acknowledged before, and the others are as they were"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let configs = [
            ("segment.bytes", "1048576"),
            ("segment.ms", "300"),
            ("min.cleanable.dirty.ratio", "0"),
            ("min.compaction.lag.ms", "0"),
        ];
        let topic = stage.own_topic(1, &configs)?;
        let sidecar = stage.own_sidecar(&topic, 1, &[]).await?;
        let client = sidecar.client();
        fill(&client, "w", STILL).await?;
        timed_set(client.clone(), HOT.to_owned(), "0").await.0.map_err(|s| format!("set: {}", said(&s)))?;
        let (acked, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let writer = tokio::spawn(overwrite(client.clone(), acked.clone(), stop.clone()));
        // About 800 kB a second, so that a load takes about a second.
        stage.cluster.proxies().for_each(|proxy| proxy.set(Mode::Drip(4_096, Duration::from_millis(5))));

        let (begun, mut told, mut cleaned) = (Instant::now(), Tally::default(), None);
        let least = Duration::from_secs(if stage.short { 8 } else { 30 });
        while begun.elapsed() < least || cleaned.is_none() {
            if begun.elapsed() > Duration::from_secs(90) {
                return Err(format!("the cleaner does not come; loads: {told}"));
            }
            let before = acked.load(Ordering::SeqCst);
            match timed_load(client.clone(), "w".to_owned(), 30).await.0 {
                Ok(state) => {
                    match state.get(HOT) {
                        Some((_, offset)) if *offset >= before => {}
                        other => return Err(format!("acknowledged at {before}, and a whole load has {other:?}")),
                    }
                    if state.len() != STILL + 1 {
                        return Err(format!("a whole load has {} of {} keys", state.len(), STILL + 1));
                    }
                    told.add("OK");
                }
                Err(status) if status.code() == Code::Aborted && reason(&status).is_some() => told.add(&said(&status)),
                Err(status) => return Err(format!("a load was answered {}: {}", said(&status), status.message())),
            }
            cleaned = holes(client.clone()).await?;
        }
        stop.store(true, Ordering::SeqCst);
        stage.cluster.proxies().for_each(Proxy::pass);
        let written = writer.await.map_err(|error| error.to_string())??;
        if told.count("OK") == 0 {
            return Err(format!("no load was whole: {told}"));
        }
        let (end, records) = cleaned.unwrap_or_default();
        Ok(format!(
            "{told}; the key was written {written} times; the cleaner left {records} records below offset {end}"
        ))
    }
}

async fn overwrite(client: Client, acked: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> Result<u64, String> {
    let mut written = 0;
    while !stop.load(Ordering::SeqCst) {
        written += 1;
        let (answer, _) = timed_set(client.clone(), HOT.to_owned(), &written.to_string()).await;
        let position = answer.map_err(|status| format!("set: {}", said(&status)))?;
        acked.store(position.offset, Ordering::SeqCst);
    }
    Ok(written)
}

/// The log's end and the number of records below it, if the cleaner has removed more than a few.
async fn holes(mut client: Client) -> Result<Option<(i64, u64)>, String> {
    use v1::stream_all_response::Event;
    let request = v1::StreamAllRequest { content: v1::Content::Records.into(), ..Default::default() };
    let wrong = |status: tonic::Status| format!("the stream was answered {}: {}", said(&status), status.message());
    let mut events = match client.stream_all(limited(request, 30)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::Aborted => return Ok(None),
        Err(status) => return Err(wrong(status)),
    };
    loop {
        match events.message().await {
            Ok(Some(v1::StreamAllResponse { event: Some(Event::Snapshot(s)) })) => {
                let span = s.end_offset - s.start_offset;
                return Ok((span > s.records_read as i64 + 20).then_some((s.end_offset, s.records_read)));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err("the stream ended as OK without its snapshot".to_owned()),
            Err(status) if status.code() == Code::Aborted => return Ok(None),
            Err(status) => return Err(wrong(status)),
        }
    }
}

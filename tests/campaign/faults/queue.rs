//! F18: the producer's queue is full.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::BROKERS;
use futures_util::{StreamExt, stream};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    fault::{Fault, Stage},
    sidecar::{limited, raw, reason, said},
};

use super::calls::retried_load;

/// Covers C57, R30, F18.
pub struct Full;

const WRITES: usize = 2_000;

#[async_trait]
impl Fault for Full {
    fn id(&self) -> &'static str {
        "F18"
    }

    fn title(&self) -> &'static str {
        "all brokers are frozen and the producer's queue is full"
    }

    fn expected(&self) -> &'static str {
        "RESOURCE_EXHAUSTED PRODUCER_QUEUE_FULL with RetryInfo, at once; no accepted write lost"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let topic = stage.own_topic(1, &[])?;
        let small = ["--kafka-property", "queue.buffering.max.messages=100", "--write-timeout=60s"];
        let sidecar = stage.own_sidecar(&topic, 1, &[small[2], &format!("{}={}", small[0], small[1])]).await?;
        stage.blocking(|cluster| BROKERS.iter().for_each(|id| cluster.pause(*id)));
        let client = sidecar.client();
        let writes = (0..WRITES).map(|i| {
            let (mut client, key) = (client.clone(), format!("w/t/{i}"));
            async move {
                let ack = v1::Ack::Buffered.into();
                let request = v1::SetRequest { changelog_id: key.clone(), value: raw("1"), ack, ..Default::default() };
                let asked = std::time::Instant::now();
                let answer = client.set(limited(request, 5)).await;
                (key, answer.map(drop), asked.elapsed())
            }
        });
        let answers: Vec<_> = stream::iter(writes).buffer_unordered(50).collect().await;
        let slowest = answers.iter().map(|(.., took)| *took).max().unwrap_or_default();
        let (mut accepted, mut refused) = (BTreeMap::new(), 0);
        for (key, answer, _) in answers {
            match answer {
                Ok(()) => drop(accepted.insert(key, ())),
                Err(status) => {
                    let full = reason(&status).as_deref() == Some("PRODUCER_QUEUE_FULL");
                    let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
                    if status.code() != Code::ResourceExhausted || !full || retry.is_none() {
                        return Err(format!("a write was answered {}, RetryInfo {retry:?}", said(&status)));
                    }
                    refused += 1;
                }
            }
        }
        if refused == 0 || slowest > Duration::from_secs(3) {
            return Err(format!("{refused} of {WRITES} refused, the slowest after {slowest:?}"));
        }
        stage.hold().await;
        stage.blocking(|cluster| BROKERS.iter().for_each(|id| cluster.resume(*id)));
        let mut flushed = v1::FlushResponse { remaining: 1, ..Default::default() };
        for _ in 0..3 {
            if flushed.remaining == 0 {
                break;
            }
            let request = v1::FlushRequest { timeout_ms: 30_000, failures_after: 0 };
            flushed = client.clone().flush(request).await.map_err(|s| format!("flush: {}", said(&s)))?.into_inner();
        }
        if flushed.remaining != 0 {
            return Err(format!("flush: {} remaining", flushed.remaining));
        }
        for failure in &flushed.failures {
            accepted.remove(&failure.key);
        }
        let loaded = retried_load(&client, "w").await?;
        let lost = accepted.keys().filter(|key| !loaded.contains_key(*key)).count();
        let more = loaded.keys().filter(|key| !accepted.contains_key(*key)).count();
        let seen = format!(
            "{} of {WRITES} accepted, {refused} refused, the slowest answer after {:.2} s; {} named by Flush, {lost} \
             lost, {more} too many",
            accepted.len() + flushed.failures.len(),
            slowest.as_secs_f64(),
            flushed.failures.len()
        );
        // A failed write whose outcome is not known may be there.
        if lost > 0 || more > flushed.failures.len() { Err(seen) } else { Ok(seen) }
    }
}

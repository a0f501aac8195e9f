//! R50: the sidecar's wall clock is two hours ahead, and then two hours behind. Its topic takes records within an hour
//! of the brokers' clock.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{Isolation, shared_oracle};
use tokio::{task::block_in_place, time::sleep};

use super::{
    clock::{Clock, HOUR},
    own::{Clients, Content, is},
};
use crate::{
    fault::{Fault, PARTITIONS, Stage},
    sidecar::{Client, limited, said},
};

const SKEW: &str = "CLOCK_SKEW";
const PATIENCE: Duration = Duration::from_secs(30);
/// The first is the default of Kafka 4.
const WITHIN_AN_HOUR: [(&str, &str); 2] =
    [("message.timestamp.after.max.ms", "3600000"), ("message.timestamp.before.max.ms", "3600000")];

/// Covers R50.
pub struct Skewed;

#[async_trait]
impl Fault for Skewed {
    fn id(&self) -> &'static str {
        "R50"
    }

    fn title(&self) -> &'static str {
        "the sidecar's clock is two hours ahead, then two hours behind; its topic takes records within an hour"
    }

    fn expected(&self) -> &'static str {
        "writes: FAILED_PRECONDITION CLOCK_SKEW, nothing written; the finding CLOCK_SKEW in Describe; loads whole; \
         once the clock is right, writes are accepted and the finding is gone"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let clock = Clock::make()?;
        let configs = [&WITHIN_AN_HOUR[..], &[("min.compaction.lag.ms", "60000")]].concat();
        let topic = stage.own_topic(PARTITIONS, &configs)?;
        let process = clock.sidecar(stage, &topic, PARTITIONS).await?;
        let (mut client, direct) = (process.client(), stage.cluster.direct());
        let clients = Clients::start(&process.api, 3, &Content::new(), true);
        clients.served(6, PATIENCE).await?;
        let mut seen = Vec::new();
        for (shift, what, limit) in [(2, "2 h ahead", WITHIN_AN_HOUR[0]), (-2, "2 h behind", WITHIN_AN_HOUR[1])] {
            let wrong = |error: String| format!("{what}: {error}");
            clock.set(shift * HOUR)?;
            let skewed = skewed(&mut client, &clients, limit, stage.window / 4).await.map_err(wrong)?;
            block_in_place(|| none_is_skewed(&direct, &topic)).map_err(wrong)?;
            clock.set(0)?;
            let put_right = Instant::now();
            clients.served(6, PATIENCE).await.map_err(|error| format!("after {what}: {error}"))?;
            while finding(&mut client).await?.is_some() {
                if put_right.elapsed() > PATIENCE {
                    return Err(format!("after {what}: the finding has not gone in {PATIENCE:?} with the right clock"));
                }
                sleep(Duration::from_millis(50)).await;
            }
            let took = put_right.elapsed().as_secs_f64();
            seen.push(format!("{what}: {skewed}; accepted again, without the finding, {took:.1} s after it was right"));
        }
        let own = clients.end().await?;
        let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
        Ok(format!("{}; {own}", seen.join("; ")))
    }
}

/// Waits until writes are refused, and checks all answers and the finding for a while.
async fn skewed(
    client: &mut Client,
    clients: &Clients,
    (property, millis): (&str, &str),
    window: Duration,
) -> Result<String, String> {
    // Writes that were called before the clock moved may be accepted.
    let refused = clients.refused_by(&[SKEW], PATIENCE).await?;
    let told = Instant::now();
    sleep(window.max(Duration::from_secs(1))).await;
    let finding = finding(client).await?.ok_or("Describe has no such finding")?;
    for (text, what) in [(refused.message(), "the status"), (&finding.message, "the finding")] {
        for named in ["this machine's clock is at ", &format!("{millis} ms "), property] {
            if !text.contains(named) {
                return Err(format!("{what} does not name {named:?}: {text}"));
            }
        }
    }
    if finding.severity() != v1::Severity::Error {
        return Err(format!("the finding is no error: {finding:?}"));
    }
    let (acked, refusals) = (clients.acked_since(told).len(), clients.refusals_since(told));
    if acked > 0 {
        return Err(format!("{acked} writes were accepted after {SKEW}"));
    }
    if let Some(other) = refusals.iter().find(|r| r.what != "set" || !is(&r.status, SKEW)) {
        let (what, status) = (other.what, &other.status);
        return Err(format!("a {what} was answered {}: {}", said(status), status.message()));
    }
    let loads = clients.loads_since(told);
    if loads == 0 || refusals.is_empty() {
        return Err(format!("{loads} loads and {} refused writes in {window:?}", refusals.len()));
    }
    Ok(format!("{} to all of {} writes, and the finding; {loads} loads meanwhile", said(&refused), refusals.len()))
}

async fn finding(client: &mut Client) -> Result<Option<v1::Finding>, String> {
    let described = client.describe(limited(v1::DescribeRequest::default(), 10)).await;
    let described = described.map_err(|status| format!("describe: {}: {}", said(&status), status.message()))?;
    Ok(described.into_inner().findings.into_iter().find(|finding| finding.code == SKEW))
}

/// Proves that nothing was written: a record that is written has the time of the sidecar's clock.
fn none_is_skewed(direct: &str, topic: &str) -> Result<(), String> {
    let dump = shared_oracle().dump(direct, topic, Isolation::ReadUncommitted);
    let dump = dump.map_err(|error| format!("the oracle: {error}"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    match dump.records.iter().find(|record| (record.timestamp - now).abs() > HOUR * 1_000) {
        Some(record) => Err(format!("a refused write is in the log: {record:?}")),
        None if dump.records.is_empty() => Err("no write is in the log, not even those from before".to_owned()),
        None => Ok(()),
    }
}

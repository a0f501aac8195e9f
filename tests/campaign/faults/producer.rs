//! F17: the producer meets a real fatal error. A topic on which the leader alone may acknowledge loses the records that
//! only the dead leader had. The next leader has not seen the producer's last sequence numbers, and refuses the
//! following ones as out of order.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{BROKERS, shared_oracle, unique_topic};
use tonic::{Code, Status};

use super::calls::Tally;
use crate::{
    clients::{READ, load, nothing_was_written},
    fault::{Fault, Stage, WRITE_TIMEOUT},
    sidecar::{Client, limited, raw, reason, said},
};

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![Box::new(Fatal)]
}

const PATIENCE: Duration = Duration::from_secs(60);
/// The number of writes to both replicas, and then to the leader alone.
const BEFORE: u64 = 5;
const ALONE: u64 = 20;

/// Covers C54, C55, R29, F17.
struct Fatal;

async fn set(client: &mut Client, key: &str, value: &str) -> Result<i64, Status> {
    let set = v1::SetRequest { changelog_id: key.to_owned(), value: raw(value), ..Default::default() };
    let position = client.set(limited(set, WRITE_TIMEOUT + 4)).await?.into_inner().position;
    Ok(position.map_or(-1, |p| p.offset))
}

#[async_trait]
impl Fault for Fatal {
    fn id(&self) -> &'static str {
        "F17"
    }

    fn title(&self) -> &'static str {
        "the producer meets a fatal error: its sequence was lost with an unclean election"
    }

    fn expected(&self) -> &'static str {
        "UNAVAILABLE for writes that were not sent, OUTCOME_UNKNOWN for those in flight; a new producer (within a \
         second, which a unit test measures) and with it acknowledgements again; no write is sent again by itself"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let (topic, direct) = (unique_topic("campaign"), stage.cluster.direct());
        let configs =
            [("cleanup.policy", "compact"), ("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
        let created = stage.blocking(|_| shared_oracle().create(&direct, &topic, 1, 2, &configs));
        created.map_err(|error| format!("the oracle: {error}"))?;
        // There is one producer, so this one meets the error.
        let sidecar = stage.own_sidecar(&topic, 1, &["--producers=1"]).await?;
        let mut client = sidecar.client();
        let failed = |s: Status| format!("a write before the fault: {}: {}", said(&s), s.message());
        for n in 0..BEFORE {
            set(&mut client, "own/t/both", &n.to_string()).await.map_err(failed)?;
        }
        let described = stage.blocking(|_| shared_oracle().describe(&direct, &topic));
        let described = described.map_err(|error| format!("the oracle: {error}"))?;
        let partition = described.partitions.first().ok_or("no partition")?;
        let leader = partition.leader;
        let follower = *partition.replicas.iter().find(|id| **id != leader).ok_or("no follower")?;
        debug_assert!(BROKERS.contains(&follower));

        stage.blocking(|cluster| cluster.kill(follower));
        let mut last = 0;
        for n in 0..ALONE {
            last = set(&mut client, "own/t/alone", &n.to_string()).await.map_err(failed)?;
        }
        stage.blocking(|cluster| {
            cluster.kill(leader);
            cluster.restart(follower);
        });
        let since = Instant::now();
        while stage.blocking(|cluster| cluster.leader_of(&topic, 0)) != follower {
            if since.elapsed() > PATIENCE {
                return Err(format!("broker {follower} does not become the leader within {PATIENCE:?}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let seen = written(&sidecar, &topic, stage, last).await;
        stage.blocking(|cluster| cluster.restart(leader));
        let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
        seen
    }
}

/// Writes a new key each time, until writes are acknowledged again and the fatal error was met.
async fn written(
    sidecar: &crate::sidecar::Sidecar,
    topic: &str,
    stage: &mut Stage<'_>,
    last: i64,
) -> Result<String, String> {
    let (mut told, since) = (Tally::default(), Instant::now());
    let (mut nothing, mut acked, mut first_fatal) = (Vec::new(), Vec::new(), None::<Instant>);
    for n in 0.. {
        // Several writes at a time: some are in flight at the error, some wait.
        let mut round = tokio::task::JoinSet::new();
        for i in 0..8 {
            let (mut client, key) = (sidecar.client(), format!("own/t/{n}-{i}"));
            round.spawn(async move { (set(&mut client, &key, "1").await, key) });
        }
        let mut refused = 0;
        while let Some(answer) = round.join_next().await {
            match answer.map_err(|error| error.to_string())? {
                (Ok(_), key) => acked.push(key),
                (Err(status), key) => {
                    let unknown = reason(&status).as_deref() == Some("OUTCOME_UNKNOWN");
                    let not_written = status.code() == Code::Unavailable && reason(&status).is_some();
                    if !unknown && !not_written {
                        return Err(format!(
                            "a write at a fatal error was answered {}: {}",
                            said(&status),
                            status.message()
                        ));
                    }
                    if nothing_was_written(&status) {
                        nothing.push(key);
                    }
                    told.add(&said(&status));
                    refused += 1;
                    first_fatal.get_or_insert_with(Instant::now);
                }
            }
        }
        if refused == 0 && acked.len() >= 16 {
            break;
        }
        if since.elapsed() > PATIENCE {
            return Err(format!("writes are not acknowledged again within {PATIENCE:?}; answers: {told}"));
        }
    }
    let again = first_fatal.map(|at| at.elapsed());
    let log = std::fs::read_to_string(&sidecar.log).unwrap_or_default();
    let fatal = log.lines().find(|line| line.contains("a producer met a fatal error")).map(str::to_owned);

    let direct = stage.cluster.direct();
    let described = stage.blocking(|_| shared_oracle().describe(&direct, topic));
    let low_again = described.ok().and_then(|d| d.partitions.first().map(|p| p.high)).unwrap_or(0);
    let since = Instant::now();
    let (state, whole) = loop {
        let request = v1::LoadWorkspaceRequest { workspace_id: "own".to_owned(), ..Default::default() };
        match load(&mut sidecar.client(), request, READ).await {
            Ok(loaded) => break loaded,
            // The cluster is still restarting.
            Err(status) if status.code() == Code::Unavailable && since.elapsed() < PATIENCE => {}
            Err(status) => return Err(format!("a load afterwards: {}: {}", said(&status), status.message())),
        }
    };
    if let Some(lost) = acked.iter().find(|key| !whole || !state.contains_key(*key)) {
        return Err(format!("{lost} was acknowledged after the election and is not there"));
    }
    if let Some(written) = nothing.iter().find(|key| state.contains_key(*key)) {
        return Err(format!("{written} was said not to be written, and is there"));
    }
    let Some(fatal) = fatal else {
        return Err(format!(
            "no fatal error was met: an election that lost offsets up to {last} (its end is {low_again} now) was \
             answered with {told}"
        ));
    };
    let what: serde_json::Value = serde_json::from_str(&fatal).unwrap_or_default();
    Ok(format!(
        "{}: {told}; acknowledged again {:.1} s after the first refusal; {} writes acknowledged after it are there; {} \
         answered as not written are not",
        what["text"].as_str().unwrap_or(&fatal),
        again.unwrap_or_default().as_secs_f64(),
        acked.len(),
        nothing.len()
    ))
}

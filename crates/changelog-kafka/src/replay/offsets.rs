//! Queries of the offsets between which a partition is read.
//!
//! Promises that the high watermark is the one of the partition's leader, and that an election is waited for, bounded.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use changelog_core::{
    log::{ReadError, TopicProblem, TopicState},
    model::Partition,
};
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::watch;

use super::cluster::{OffsetSnapshot, Offsets};
use crate::{
    clients::Clients,
    ffi::{self, NativeError, OffsetSpec},
    timeouts::{OFFSETS_QUERY, RETRY_DELAY},
};

/// The answers of leaders to one query, for each partition.
struct Listed {
    offsets: Vec<Result<Offsets, Failed>>,
    /// When the query was sent.
    at: Instant,
    wall: SystemTime,
}

/// Why there are no offsets.
struct Failed {
    error: ReadError,
    /// An election may end it.
    is_transient: bool,
}

/// Queries offsets from partition leaders.
#[derive(Clone)]
pub struct OffsetClient {
    pub clients: Arc<Clients>,
    pub topic: String,
    /// The watched state of the topic. A problem with the topic ends the retries.
    pub state: watch::Receiver<TopicState>,
}

fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::OffsetNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::ReplicaNotAvailable
            | Code::BrokerTransportFailure
            | Code::RequestTimedOut
            // librdkafka's code if no partition has a leader in one metadata response. It means a deleted topic too,
            // but the topic's watched state reports that.
            | Code::NoEnt
    )
}

impl OffsetClient {
    /// Low watermark, last stable offset and high watermark of each partition. Blocks until the deadline, and at most
    /// for [`OFFSETS_QUERY`]. Waits for an election within that time.
    pub fn list(&self, partitions: &[Partition], deadline: Instant) -> Result<OffsetSnapshot, ReadError> {
        let Listed { offsets, at, wall } = self.listed(partitions, deadline)?;
        let offsets = offsets.into_iter().collect::<Result<_, _>>().map_err(|Failed { error, .. }| error)?;
        Ok(OffsetSnapshot { offsets, at, wall })
    }

    /// The same for those partitions whose leaders answer, and when the query was sent.
    pub fn list_known(&self, partitions: &[Partition], deadline: Instant) -> (Vec<Offsets>, Instant) {
        match self.listed(partitions, deadline) {
            Ok(listed) => (listed.offsets.into_iter().flatten().collect(), listed.at),
            Err(_) => (Vec::new(), Instant::now()),
        }
    }

    fn listed(&self, partitions: &[Partition], deadline: Instant) -> Result<Listed, ReadError> {
        let until = deadline.min(Instant::now() + OFFSETS_QUERY);
        loop {
            let listed = self.query(partitions, until);
            let failures: Vec<_> = match &listed {
                Ok(listed) => listed.offsets.iter().filter_map(|of| of.as_ref().err()).collect(),
                Err(failed) => vec![failed],
            };
            let is_final = failures.iter().any(|failed| !failed.is_transient);
            if failures.is_empty() || is_final || Instant::now() + RETRY_DELAY >= until {
                return listed.map_err(|Failed { error, .. }| error);
            }
            std::thread::sleep(RETRY_DELAY);
            if let TopicState::Invalid(problem) = &*self.state.borrow() {
                return Err(problem.clone().into());
            }
        }
    }

    fn query(&self, partitions: &[Partition], until: Instant) -> Result<Listed, Failed> {
        let numbers: Vec<_> = partitions.iter().map(|p| p.number()).collect();
        let (at, wall) = (Instant::now(), SystemTime::now());
        // In this order, because a broker answers a connection's requests one after another. A last stable offset taken
        // before the high watermark would look like an open transaction while records are written.
        let specs = [OffsetSpec::Low, OffsetSpec::High, OffsetSpec::LastStable];
        let timeout = until.saturating_duration_since(at).max(Duration::from_millis(1));
        let listed = ffi::list_offsets(&self.clients.admin(), &self.topic, &numbers, specs, timeout);
        let [low, high, last_stable] = listed.map_err(|e| self.request_error(&e))?;
        let offsets_of = |partition: Partition| {
            let of = |list: &[ffi::PartitionOffset]| {
                let found = list.iter().find(|(p, _)| *p == partition.number()).map(|(_, offset)| *offset);
                found.unwrap_or(Err(Code::UnknownPartition)).map_err(|code| self.partition_error(partition, code))
            };
            let high = of(&high)?;
            // It was taken after the high watermark, so it may be above it.
            let last_stable = of(&last_stable)?.min(high);
            Ok(Offsets { partition, low: of(&low)?, last_stable, high })
        };
        Ok(Listed { offsets: partitions.iter().copied().map(offsets_of).collect(), at, wall })
    }

    fn request_error(&self, error: &NativeError) -> Failed {
        self.failed(error.code, &error.text, || error.to_string())
    }

    fn partition_error(&self, partition: Partition, code: Code) -> Failed {
        self.failed(code, &code.to_string(), || format!("partition {partition}: its leader gives no offsets: {code}"))
    }

    fn failed(&self, code: Code, text: &str, cause: impl FnOnce() -> String) -> Failed {
        let error = self.topic_problem(code, text).unwrap_or_else(|| ReadError::Unreachable { cause: cause() });
        Failed { error, is_transient: is_transient(code) }
    }

    fn topic_problem(&self, code: Code, text: &str) -> Option<ReadError> {
        let topic = self.topic.clone();
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                Some(TopicProblem::NotFound { topic }.into())
            }
            Code::TopicAuthorizationFailed => {
                let what = format!("read topic {topic:?}");
                Some(TopicProblem::NotAuthorized { what, cause: text.to_owned() }.into())
            }
            _ => None,
        }
    }
}

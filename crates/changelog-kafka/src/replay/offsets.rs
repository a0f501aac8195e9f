//! Queries of the offsets between which a partition is read.
//!
//! Promises that the high watermark is the one of the partition's leader, and that an election is waited for, bounded.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use changelog_core::{
    log::{EndOffset, Ends, ReadError, TopicProblem, TopicState},
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
struct Listed<T> {
    offsets: Vec<Result<T, Failed>>,
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

fn all_of<T>(offsets: Vec<Result<T, Failed>>) -> Result<Vec<T>, ReadError> {
    offsets.into_iter().collect::<Result<_, _>>().map_err(|Failed { error, .. }| error)
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
        let Listed { offsets, at, wall } = self.listed(deadline, |until| self.query(partitions, until))?;
        Ok(OffsetSnapshot { offsets: all_of(offsets)?, at, wall })
    }

    /// The high watermark of each partition, with the leader epoch of the answer. Blocks as [`OffsetClient::list`].
    pub fn ends(&self, partitions: &[Partition], deadline: Instant) -> Result<Ends, ReadError> {
        let Listed { offsets, at, wall } = self.listed(deadline, |until| self.query_ends(partitions, until))?;
        Ok(Ends { ends: all_of(offsets)?, asked_at: at.into(), asked_at_wall: wall })
    }

    /// The same for those partitions whose leaders answer, and when the query was sent.
    pub fn list_known(&self, partitions: &[Partition], deadline: Instant) -> (Vec<Offsets>, Instant) {
        match self.listed(deadline, |until| self.query(partitions, until)) {
            Ok(listed) => (listed.offsets.into_iter().flatten().collect(), listed.at),
            Err(_) => (Vec::new(), Instant::now()),
        }
    }

    fn listed<T>(
        &self,
        deadline: Instant,
        query: impl Fn(Instant) -> Result<Listed<T>, Failed>,
    ) -> Result<Listed<T>, ReadError> {
        let until = deadline.min(Instant::now() + OFFSETS_QUERY);
        loop {
            let listed = query(until);
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

    fn query(&self, partitions: &[Partition], until: Instant) -> Result<Listed<Offsets>, Failed> {
        let (at, wall) = (Instant::now(), SystemTime::now());
        // In this order, because a broker answers a connection's requests one after another. A last stable offset taken
        // before the high watermark would look like an open transaction while records are written.
        let specs = [OffsetSpec::Low, OffsetSpec::High, OffsetSpec::LastStable];
        let [low, high, last_stable] = self.ask(partitions, specs, until)?;
        let offsets_of = |partition: Partition| {
            let of = |list: &[ffi::PartitionOffset]| self.offset_of(partition, list).map(|(offset, _)| offset);
            let high = of(&high)?;
            // It was taken after the high watermark, so it may be above it.
            let last_stable = of(&last_stable)?.min(high);
            Ok(Offsets { partition, low: of(&low)?, last_stable, high })
        };
        Ok(Listed { offsets: partitions.iter().copied().map(offsets_of).collect(), at, wall })
    }

    fn query_ends(&self, partitions: &[Partition], until: Instant) -> Result<Listed<EndOffset>, Failed> {
        let (at, wall) = (Instant::now(), SystemTime::now());
        let [high] = self.ask(partitions, [OffsetSpec::High], until)?;
        let end_of = |partition: Partition| {
            let (offset, leader_epoch) = self.offset_of(partition, &high)?;
            Ok(EndOffset { partition, offset, leader_epoch })
        };
        Ok(Listed { offsets: partitions.iter().copied().map(end_of).collect(), at, wall })
    }

    fn ask<const N: usize>(
        &self,
        partitions: &[Partition],
        specs: [OffsetSpec; N],
        until: Instant,
    ) -> Result<[Vec<ffi::PartitionOffset>; N], Failed> {
        let numbers: Vec<_> = partitions.iter().map(|p| p.number()).collect();
        let timeout = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let listed = ffi::list_offsets(&self.clients.admin(), &self.topic, &numbers, specs, timeout);
        listed.map_err(|e| self.request_error(&e))
    }

    /// The offset of a partition, and the leader epoch of the answer.
    fn offset_of(&self, partition: Partition, list: &[ffi::PartitionOffset]) -> Result<(i64, i32), Failed> {
        let found = list.iter().find(|of| of.partition == partition.number());
        let found = found.map_or(Err(Code::UnknownPartition), |of| Ok((of.offset?, of.leader_epoch)));
        found.map_err(|code| self.partition_error(partition, code))
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

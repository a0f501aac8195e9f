//! The offsets between which a partition is read, asked of its leader.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rdkafka::{admin::AdminClient, error::RDKafkaErrorCode as Code};
use tokio::sync::watch;

use super::{
    context::Context,
    native::{self, Bound, NativeError},
};
use crate::{
    log::{ReadError, TopicProblem, TopicState},
    model::Partition,
};

/// How long the leaders may take to say their offsets, elections included.
const ASK: Duration = Duration::from_millis(2_500);
/// Between two questions about the same thing.
const PAUSE: Duration = Duration::from_millis(50);

/// One partition's offsets, at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub partition: Partition,
    pub low: i64,
    pub last_stable: i64,
    pub high: i64,
}

/// Offsets of partitions, and a time before they were taken.
#[derive(Debug)]
pub struct Taken {
    pub offsets: Vec<Offsets>,
    pub at: Instant,
    pub wall: SystemTime,
}

/// Asks leaders.
#[derive(Clone)]
pub struct Offsetter {
    pub admin: Arc<AdminClient<Context>>,
    pub topic: String,
    /// What is known of the topic meanwhile.
    pub state: watch::Receiver<TopicState>,
}

fn is_passing(code: Code) -> bool {
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
            // What librdkafka says of partitions of which none has a leader after one look at the metadata; also of a topic that
            // has gone, which is known in another way.
            | Code::NoEnt
    )
}

impl Offsetter {
    /// Low watermark, last stable offset and high watermark of each partition, the last as its leader alone knows it. Blocks,
    /// bounded by the deadline and by seconds; an election within that is waited for.
    pub fn take(&self, partitions: &[Partition], deadline: Instant) -> Result<Taken, ReadError> {
        let until = deadline.min(Instant::now() + ASK);
        loop {
            match self.try_take(partitions, until) {
                Ok(taken) => return Ok(taken),
                Err((error, passing)) => {
                    if !passing || Instant::now() + PAUSE >= until {
                        return Err(error);
                    }
                }
            }
            std::thread::sleep(PAUSE);
            if let TopicState::Invalid(problem) = &*self.state.borrow() {
                return Err(problem.clone().into());
            }
        }
    }

    fn try_take(&self, partitions: &[Partition], until: Instant) -> Result<Taken, (ReadError, bool)> {
        let numbers: Vec<_> = partitions.iter().map(|p| p.number()).collect();
        let (at, wall) = (Instant::now(), SystemTime::now());
        // In this order: a broker answers a connection's requests one after another, and a last stable offset from before the
        // high watermark would, under writes, look like an open transaction.
        let bounds = [Bound::Low, Bound::High, Bound::LastStable];
        let timeout = until.saturating_duration_since(at).max(Duration::from_millis(1));
        let listed = native::list_offsets(&self.admin, &self.topic, &numbers, bounds, timeout);
        let [low, high, last_stable] = listed.map_err(|e| self.whole(&e))?;
        let mut offsets = Vec::new();
        for partition in partitions {
            let of = |list: &[native::PartitionOffset]| {
                let found = list.iter().find(|(p, _)| *p == partition.number()).map(|(_, offset)| *offset);
                found.unwrap_or(Err(Code::UnknownPartition)).map_err(|code| self.one(*partition, code))
            };
            let high = of(&high)?;
            // It may have gone on meanwhile.
            let last_stable = of(&last_stable)?.min(high);
            offsets.push(Offsets { partition: *partition, low: of(&low)?, last_stable, high });
        }
        Ok(Taken { offsets, at, wall })
    }

    fn whole(&self, error: &NativeError) -> (ReadError, bool) {
        let known = self.problem(error.code, &error.text);
        (known.unwrap_or_else(|| ReadError::Unreachable { cause: error.to_string() }), is_passing(error.code))
    }

    fn one(&self, partition: Partition, code: Code) -> (ReadError, bool) {
        let cause = || format!("partition {partition}: its leader gives no offsets: {code}");
        let known = self.problem(code, &code.to_string());
        (known.unwrap_or_else(|| ReadError::Unreachable { cause: cause() }), is_passing(code))
    }

    fn problem(&self, code: Code, text: &str) -> Option<ReadError> {
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

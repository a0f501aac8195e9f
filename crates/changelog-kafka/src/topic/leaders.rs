//! The partitions' leaders and replicas, as last queried. A failed write may be in the log only if its partition's
//! leader may have changed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    ffi::{DescribedPartition, DescribedTopic},
    timeouts::{LEADER_MAX_AGE, MAX_OTHER_BROKERS},
};

/// The leader of a partition, and when it was queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderObservation {
    /// -1 = none, or not known.
    broker: i32,
    /// How often the leader has changed.
    changes: u64,
    as_of: Option<Instant>,
    /// No broker could be reached at that time.
    unreachable: bool,
}

impl LeaderObservation {
    /// Whether an election is known to have happened between this observation and `now`.
    fn differs_from(&self, now: &Self) -> bool {
        (self.broker, self.changes) != (now.broker, now.changes)
    }

    /// Whether an election may have happened between this observation and `now`. If the queries of the topic show that
    /// the brokers were unreachable all the time, they have taken no write. An election does not matter then.
    pub fn may_have_changed(&self, now: &Self) -> bool {
        let recent = now.as_of.is_some_and(|as_of| as_of.elapsed() <= LEADER_MAX_AGE);
        let never_reached = self.unreachable && self.as_of == now.as_of;
        self.differs_from(now) || !(recent || never_reached)
    }
}

/// The last description of the topic, and how often its leaders have changed.
#[derive(Debug, Default)]
pub struct LeaderHistory {
    described: Option<DescribedTopic>,
    /// When the query was sent that the leaders are from.
    as_of: Option<Instant>,
    /// By partition: how often its leader differed from the one before.
    changes: BTreeMap<i32, u64>,
}

impl LeaderHistory {
    /// Takes a new description.
    pub fn describe(&mut self, described: DescribedTopic) {
        let leaders: BTreeMap<i32, i32> = self.partitions().map(|p| (p.partition, p.leader)).collect();
        for partition in &described.partitions {
            if leaders.get(&partition.partition).is_some_and(|leader| *leader != partition.leader) {
                *self.changes.entry(partition.partition).or_default() += 1;
            }
        }
        self.described = Some(described);
    }

    /// The topic is served, and the leaders are from a query that was sent at this time.
    pub fn set_age(&mut self, queried_at: Instant) {
        self.as_of = Some(queried_at);
    }

    pub fn described(&self) -> Option<&DescribedTopic> {
        self.described.as_ref()
    }

    fn partitions(&self) -> impl Iterator<Item = &DescribedPartition> {
        self.described.iter().flat_map(|d| &d.partitions)
    }

    /// A partition's leader. `unreachable`: no broker can be reached now.
    pub fn leader(&self, partition: i32, unreachable: bool) -> LeaderObservation {
        LeaderObservation {
            broker: self.partitions().find(|p| p.partition == partition).map_or(-1, |p| p.leader),
            changes: self.changes.get(&partition).copied().unwrap_or_default(),
            as_of: self.as_of,
            unreachable,
        }
    }

    /// How many replicas of a partition are in sync.
    pub fn in_sync(&self, partition: i32) -> Option<usize> {
        self.partitions().find(|p| p.partition == partition).map(|p| p.isr.len())
    }

    /// Brokers that may be queried in addition to the controller.
    pub fn brokers(&self) -> Vec<i32> {
        let brokers: BTreeSet<i32> = self.partitions().flat_map(|p| &p.replicas).copied().collect();
        brokers.into_iter().take(MAX_OTHER_BROKERS).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Covers C54, R28.
    #[test]
    fn a_timed_out_write_is_not_written_only_if_the_leader_cannot_have_changed() {
        let now = Instant::now();
        let old = now.checked_sub(Duration::from_secs(10)).unwrap();
        let leader =
            |broker, as_of, unreachable| LeaderObservation { broker, changes: 0, as_of: Some(as_of), unreachable };
        assert!(!leader(1, old, false).may_have_changed(&leader(1, now, false)));
        assert!(leader(1, old, false).may_have_changed(&leader(2, now, false)));
        // No broker has answered since, so a leader that is gone may have rejected it.
        assert!(leader(1, old, false).may_have_changed(&leader(1, old, true)));
        // It was queued while no broker could be reached, and none has been reached since.
        assert!(!leader(1, old, true).may_have_changed(&leader(1, old, true)));
        // The leader changes and changes back.
        let mut history = LeaderHistory::default();
        let described = |leader| DescribedTopic {
            id: String::new(),
            partitions: vec![DescribedPartition { partition: 0, leader, replicas: vec![1, 2], isr: vec![1, 2] }],
        };
        for (leader, changes) in [(1, 0), (1, 0), (2, 1), (1, 2)] {
            history.describe(described(leader));
            assert_eq!(history.leader(0, false).changes, changes);
        }
        assert!(leader(1, now, false).may_have_changed(&LeaderObservation { changes: 2, ..leader(1, now, false) }));
    }
}

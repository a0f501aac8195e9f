//! A *run*: one replay of a partition, and the loads that it serves.
//!
//! Loads with the same selection form a group. A group has one fold, which keeps the last record of each key. If the
//! fold exceeds the limit of one load, the loads of this group fail. If all folds exceed the budget of the process, the
//! group with the largest fold fails. The other groups go on. If a load is cancelled or its deadline passes, the other
//! loads go on. A run is *abandoned*, and ends, when no load waits for it any more.
//!
//! A partition has one *slot*. A run holds it from its start to its end, so that runs do not compete. A run whose log
//! has read nothing for [`STALL_TIMEOUT`] is *stalled*. It still serves its loads. It gives up the slot, so that the
//! next run of the partition can start, unless too many runs of the partition are stalled.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    loaded::{LoadedPartition, Reply},
    queue::{HeldSlot, Waiter},
};
use crate::{
    changelog::{LoadError, admission::ReplayPermit, metrics::Metrics, read::fold::Fold},
    log::{
        Follow, Keys, Log, PartitionEnd, ReadCounter, ReadError, ReplayEvent, ReplayRequest, Selection, StartAt, Topic,
    },
    model::{KeyRef, Partition, Record},
    rule::{Rule, holds},
};

/// How often a replay checks whether a load still waits for it.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// After this time without progress a replay is stalled, and the next one of the partition may start. A lost leader or
/// a slow link must not delay later loads. Short, because a load behind a lost leader must fail within five seconds.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// Loads with the same selection.
struct LoadGroup {
    selection: Selection,
    fold: Fold,
    /// Empty when all of them have a result. Nothing is folded for them then.
    replies: Vec<Reply>,
}

impl LoadGroup {
    fn is_abandoned(&self) -> bool {
        self.replies.iter().all(Reply::is_closed)
    }

    fn end(&mut self, error: &LoadError) {
        for reply in self.replies.drain(..) {
            // The load may have been cancelled.
            let _ = reply.send(Err(error.clone()));
        }
        self.fold = Fold::new(0);
    }
}

/// One replay, and the loads that it serves.
pub struct ReplayRun {
    partition: Partition,
    /// None is removed, even if its loads have left: the replay reads for all of them, and other fields hold indexes.
    groups: Vec<LoadGroup>,
    /// Groups by the workspaces that they select, as indexes.
    by_workspace: HashMap<String, Vec<usize>>,
    /// Groups that select every workspace, as indexes.
    all_workspaces: Vec<usize>,
    permit: Option<ReplayPermit>,
    /// Held until the partition is read; `None` if the log shares no replays.
    slot: Option<HeldSlot>,
    /// Bytes of memory that one fold may take.
    max_load_memory: usize,
    deadline: Instant,
}

impl ReplayRun {
    pub fn new(
        partition: Partition,
        waiters: Vec<Waiter>,
        permit: ReplayPermit,
        slot: Option<HeldSlot>,
        max_load_memory: usize,
    ) -> Self {
        let deadline = waiters.iter().map(|waiter| waiter.deadline).max().unwrap_or_else(Instant::now);
        let mut run = Self {
            partition,
            groups: Vec::new(),
            by_workspace: HashMap::new(),
            all_workspaces: Vec::new(),
            permit: Some(permit),
            slot,
            max_load_memory,
            deadline,
        };
        for waiter in waiters.into_iter().filter(|waiter| !waiter.reply.is_closed()) {
            run.add_waiter(waiter.selection, waiter.reply);
        }
        run
    }

    /// The loads that it serves.
    pub fn loads(&self) -> usize {
        self.groups.iter().map(|group| group.replies.len()).sum()
    }

    fn add_waiter(&mut self, selection: Selection, reply: Reply) {
        let workspaces = workspaces(&selection);
        let candidates = match workspaces.first() {
            Some(workspace) => self.by_workspace.get(workspace.as_str()).map_or(&[][..], Vec::as_slice),
            None => &self.all_workspaces,
        };
        let same = candidates.iter().find(|group| self.groups[**group].selection == selection).copied();
        if let Some(group) = same {
            self.groups[group].replies.push(reply);
            return;
        }
        if workspaces.is_empty() {
            self.all_workspaces.push(self.groups.len());
        }
        for workspace in workspaces {
            self.by_workspace.entry(workspace).or_default().push(self.groups.len());
        }
        self.groups.push(LoadGroup { selection, fold: Fold::new(self.max_load_memory), replies: vec![reply] });
    }

    /// A selection that contains those of all groups; `None` without a group.
    fn selection(&self) -> Option<Selection> {
        let [first, others @ ..] = &*self.groups else { return None };
        let mut all = first.selection.clone();
        for other in others.iter().map(|group| &group.selection) {
            let mut workspaces = HashSet::new();
            for keys in [&all.keys, &other.keys] {
                match keys {
                    Keys::All => return Some(Selection::all(all.partition_count)),
                    Keys::Workspaces(some) => workspaces.extend(some.iter().cloned()),
                    Keys::One(key) => drop(workspaces.insert(key.workspace())),
                }
            }
            if all.types != other.types {
                all.types.clear();
            }
            all.keys = Keys::Workspaces(workspaces);
        }
        Some(all)
    }

    /// Reads to the end offset. Returns `None` if no load waits any more.
    pub async fn read(
        &mut self,
        log: &dyn Log,
        topic: Arc<Topic>,
        metrics: &Metrics,
    ) -> Option<Result<PartitionEnd, LoadError>> {
        let request = ReplayRequest {
            topic,
            partitions: vec![(self.partition, StartAt::Low)],
            selection: self.selection()?,
            follow: Follow::No,
            owned_records: true,
            deadline: self.deadline,
        };
        let mut replaying = metrics.replaying();
        let mut replay = match self.until_abandoned(log.replay(request), &ReadCounter::default()).await? {
            Ok(replay) => replay,
            Err(error) => return Some(Err(error.into())),
        };
        let records_read = replay.records_read();
        loop {
            match self.until_abandoned(replay.next(), &records_read).await? {
                Some(Ok(ReplayEvent::Records { records, .. })) => {
                    replaying.records();
                    self.fold(records);
                }
                Some(Ok(ReplayEvent::End(end))) => {
                    metrics.replayed(end.counts);
                    return Some(Ok(end));
                }
                Some(Ok(ReplayEvent::Progress { .. })) => {}
                Some(Err(error)) => return Some(Err(error.into())),
                None if !holds(Rule::BrokenReplayIsError) => return Some(Ok(PartitionEnd::empty(self.partition))),
                None => return Some(Err(ReadError::EndedEarly { partition: self.partition }.into())),
            }
            if self.is_abandoned() {
                return None;
            }
        }
    }

    /// Runs `work`. Returns `None` as soon as no load waits for it.
    async fn until_abandoned<T>(&mut self, work: impl Future<Output = T>, records_read: &ReadCounter) -> Option<T> {
        tokio::pin!(work);
        let (mut read, mut progressed_at) = (records_read.get(), Instant::now());
        loop {
            match tokio::time::timeout(CANCEL_CHECK_INTERVAL, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.is_abandoned() => return None,
                Err(_) => {}
            }
            let before = std::mem::replace(&mut read, records_read.get());
            if before != read {
                progressed_at = Instant::now();
            } else if progressed_at.elapsed() >= STALL_TIMEOUT
                && let Some(slot) = &mut self.slot
            {
                slot.release_stalled();
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        self.groups.iter().all(LoadGroup::is_abandoned)
    }

    fn fold(&mut self, records: Vec<Record>) {
        // For one group alone nothing else is read than it selects.
        if let [only] = &mut *self.groups {
            if let Err(error) = only.fold.apply(records) {
                only.end(&error.in_partition(self.partition));
            }
        } else {
            self.distribute(records);
        }
        self.reserve_memory();
    }

    /// Gives each group the records that it selects.
    fn distribute(&mut self, records: Vec<Record>) {
        for record in records {
            // Selected records have keys in the grammar.
            let Ok(key) = KeyRef::parse(&record.key) else { continue };
            let candidates = self.by_workspace.get(key.workspace()).into_iter().flatten();
            for group in candidates.chain(&self.all_workspaces) {
                let group = &mut self.groups[*group];
                if group.replies.is_empty() || !group.selection.wants(key) {
                    continue;
                }
                if let Err(error) = group.fold.apply([record.clone()]) {
                    group.end(&error.in_partition(self.partition));
                }
            }
        }
        for group in self.groups.iter_mut().filter(|group| group.is_abandoned()) {
            (group.fold, group.replies) = (Fold::new(0), Vec::new());
        }
    }

    /// Reserves memory for all folds. If the budget is exceeded, the group with the largest fold fails, and the others
    /// continue.
    fn reserve_memory(&mut self) {
        let Some(permit) = &mut self.permit else { return };
        loop {
            let fold_bytes = self.groups.iter().map(|group| group.fold.memory_size()).sum();
            let Err(error) = permit.reserve_memory(fold_bytes) else { return };
            let left = self.groups.iter_mut().filter(|group| !group.replies.is_empty());
            let Some(largest) = left.max_by_key(|group| group.fold.memory_size()) else { return };
            largest.end(&error);
        }
    }

    /// Sends the result to each load.
    pub fn deliver(mut self, ended: &Result<PartitionEnd, LoadError>) {
        // The next replay may start before these loads have sent their records.
        self.slot = None;
        let Some(permit) = self.permit.take().map(Arc::new) else { return };
        let shared = self.loads() > 1;
        for mut group in self.groups {
            let end = match ended {
                Ok(end) => *end,
                Err(error) => {
                    group.end(error);
                    continue;
                }
            };
            let (records, matched) = group.fold.finish(false);
            let loaded = LoadedPartition { records: Arc::new(records), matched, end, shared, _permit: permit.clone() };
            for reply in group.replies {
                let _ = reply.send(Ok(loaded.clone()));
            }
        }
    }
}

/// The workspaces that a selection names; empty if it selects all.
fn workspaces(selection: &Selection) -> Vec<String> {
    match &selection.keys {
        Keys::All => Vec::new(),
        Keys::Workspaces(some) => some.iter().map(|w| w.as_str().to_owned()).collect(),
        Keys::One(key) => vec![key.workspace().as_str().to_owned()],
    }
}

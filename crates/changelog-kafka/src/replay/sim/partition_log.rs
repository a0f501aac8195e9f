//! The log of one partition of a simulated world: its records, its transactions and Kafka's cleaner.
//!
//! Does not have a clock and decides nothing by chance: the world does.

use std::collections::HashMap;

/// Milliseconds since the world began.
pub type Millis = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// A record of the transaction with this number.
    InTransaction(usize),
    Marker,
}

/// The record or marker at an offset.
#[derive(Debug, Clone)]
pub struct Slot {
    pub offset: i64,
    pub kind: Kind,
    pub key: String,
    /// `None`: a tombstone.
    pub value: Option<u64>,
    pub epoch: i32,
    pub written: Millis,
    /// When the cleaner may remove a tombstone or marker that it has seen.
    pub purge_at: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    Open { first: i64 },
    Committed,
    Aborted,
}

#[derive(Debug)]
pub struct PartitionLog {
    pub slots: Vec<Slot>,
    pub low: i64,
    pub high: i64,
    pub epoch: i32,
    pub transactions: Vec<Transaction>,
    /// Elections that truncated the log: the epoch, and the new end.
    pub cuts: Vec<(i32, i64)>,
    /// Where each epoch but the first starts, as the leader's checkpoint of epochs has it.
    pub epoch_starts: Vec<(i32, i64)>,
    pub frozen_until: Millis,
    /// Readers see the log up to this offset until this time.
    pub lag: Option<(i64, Millis)>,
    /// Consumers get no more records, while the leader still returns offsets.
    pub delivers_nothing: bool,
    /// The keys that the world writes.
    pub keys: Vec<String>,
}

impl PartitionLog {
    /// An empty log.
    pub fn new(keys: Vec<String>) -> Self {
        Self {
            slots: Vec::new(),
            low: 0,
            high: 0,
            epoch: 0,
            transactions: Vec::new(),
            cuts: Vec::new(),
            epoch_starts: Vec::new(),
            frozen_until: 0,
            lag: None,
            delivers_nothing: false,
            keys,
        }
    }

    /// The number of the open transaction.
    pub fn open_transaction(&self) -> Option<usize> {
        self.transactions.iter().position(|t| matches!(t, Transaction::Open { .. }))
    }

    pub fn last_stable(&self) -> i64 {
        let open = self.transactions.iter().filter_map(|t| match t {
            Transaction::Open { first } => Some(*first),
            _ => None,
        });
        open.min().unwrap_or(self.high)
    }

    /// Deletes the records below this offset, but none at or above the last stable offset. Returns the new low
    /// watermark.
    pub fn delete_below(&mut self, offset: i64) -> i64 {
        self.low = offset.min(self.last_stable());
        let low = self.low;
        self.slots.retain(|s| s.offset >= low);
        low
    }

    /// An election whose leader lacks the log from this offset on.
    pub fn truncate(&mut self, end: i64) {
        self.slots.retain(|s| s.offset < end);
        self.high = end;
        self.epoch_starts.retain(|(_, start)| *start < end);
        self.elect();
        self.cuts.push((self.epoch, end));
        for transaction in &mut self.transactions {
            if matches!(transaction, Transaction::Open { .. }) {
                *transaction = Transaction::Aborted;
            }
        }
    }

    /// An election whose leader has the whole log.
    pub fn elect(&mut self) {
        self.epoch += 1;
        self.epoch_starts.push((self.epoch, self.high));
    }

    /// The answer to OffsetForLeaderEpoch (KIP-101): where the first epoch above this one starts, or the end.
    pub fn end_of_epoch(&self, epoch: i32) -> i64 {
        self.epoch_starts.iter().find(|(other, _)| *other > epoch).map_or(self.high, |(_, start)| *start)
    }

    /// Kafka's cleaner. It cleans below the active segment, which has the last `active` offsets, the last stable offset
    /// and the compaction lag. The last record of each key stays, and aborted records are removed. Tombstones and
    /// markers are removed a delete retention after the cleaner first saw them.
    pub fn clean(&mut self, now: Millis, lag: Millis, retention: Millis, active: i64) {
        let first_recent = self.slots.iter().find(|s| s.written + lag >= now).map_or(i64::MAX, |s| s.offset);
        let clean_end = first_recent.min(self.last_stable()).min(self.high - active);
        let aborted = |transactions: &[Transaction], s: &Slot| match s.kind {
            Kind::InTransaction(n) => transactions[n] == Transaction::Aborted,
            _ => false,
        };
        let transactions = self.transactions.clone();
        let mut last = HashMap::new();
        for slot in self.slots.iter().filter(|s| s.offset < clean_end) {
            if slot.kind != Kind::Marker && !aborted(&transactions, slot) {
                last.insert(slot.key.clone(), slot.offset);
            }
        }
        self.slots.retain_mut(|slot| {
            if slot.offset >= clean_end {
                return true;
            }
            let superseded = slot.kind != Kind::Marker && last.get(&slot.key) != Some(&slot.offset);
            if superseded || aborted(&transactions, slot) {
                return false;
            }
            if slot.value.is_none() {
                return *slot.purge_at.get_or_insert(now + retention) > now;
            }
            true
        });
    }
}

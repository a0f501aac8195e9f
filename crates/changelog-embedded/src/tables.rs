//! How long the writer waits for the engine to write its buffers to tables, and how it notices that the engine failed.
//!
//! A thread of the engine that meets an error ends, and the engine refuses all writes from then on. But what waits for
//! the tables in the engine itself waits for good: `rotate_memtable_and_wait`, and a commit while four buffers of a
//! keyspace or 30 runs of tables wait. So the waits are here, and look at the engine's state each time.
//!
//! Does not decide what a failure means for a write.

use std::{
    thread,
    time::{Duration, Instant},
};

use fjall::{AbstractTree as _, Database, Keyspace, PersistMode};

/// How long the engine may take to write its buffers to tables. A disk that takes longer hangs, and then the commit
/// shows what is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often its state is looked at, which takes no more than some microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A commit adds at most two full buffers to a keyspace: one that an earlier commit filled, and its own. The engine
/// waits from four on.
const MAX_FULL_BUFFERS: usize = 1;
/// A commit adds at most as many runs as there are full buffers. The engine waits from 30 on, and merges from 4 on.
const MAX_RUNS: usize = 24;

/// An error if the engine has failed. It then refuses all writes, and writes nothing more.
pub(super) fn check_engine(db: &Database) -> fjall::Result<()> {
    // It writes nothing, because each commit has synced the journal.
    db.persist(PersistMode::Buffer)
}

/// Writes these keyspaces to tables. Returns whether it is done: not if it takes too long, or if `stop` says so.
pub(super) fn flush(db: &Database, keyspaces: [&Keyspace; 4], stop: impl Fn() -> bool) -> fjall::Result<bool> {
    check_engine(db)?;
    for keyspace in keyspaces {
        keyspace.rotate_memtable()?;
    }
    wait(db, stop, || keyspaces.iter().all(|keyspace| keyspace.sealed_memtable_count() == 0))
}

/// Waits until a commit does not wait in the engine. Returns whether it is so.
pub(super) fn wait_for_commit(
    db: &Database,
    keyspaces: [&Keyspace; 4],
    stop: impl Fn() -> bool,
) -> fjall::Result<bool> {
    let is_behind = |keyspace: &Keyspace| {
        keyspace.sealed_memtable_count() > MAX_FULL_BUFFERS || keyspace.tree.l0_run_count() > MAX_RUNS
    };
    wait(db, stop, || !keyspaces.iter().any(|keyspace| is_behind(keyspace)))
}

/// Waits until the engine merges no tables. Returns whether it is so.
pub(super) fn wait_for_merges(db: &Database, stop: impl Fn() -> bool) -> fjall::Result<bool> {
    wait(db, stop, || db.active_compactions() == 0)
}

fn wait(db: &Database, stop: impl Fn() -> bool, done: impl Fn() -> bool) -> fjall::Result<bool> {
    let until = Instant::now() + TIMEOUT;
    loop {
        check_engine(db)?;
        if done() {
            return Ok(true);
        }
        if stop() || Instant::now() >= until {
            return Ok(false);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

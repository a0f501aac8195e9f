//! On which thread a close stops the engine, and what it does not wait for.

use std::{
    sync::{Weak, mpsc},
    thread,
};

use fjall::AbstractTree as _;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// The directories of dropped stores, and the names of the threads that dropped them.
static DROPPED: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());

impl Drop for store::Store {
    fn drop(&mut self) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        DROPPED.lock().push((self.dir.clone(), thread));
    }
}

fn dropped_on(dir: &TempDir) -> Vec<String> {
    DROPPED.lock().iter().filter(|(of, _)| of == dir.path()).map(|(_, thread)| thread.clone()).collect()
}

/// A close that needed one would wait for its deadline when the system gives none.
/// Covers R32.
#[tokio::test]
async fn a_close_starts_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    put(&log, "w/t/1", Some("a")).await;
    assert_eq!(log.close(soon()).await, 0);
    assert_eq!(dropped_on(&dir), ["embedded-writer"]);
    drop(open(&dir));
    assert_eq!(dropped_on(&dir), ["embedded-writer", "embedded-writer"]);
    assert_eq!(texts(&load(&open(&dir), "w").await.unwrap()), [pair("w/t/1", "a")]);
}

/// The engine stops when its threads have ended, which may take as long as a merge.
/// Covers R32.
#[tokio::test]
async fn a_replay_that_ends_after_the_close_does_not_stop_the_engine_on_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    // More than the channel of a replay takes.
    let value = "x".repeat(300_000);
    for n in 0..20 {
        put(&log, &format!("w/t/{n}"), Some(&value)).await;
    }
    let topic = log.topic().await.unwrap();
    let partitions = topic.partition_count.all().map(|p| (p, StartAt::Low)).collect();
    let selection = Selection::all(topic.partition_count);
    let request =
        ReplayRequest { topic, partitions, selection, follow: Follow::No, owned_records: false, deadline: soon() };
    let mut replay = log.replay(request).await.unwrap();
    replay.next().await.unwrap().unwrap();
    let published = log.state.published.borrow().as_ref().map(Arc::downgrade).unwrap();
    // A thread of the engine waits for this lock, to write a table.
    let latest = published.upgrade().unwrap().store.latest.clone();
    let ((release, released), (locked, is_locked)) = (mpsc::channel(), oneshot::channel());
    let holder = thread::spawn(move || {
        let _flush_lock = latest.tree.get_flush_lock();
        assert!(latest.rotate_memtable().unwrap());
        let _ = locked.send(());
        released.recv_timeout(PATIENCE)
    });
    is_locked.await.unwrap();
    assert_eq!(log.close(Instant::now() + Duration::from_millis(200)).await, 0);
    assert!(log.state.published.borrow().is_none() && Weak::strong_count(&published) > 0, "only the replay has it");

    drop(replay);
    while Weak::strong_count(&published) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(EmbeddedLog::open(settings(&dir)), Err(OpenError::Locked { .. })), "the engine has not stopped");
    release.send(()).unwrap();
    assert_eq!(holder.join().unwrap(), Ok(()), "the runtime went on before the engine had stopped");
    assert_eq!(log.close(soon()).await, 0);
    assert_eq!(dropped_on(&dir), ["embedded-writer"]);
    assert_eq!(load(&open(&dir), "w").await.unwrap().len(), 20);
}

/// Covers R32.
#[tokio::test]
async fn a_drop_does_not_wait_for_replays() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    put(&log, "w/t/1", Some("a")).await;
    let published = log.state.published.borrow().clone().unwrap();
    let mut open_state = log.open.clone();
    drop(log);
    assert!(matches!(EmbeddedLog::open(settings(&dir)), Err(OpenError::Locked { .. })), "as a replay has it");
    drop(published);
    tokio::time::timeout(PATIENCE, open_state.changed()).await.expect("the store is dropped").unwrap_err();
    assert_eq!(texts(&load(&open(&dir), "w").await.unwrap()), [pair("w/t/1", "a")]);
}

//! A storage engine that fails while it writes tables. It refuses everything after that, and no write waits for it.

use std::thread::{self, JoinHandle};

use fjall::{AbstractTree as _, PersistMode};

use super::*;

const KIB: usize = 1024;
/// Less than the 30 s that the writer gives to an engine that goes on, and more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(15);

/// A log whose writer waits for tables as soon as the engine holds `write_buffer_bytes`.
fn buffering(dir: &TempDir, write_buffer_bytes: usize) -> Settings {
    Settings { write_buffer_bytes: write_buffer_bytes as u64, ..settings(dir) }
}

fn store_of(log: &EmbeddedLog) -> Arc<store::SharedStore> {
    log.state.published.borrow().as_ref().expect("an open store").store.clone()
}

/// The names that the next tables get.
fn next_tables(dir: &TempDir) -> impl Iterator<Item = PathBuf> {
    let keyspaces = fs::read_dir(dir.path().join("engine/keyspaces")).unwrap();
    keyspaces.flat_map(|keyspace| {
        let tables = keyspace.unwrap().path().join("tables");
        (0..100).map(move |id: u32| tables.join(id.to_string()))
    })
}

/// The engine can't write a table any more, because there are directories with these names.
fn block_tables(dir: &TempDir) {
    next_tables(dir).filter(|table| !table.exists()).for_each(|table| fs::create_dir(table).unwrap());
}

fn unblock_tables(dir: &TempDir) {
    next_tables(dir).filter(|table| table.is_dir()).for_each(|table| fs::remove_dir(table).unwrap());
}

fn has_failed(store: &store::Store) -> bool {
    matches!(store.db.persist(PersistMode::Buffer), Err(fjall::Error::Poisoned))
}

/// Until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    let until = soon();
    while !condition() {
        assert!(Instant::now() < until, "the condition never holds");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// While it exists, no table of the latest records is written. A thread has the lock, because a lock must not be held
/// by a task that waits.
struct Stalled {
    release: Option<oneshot::Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Stalled {
    async fn of(store: &Arc<store::SharedStore>) -> Self {
        let ((release, released), (locked, is_locked)) = (oneshot::channel::<()>(), oneshot::channel());
        let store = store.clone();
        let holder = thread::spawn(move || {
            let _flush_lock = store.latest.tree.get_flush_lock();
            let _ = locked.send(());
            let _ = released.blocking_recv();
        });
        is_locked.await.expect("the lock");
        Self { release: Some(release), holder: Some(holder) }
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.release.take();
        let _ = self.holder.take().map(JoinHandle::join);
    }
}

fn value(kib: usize) -> String {
    "x".repeat(kib * KIB)
}

/// The answer to a write, which must not wait for the engine.
async fn answer(log: &EmbeddedLog, key: &str, value: Option<&str>) -> Result<Appended, WriteError> {
    let pending = log.append(record(log, key, value))?;
    tokio::time::timeout(PATIENCE, pending).await.expect("an answer in time").expect("an answer")
}

fn assert_read_only(answer: &Result<Appended, WriteError>) {
    assert!(matches!(answer, Err(WriteError::ReadOnly { cause }) if cause.contains("engine failed")), "{answer:?}");
}

/// Everything that was acknowledged is there after a start with the tables, and nothing that was refused. The log has
/// left nothing open.
async fn assert_reopens(dir: &TempDir, log: EmbeddedLog, expected: &[&str]) {
    assert!(matches!(&*log.topic_state().borrow(), TopicState::Failed(StoreFailure::ReadOnly { .. })), "it is known");
    let left = tokio::time::timeout(PATIENCE, log.close(soon())).await;
    assert_eq!(left.expect("it closes in time"), 0);
    drop(log);
    unblock_tables(dir);
    let keys = |records: Vec<Record>| texts(&records).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(load(&open(dir), "w").await.unwrap()), expected);
}

/// Covers F23.
#[tokio::test]
async fn a_write_that_waits_for_an_engine_that_fails_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(buffering(&dir, 100 * KIB)).unwrap();
    put(&log, "w/t/1", Some(&value(200))).await;
    block_tables(&dir);
    // The first of them finds more in the buffers than they may hold, and the engine fails as it writes them.
    for key in ["w/t/2", "w/t/3"] {
        assert_read_only(&answer(&log, key, Some(&value(200))).await);
    }
    assert_read_only(&answer(&log, "w/t/1", None).await);
    assert_reopens(&dir, log, &["w/t/1"]).await;
}

/// Covers F23.
#[tokio::test]
async fn a_write_after_the_engine_has_failed_is_refused_at_once() {
    for over_the_limit in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(buffering(&dir, if over_the_limit { KIB } else { 1024 * KIB })).unwrap();
        let store = store_of(&log);
        put(&log, "w/t/1", Some(&value(200))).await;
        block_tables(&dir);
        store.latest.rotate_memtable().unwrap();
        until(|| has_failed(&store)).await;
        drop(store);
        assert_read_only(&answer(&log, "w/t/2", Some("b")).await);
        assert_read_only(&answer(&log, "w/t/3", None).await);
        assert_reopens(&dir, log, &["w/t/1"]).await;
    }
}

/// Covers F23.
#[tokio::test]
async fn all_batches_that_are_queued_behind_an_engine_that_fails_are_refused_at_once() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    // A batch takes an eighth of the queue, so each of these writes is one of its own.
    let settings = Settings { queue_bytes: 1600 * KIB, ..buffering(&dir, 100 * KIB) };
    let log = EmbeddedLog::open_at(&settings, Gate::clock(&gate)).unwrap();
    let keys = ["w/t/1", "w/t/2", "w/t/3", "w/t/4", "w/t/5"];
    let pending = keys.map(|key| log.append(record(&log, key, Some(&value(250)))).unwrap());
    block_tables(&dir);
    gate.open();
    let answers = async {
        let mut answers = Vec::new();
        for pending in pending {
            answers.push(pending.await.expect("an answer"));
        }
        answers
    };
    let answers = tokio::time::timeout(PATIENCE, answers).await.expect("all answers in time");
    // The buffers are empty when the first batch comes.
    assert!(answers[0].is_ok(), "{:?}", answers[0]);
    answers[1..].iter().for_each(assert_read_only);
    assert_reopens(&dir, log, &["w/t/1"]).await;
}

/// The engine itself waits in a commit for tables that a failed thread will never write.
/// Covers F23.
#[tokio::test]
async fn an_engine_that_is_behind_and_then_fails_holds_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let store = store_of(&log);
    put(&log, "w/t/1", Some("a")).await;
    let stalled = Stalled::of(&store).await;
    for n in 2..=5 {
        assert!(store.latest.rotate_memtable().unwrap());
        if n < 5 {
            store.latest.insert(format!("filler {n}"), "").unwrap();
        }
    }
    let before = store.db.seqno();
    let pending = log.append(record(&log, "w/t/2", Some("b"))).unwrap();
    // A writer that begins its commit now is in the engine when it fails. Ours does not begin it.
    let _ = tokio::time::timeout(Duration::from_millis(300), until(|| store.db.seqno() > before)).await;
    block_tables(&dir);
    drop(stalled);
    let answer = tokio::time::timeout(PATIENCE, pending).await.expect("an answer in time").expect("an answer");
    assert_read_only(&answer);
    drop(store);
    let left = tokio::time::timeout(PATIENCE, log.close(soon())).await;
    assert_eq!(left.expect("it closes in time"), 0);
}

/// Without a write, too, so that the pod is replaced before clients meet it.
/// Covers F23.
#[tokio::test]
async fn an_engine_that_has_failed_is_noticed_without_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    put(&log, "w/t/1", Some("a")).await;
    block_tables(&dir);
    store_of(&log).latest.rotate_memtable().unwrap();
    let mut state = log.topic_state();
    let failed = state.wait_for(|state| matches!(state, TopicState::Failed(StoreFailure::ReadOnly { .. })));
    tokio::time::timeout(PATIENCE, failed).await.expect("it is noticed").unwrap();
    assert_eq!(texts(&load(&log, "w").await.unwrap()), [pair("w/t/1", "a")], "reads go on");
    assert_reopens(&dir, log, &["w/t/1"]).await;
}

/// Covers R32.
#[tokio::test]
async fn a_drop_does_not_wait_for_tables() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let settings = Settings { queue_bytes: 1600 * KIB, ..buffering(&dir, 100 * KIB) };
    let log = EmbeddedLog::open_at(&settings, Gate::clock(&gate)).unwrap();
    let store = store_of(&log);
    let pending = ["w/t/1", "w/t/2", "w/t/3"].map(|key| log.append(record(&log, key, Some(&value(250)))).unwrap());
    let stalled = Stalled::of(&store).await;
    gate.open();
    let [first, others @ ..] = pending;
    first.await.unwrap().unwrap();
    // As a drop of the log does. What it drops after this is the engine, which waits for the lock of this test.
    log.state.abandoned.store(true, SeqCst);
    let closed = log.begin_close().unwrap();
    let ended = tokio::task::spawn_blocking(move || closed.recv().unwrap_err());
    tokio::time::timeout(PATIENCE, ended).await.expect("the writer ends in time").unwrap();
    for pending in others {
        assert_eq!(pending.await.unwrap(), Err(WriteError::Draining));
    }
    drop(stalled);
}

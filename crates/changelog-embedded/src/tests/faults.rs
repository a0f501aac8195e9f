//! Faults of changelogd or of the engine, which are not reported as damage.

use std::io;

use fjall::AbstractTree as _;
use rustix::io::Errno;

use super::*;

/// A clock of the writer that panics from the call on that the test chooses.
#[derive(Default)]
struct Broken(AtomicBool);

impl Broken {
    fn clock(broken: &Arc<Self>) -> Clock {
        let broken = broken.clone();
        Arc::new(move || {
            assert!(!broken.0.load(SeqCst), "in the writer");
            wall_clock()
        })
    }
}

async fn ended(log: &EmbeddedLog) {
    let mut state = log.topic_state();
    let failed = state.wait_for(|state| matches!(state, TopicState::Failed(_)));
    let failed = tokio::time::timeout_at(soon(), failed).await.expect("it fails").unwrap().clone();
    assert!(matches!(failed, TopicState::Failed(StoreFailure::Fault { .. })), "{failed:?}");
}

/// Covers R44.
#[tokio::test]
async fn a_panic_of_the_writer_is_a_fault_and_what_it_did_to_writes_is_not_known() {
    for queued in [1, 2, 5, 100, 5000] {
        let (dir, broken) = (tempfile::tempdir().unwrap(), Arc::new(Broken::default()));
        let log = EmbeddedLog::open_at(&settings(&dir), Broken::clock(&broken)).unwrap();
        put(&log, "w/t/0", Some("a")).await;
        broken.0.store(true, SeqCst);
        let accepted: Vec<_> =
            (0..queued).map_while(|n| log.append(record(&log, &format!("w/t/{n}"), Some("b"))).ok()).collect();
        assert!(!accepted.is_empty());
        for pending in accepted {
            // The changelog above the log answers with an unknown outcome.
            assert!(pending.await.is_err(), "no answer");
        }
        ended(&log).await;
        for value in [Some("c"), None] {
            let refused = log.append(record(&log, "w/t/0", value)).map(drop);
            assert!(matches!(&refused, Err(WriteError::Fault { cause }) if cause.contains("writer")), "{refused:?}");
        }
        // What was published is sound.
        assert_eq!(texts(&load(&log, "w").await.unwrap()), [pair("w/t/0", "a")]);
        assert_eq!(log.describe().await.findings[0].code, "INTERNAL_FAULT");
        drop(log);
        assert_eq!(texts(&load(&open(&dir), "w").await.unwrap()), [pair("w/t/0", "a")]);
    }
}

/// Covers R44.
#[tokio::test]
async fn a_panic_of_the_writer_between_batches_is_a_fault_too() {
    let dir = tempfile::tempdir().unwrap();
    // The purge at the start asks for the time.
    let log = EmbeddedLog::open_at(&settings(&dir), Arc::new(|| panic!("in the purge"))).unwrap();
    ended(&log).await;
    assert!(matches!(log.append(record(&log, "w/t/0", None)), Err(WriteError::Fault { .. })));
    assert!(load(&log, "w").await.unwrap().is_empty());
    assert_eq!(log.close(soon()).await, 0);
}

/// Covers R44.
#[test]
fn a_panic_of_the_engine_at_the_start_is_not_reported_as_damage() {
    let dir = Path::new("data");
    let panics: [fn() -> Result<(), OpenError>; 5] = [
        || panic!("a text"),
        || panic!("{}", String::from("a string")),
        || std::panic::panic_any(7),
        || None::<()>.ok_or_else(|| unreachable!()),
        || {
            let empty: &[u8] = &[];
            assert!(empty[empty.len()] == 0);
            Ok(())
        },
    ];
    for panics in panics {
        let error = store::guarded(dir, panics).unwrap_err();
        assert!(matches!(error, OpenError::Panicked { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("panicked") && message.contains("data directory data"), "{message}");
        assert!(!message.contains("is corrupt"), "{message}");
    }
    let damage = store::guarded(dir, || Err::<(), _>(OpenError::corrupt(dir, "x"))).unwrap_err();
    assert!(matches!(damage, OpenError::Corrupt { .. }));
    assert_eq!(store::guarded(dir, || Ok(7)).unwrap(), 7);
}

/// A directory can be opened like a file, and each read of it fails, as on a disk that fails.
/// Covers R43.
#[tokio::test]
async fn a_disk_that_fails_as_it_is_read_refuses_that_write_and_not_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    // No block of a table is kept in memory.
    let log = EmbeddedLog::open(Settings { cache_bytes: 0, ..settings(&dir) }).unwrap();
    put(&log, "w/t/1", Some("a")).await;
    let store = log.state.published.borrow().as_ref().unwrap().store.clone();
    assert!(store.flush(|| false).unwrap());
    let tables = fs::read_dir(store.latest.path().join("tables")).unwrap();
    let tables: Vec<u64> = tables.map(|t| t.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let (tree, files) = (&store.latest.tree, store.latest.tree.tree_config().descriptor_table.clone().unwrap());
    for table in &tables {
        let unreadable = Arc::new(fs::File::open(dir.path()).unwrap());
        files.insert_for_table((tree.id(), *table).into(), unreadable);
    }
    for value in [Some("b"), None] {
        let answer = log.append(record(&log, "w/t/1", value)).unwrap().await.unwrap();
        let Err(WriteError::Fault { cause }) = &answer else { panic!("{answer:?}") };
        assert!(cause.contains("the disk can't be read"), "{cause}");
    }
    assert!(matches!(&*log.topic_state().borrow(), TopicState::Ready(_)), "the store is still served");
    assert!(log.describe().await.findings.is_empty());
    for table in &tables {
        files.remove_for_table(&(tree.id(), *table).into());
    }
    assert_eq!(put(&log, "w/t/1", Some("c")).await.position.offset, 1, "nothing was written by the refused writes");
    assert_eq!(texts(&load(&log, "w").await.unwrap()), [pair("w/t/1", "c")]);
}

/// Covers R44, R46.
#[tokio::test]
async fn after_a_fault_of_the_writer_a_removal_is_noticed_too() {
    let (dir, broken) = (tempfile::tempdir().unwrap(), Arc::new(Broken::default()));
    let log = EmbeddedLog::open_at(&settings(&dir), Broken::clock(&broken)).unwrap();
    put(&log, "w/t/0", Some("a")).await;
    broken.0.store(true, SeqCst);
    assert!(log.append(record(&log, "w/t/0", Some("b"))).unwrap().await.is_err());
    ended(&log).await;
    assert_eq!(load(&log, "w").await.unwrap().len(), 1, "reads go on");
    fs::remove_file(dir.path().join("lock")).unwrap();
    let mut state = log.topic_state();
    let gone = state.wait_for(|state| matches!(state, TopicState::Failed(StoreFailure::Gone(_))));
    tokio::time::timeout_at(soon(), gone).await.expect("it is noticed").unwrap();
    assert!(matches!(load(&log, "w").await, Err(ReadError::StoreGone(_))));
    assert!(matches!(log.append(record(&log, "w/t/0", None)), Err(WriteError::StoreGone(_))));
    assert_eq!(log.close(soon()).await, 1, "the write that met the fault has no outcome");
}

/// Covers R43.
#[test]
fn a_start_that_gets_no_thread_or_file_is_out_of_resources() {
    let dir = Path::new("data");
    for errno in [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::INTR] {
        let io = || io::Error::from(errno);
        let errors = [
            OpenError::io(dir, io()),
            OpenError::engine(dir, fjall::Error::Io(io())),
            OpenError::engine(dir, fjall::Error::Storage(fjall::LsmError::Io(io()))),
            OpenError::engine_file(dir, dir, io()),
        ];
        for error in errors {
            assert!(matches!(error, OpenError::OutOfResources { .. }), "{errno}: {error:?}");
            assert!(error.to_string().contains("no files, threads or memory"), "{error}");
        }
    }
    let other = OpenError::engine(dir, fjall::Error::Io(Errno::IO.into()));
    assert!(matches!(other, OpenError::Io { .. }), "{other:?}");
}

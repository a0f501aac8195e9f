//! A data directory, or a file of it, that is removed or replaced while the store is open.

use std::os::unix::fs::symlink;

use changelog_core::log::{Corrupt, Gone};
use changelogd_testkit::remove_tree;

use super::*;
use crate::presence::Presence;

type Removal = fn(&Path);

fn aside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.aside", path.file_name().unwrap().to_str().unwrap()))
}

fn rename(path: &Path) {
    fs::rename(path, aside(path)).unwrap();
}

fn replace(path: &Path) {
    rename(path);
    if aside(path).is_dir() {
        copy(&aside(path), path);
    } else {
        fs::copy(aside(path), path).unwrap();
    }
}

/// What can happen to the directory, given its path, and the name that the cause must have.
const REMOVALS: [(&str, Removal, &str); 24] = [
    ("rm -r of the directory", remove_tree, "data"),
    ("mv of the directory", rename, "data"),
    ("another directory in its place", replace, "data"),
    ("a file in its place", |dir| (rename(dir), fs::write(dir, "x").unwrap()).1, "data"),
    ("rm -r of its content", |dir| fs::read_dir(dir).unwrap().for_each(|e| remove_tree(&e.unwrap().path())), "lock"),
    ("rm lock", |dir| remove_tree(&dir.join("lock")), "lock"),
    ("another lock", |dir| replace(&dir.join("lock")), "lock"),
    ("rm store", |dir| remove_tree(&dir.join("store")), "store"),
    ("another store", |dir| replace(&dir.join("store")), "store"),
    ("rm acknowledged", |dir| remove_tree(&dir.join("acknowledged")), "acknowledged"),
    ("rm -r engine", |dir| remove_tree(&dir.join("engine")), "engine"),
    ("another engine", |dir| replace(&dir.join("engine")), "engine"),
    ("a link to the engine", |dir| (rename(&dir.join("engine")), link(&dir.join("engine"))).1, "engine"),
    ("rm engine/version", |dir| remove_tree(&dir.join("engine/version")), "version"),
    ("another engine/version", |dir| replace(&dir.join("engine/version")), "version"),
    ("rm -r of the engine's keyspaces", |dir| remove_tree(&dir.join("engine/keyspaces")), "keyspaces"),
    ("rm -r of all in keyspaces", |dir| keyspaces(dir).iter().for_each(|keyspace| remove_tree(keyspace)), "keyspaces"),
    ("mv of a keyspace", |dir| rename(&dir.join("engine/keyspaces/3")), "keyspaces/3"),
    ("another keyspace", |dir| replace(&dir.join("engine/keyspaces/0")), "keyspaces/0"),
    ("rm -r of a tables directory", |dir| remove_tree(&dir.join("engine/keyspaces/2/tables")), "keyspaces/2/tables"),
    ("mv of a tables directory", |dir| rename(&dir.join("engine/keyspaces/0/tables")), "keyspaces/0/tables"),
    ("rm of a current", |dir| remove_tree(&dir.join("engine/keyspaces/4/current")), "keyspaces/4/current"),
    ("rm of each current", |dir| keyspaces(dir).iter().for_each(|at| remove_tree(&at.join("current"))), "current"),
    ("rm of all journals", |dir| remove_tree(&dir.join("engine/0.jnl")), "no journal"),
];

/// What is noticed within about a second only.
const REMOVALS_OF_FILES: [(&str, Removal, &str); 4] = [
    ("rm of all tables", |dir| keyspaces(dir).iter().for_each(|at| remove_below(&at.join("tables"), "")), "tables/"),
    ("rm of the tables of one keyspace", |dir| remove_below(&dir.join("engine/keyspaces/0/tables"), ""), "0/tables/"),
    ("rm of all lists of tables", |dir| keyspaces(dir).iter().for_each(|at| remove_below(at, "v")), "/v"),
    ("rm of one list of tables", |dir| remove_below(&dir.join("engine/keyspaces/4"), "v"), "keyspaces/4/v"),
];

fn keyspaces(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("engine/keyspaces")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Removes what begins with this.
fn remove_below(dir: &Path, begin: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with(begin) {
            remove_tree(&entry.path());
        }
    }
}

fn link(path: &Path) {
    symlink(aside(path), path).unwrap();
}

/// A log in `data` of a directory, with one record.
async fn opened() -> (TempDir, PathBuf, EmbeddedLog) {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("data");
    let log = EmbeddedLog::open(Settings { partition_count: PartitionCount::new(4), ..Settings::new(&dir) }).unwrap();
    put(&log, "w/t/1", Some("a")).await;
    (keep, dir, log)
}

fn gone(failure: &TopicState) -> &Gone {
    let TopicState::Failed(StoreFailure::Gone(gone)) = failure else { panic!("{failure:?}") };
    gone
}

/// Covers R46.
#[tokio::test]
async fn a_write_after_any_removal_is_refused_and_so_is_everything_else() {
    for (what, removal, named) in REMOVALS {
        let (_keep, dir, log) = opened().await;
        removal(&dir);
        let answer = log.append(record(&log, "w/t/2", Some("b"))).unwrap().await.unwrap();
        assert!(
            matches!(&answer, Err(WriteError::StoreGone(gone)) if gone.cause.contains(named)),
            "{what}: {answer:?}"
        );
        let refused = log.append(record(&log, "w/t/3", None));
        assert!(matches!(refused, Err(WriteError::StoreGone(_))), "{what}");
        assert!(matches!(load(&log, "w").await, Err(ReadError::StoreGone(_))), "{what}");
        assert!(matches!(log.topic().await, Err(ReadError::StoreGone(_))), "{what}");
        assert_eq!(gone(&log.topic_state().borrow()).dir, dir, "{what}");
        let findings = log.describe().await.findings;
        assert_eq!(findings.iter().map(|f| f.code).collect::<Vec<_>>(), ["STORE_GONE"], "{what}");
        assert_eq!(log.close(soon()).await, 0, "{what}");
    }
}

/// Covers R46.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_noticed_without_a_write_and_ends_following_replays() {
    let mut cases = tokio::task::JoinSet::new();
    let of_files = REMOVALS_OF_FILES.map(|removal| (removal, true));
    for ((what, removal, named), of_files) in REMOVALS.map(|removal| (removal, false)).into_iter().chain(of_files) {
        cases.spawn(async move {
            let (_keep, dir, log) = opened().await;
            let mut follower = follow(&log, from_the_start(&log)).await;
            let mut state = log.topic_state();
            let until = soon();
            removal(&dir);
            let failed = loop {
                let failed = state.wait_for(|state| matches!(state, TopicState::Failed(_)));
                match tokio::time::timeout(std::time::Duration::from_secs(3), failed).await {
                    Ok(failed) => break failed.unwrap().clone(),
                    Err(_) => assert!(Instant::now() < until, "{what}: it is noticed"),
                }
                // The engine may just have replaced these files.
                if of_files {
                    removal(&dir);
                }
            };
            assert!(gone(&failed).cause.contains(named), "{what}: {failed:?}");
            let ended = loop {
                if let Err(error) = follower.next().await.expect("an end with a cause") {
                    break error;
                }
            };
            assert!(matches!(ended, ReadError::StoreGone(_)), "{what}: {ended}");
        });
    }
    cases.join_all().await;
}

/// The engine goes on without its tables, and a write can be acknowledged before the next check.
/// Covers R46.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_after_the_removal_of_a_table_are_refused_from_the_next_check_on() {
    for (what, removal, named) in REMOVALS_OF_FILES {
        let (_keep, dir, log) = opened().await;
        let until = soon();
        let refusal = loop {
            assert!(Instant::now() < until, "{what}: it is noticed");
            // Again, because the engine may just have replaced these files.
            removal(&dir);
            match log.append(record(&log, "w/t/2", Some("b"))) {
                Ok(pending) => match pending.await.unwrap() {
                    Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(refusal) => break refusal,
                },
                Err(refusal) => break refusal,
            }
        };
        // A write that meets the check after its commit has an unknown outcome.
        let is_right = match &refusal {
            WriteError::StoreGone(gone) => gone.cause.contains(named),
            WriteError::OutcomeUnknown { cause, .. } => cause.contains(named),
            _ => false,
        };
        assert!(is_right, "{what}: {refusal:?}");
        let refused = log.append(record(&log, "w/t/3", None));
        assert!(matches!(refused, Err(WriteError::StoreGone(_))), "{what}");
        assert!(matches!(load(&log, "w").await, Err(ReadError::StoreGone(_))), "{what}");
        assert_eq!(log.close(soon()).await, 0, "{what}");
    }
}

/// As on a system without inotify.
/// Covers R46.
#[tokio::test]
async fn each_removal_is_found_by_its_name_alone() {
    for (what, removal, named) in REMOVALS {
        let (_keep, dir, log) = opened().await;
        let mut by_name = Presence::of(&dir).unwrap();
        assert!(by_name.watch.take().is_some(), "{what}: an instance of inotify");
        assert_eq!(by_name.lost(), None, "{what}");
        removal(&dir);
        assert!(by_name.lost().is_some_and(|cause| cause.contains(named)), "{what}");
        drop(log);
    }
}

/// Covers R46.
#[tokio::test]
async fn a_directory_above_that_is_moved_is_a_removal() {
    let keep = tempfile::tempdir().unwrap();
    let above = keep.path().join("above");
    fs::create_dir(&above).unwrap();
    let log = EmbeddedLog::open(Settings::new(above.join("data"))).unwrap();
    put(&log, "w/t/1", Some("a")).await;
    rename(&above);
    let answer = log.append(record(&log, "w/t/2", Some("b"))).unwrap().await.unwrap();
    assert!(matches!(answer, Err(WriteError::StoreGone(_))), "{answer:?}");
}

/// The engine removes tables and lists itself all the time.
/// Covers R46.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_removes_itself_is_no_removal() {
    let (_keep, _, log) = opened().await;
    let store = log.state.published.borrow().as_ref().expect("an open store").store.clone();
    let state = log.state.clone();
    let work = tokio::task::spawn_blocking(move || {
        for _ in 0..30 {
            assert!(store.flush(|| false).unwrap());
            store.keyspaces().into_iter().for_each(|keyspace| keyspace.major_compact().unwrap());
        }
    });
    let mut written = 0;
    while !work.is_finished() {
        put(&log, &format!("w/t/{written}"), Some("a")).await;
        assert!(state.check_files().is_none());
        written += 1;
    }
    work.await.unwrap();
    assert_eq!(load(&log, "w").await.unwrap().len(), written.max(2));
}

/// What is not a removal.
#[tokio::test]
async fn a_change_that_removes_nothing_is_not_taken_for_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let changes: [(&str, Removal); 7] = [
        ("a foreign file", |dir| fs::write(dir.join("notes"), "x").unwrap()),
        ("another mode", |dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o750)).unwrap()),
        ("another time", |dir| fs::File::open(dir.join("lock")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap()),
        ("another name for the lock", |dir| fs::hard_link(dir.join("lock"), dir.join("lock.2")).unwrap()),
        ("a foreign file that is removed", |dir| {
            fs::write(dir.join("notes"), "x").unwrap();
            remove_tree(&dir.join("notes"));
        }),
        ("a foreign file in a keyspace that is moved", |dir| {
            let notes = dir.join("engine/keyspaces/0/notes");
            fs::write(&notes, "x").unwrap();
            rename(&notes);
        }),
        ("moved and put back", |dir| (rename(dir), fs::rename(aside(dir), dir).unwrap()).1),
    ];
    for (what, change) in changes {
        let (_keep, dir, log) = opened().await;
        change(&dir);
        put(&log, "w/t/2", Some("b")).await;
        assert_eq!(load(&log, "w").await.unwrap().len(), 2, "{what}");
        assert!(log.state.check_presence().is_none(), "{what}");
    }
}

/// Covers R46.
#[tokio::test]
async fn a_link_to_the_directory_that_leads_elsewhere_is_a_removal() {
    let keep = tempfile::tempdir().unwrap();
    let (one, two, link) = (keep.path().join("one"), keep.path().join("two"), keep.path().join("link"));
    fs::create_dir(&one).unwrap();
    symlink(&one, &link).unwrap();
    let log = EmbeddedLog::open(Settings::new(&link)).unwrap();
    put(&log, "w/t/1", Some("a")).await;
    copy(&one, &two);
    fs::remove_file(&link).unwrap();
    symlink(&two, &link).unwrap();
    let answer = log.append(record(&log, "w/t/2", Some("b"))).unwrap().await.unwrap();
    assert!(matches!(answer, Err(WriteError::StoreGone(_))), "{answer:?}");
}

/// A missing table is damage. If the whole directory is missing, it is not.
/// Covers R44, R46.
#[tokio::test]
async fn what_a_reader_takes_for_damage_is_not_reported_so_if_the_directory_is_missing() {
    let (_keep, dir, log) = opened().await;
    let corrupt = Corrupt { detail: "a table can't be opened".to_owned() };
    remove_tree(&dir);
    assert!(matches!(log.state.set_corrupt(corrupt.clone()), StoreFailure::Gone(_)));
    let (_keep, _, log) = opened().await;
    let failure = log.state.set_corrupt(corrupt);
    assert!(matches!(failure, StoreFailure::Corrupt(_)), "{failure:?}");
    // The first of both is kept.
    assert!(matches!(log.state.check_presence(), Some(StoreFailure::Corrupt(_))));
}

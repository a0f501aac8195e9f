//! A data directory, or a file of it, that is removed or replaced while the store is open.

use std::os::unix::fs::symlink;

use changelog_core::log::{Corrupt, Gone};

use super::*;

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
const REMOVALS: [(&str, Removal, &str); 17] = [
    ("rm -r of the directory", remove, "data"),
    ("mv of the directory", rename, "data"),
    ("another directory in its place", replace, "data"),
    ("a file in its place", |dir| (rename(dir), fs::write(dir, "x").unwrap()).1, "data"),
    ("rm -r of its content", |dir| fs::read_dir(dir).unwrap().for_each(|e| remove(&e.unwrap().path())), "lock"),
    ("rm lock", |dir| remove(&dir.join("lock")), "lock"),
    ("another lock", |dir| replace(&dir.join("lock")), "lock"),
    ("rm store", |dir| remove(&dir.join("store")), "store"),
    ("another store", |dir| replace(&dir.join("store")), "store"),
    ("rm acknowledged", |dir| remove(&dir.join("acknowledged")), "acknowledged"),
    ("rm -r engine", |dir| remove(&dir.join("engine")), "engine"),
    ("another engine", |dir| replace(&dir.join("engine")), "engine"),
    ("a link to the engine", |dir| (rename(&dir.join("engine")), link(&dir.join("engine"))).1, "engine"),
    ("rm engine/version", |dir| remove(&dir.join("engine/version")), "version"),
    ("another engine/version", |dir| replace(&dir.join("engine/version")), "version"),
    ("rm -r of the engine's keyspaces", |dir| remove(&dir.join("engine/keyspaces")), "keyspaces"),
    ("rm of all journals", |dir| remove(&dir.join("engine/0.jnl")), "no journal"),
];

/// As `rm -r`. The engine may create a file in the directory meanwhile, so more than one attempt may be needed.
fn remove(path: &Path) {
    while path.exists() {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
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
    for (what, removal, named) in REMOVALS {
        cases.spawn(async move {
            let (_keep, dir, log) = opened().await;
            let topic = log.topic().await.unwrap();
            let partitions = topic.partition_count.all().map(|p| (p, StartAt::Low)).collect();
            let selection = Selection::all(topic.partition_count);
            let request =
                ReplayRequest { topic, partitions, selection, follow: true, owned_records: false, deadline: soon() };
            let mut follower = log.replay(request).await.unwrap();
            let mut state = log.topic_state();
            removal(&dir);
            let failed = state.wait_for(|state| matches!(state, TopicState::Failed(_)));
            let failed = tokio::time::timeout_at(soon(), failed).await.expect(what).unwrap().clone();
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

/// What is not a removal.
#[tokio::test]
async fn a_change_that_removes_nothing_is_not_taken_for_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let changes: [(&str, Removal); 5] = [
        ("a foreign file", |dir| fs::write(dir.join("notes"), "x").unwrap()),
        ("another mode", |dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o750)).unwrap()),
        ("another time", |dir| fs::File::open(dir.join("lock")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap()),
        ("another name for the lock", |dir| fs::hard_link(dir.join("lock"), dir.join("lock.2")).unwrap()),
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
    remove(&dir);
    assert!(matches!(log.state.set_corrupt(corrupt.clone()), StoreFailure::Gone(_)));
    let (_keep, _, log) = opened().await;
    let failure = log.state.set_corrupt(corrupt);
    assert!(matches!(failure, StoreFailure::Corrupt(_)), "{failure:?}");
    // The first of both is kept.
    assert!(matches!(log.state.check_presence(), Some(StoreFailure::Corrupt(_))));
}

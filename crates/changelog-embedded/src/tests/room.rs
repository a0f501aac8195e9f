//! A store without room: the file system has none, or the directory has reached its limit.

use std::collections::BTreeMap;

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::*;

pub(super) const MIB: u64 = 1024 * 1024;

/// What each file below a directory occupies, by inode.
fn files(dir: &Path, found: &mut BTreeMap<u64, u64>) {
    use std::os::unix::fs::MetadataExt as _;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        found.insert(metadata.ino(), metadata.blocks() * 512);
        if metadata.is_dir() {
            files(&entry.path(), found);
        }
    }
}

/// What all files below a directory occupied at one time. A look at them takes a while. Meanwhile one file may be
/// removed and another one made. Only those that two looks have found existed together.
fn occupied(dir: &Path) -> u64 {
    let [mut before, mut after] = [BTreeMap::new(), BTreeMap::new()];
    files(dir, &mut before);
    files(dir, &mut after);
    before.iter().filter_map(|(inode, bytes)| after.get(inode).map(|again| bytes.min(again))).sum()
}

/// Text that compression does not make smaller.
pub(super) fn noise(seed: u64, bytes: usize) -> String {
    let (mut state, mut text) = (seed.wrapping_mul(2).wrapping_add(1), String::with_capacity(bytes));
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend((0..4).map(|at| char::from(b'0' + (state >> (8 * at + 32)) as u8 % 64)));
    }
    text
}

/// Free files of the file system, as a test sets them. `u64::MAX` stands for a file system without a limit.
fn files_of(free: &Arc<AtomicU64>) -> space::DiskOf {
    let free = free.clone();
    Box::new(move |dir| {
        let disk = space::Disk::of(dir)?;
        let free = free.load(SeqCst);
        Ok(space::Disk { free_files: (free < u64::MAX).then_some(free), ..disk })
    })
}

/// Covers F23.
#[tokio::test]
async fn a_file_system_without_free_files_refuses_writes_until_there_are_some() {
    let (dir, free) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(64)));
    let log = EmbeddedLog::open_with(&settings(&dir), Arc::new(wall_clock), files_of(&free)).unwrap();
    let mut offset = 0;
    for (files, room) in [(64, true), (63, false), (0, false), (64, true), (1, false), (u64::MAX, true)] {
        free.store(files, SeqCst);
        for value in [Some("a"), None] {
            let answer = try_put(&log, "w/t/1", value).await;
            match answer {
                Ok(appended) => {
                    assert!(room, "{files}");
                    assert_eq!(appended.position.offset, offset, "nothing was written by the refused writes");
                    offset += 1;
                }
                Err(WriteError::DiskFull { cause }) => assert!(!room && cause.contains("inodes"), "{files}: {cause}"),
                Err(error) => panic!("{files}: {error}"),
            }
        }
        assert!(log.describe().await.findings.is_empty(), "it passes by itself");
    }
    assert_eq!(offset, 6);
}

/// The figures of the file system are those that `df -i` has.
#[test]
fn free_files_are_those_of_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let stat = rustix::fs::statvfs(dir.path()).unwrap();
    let disk = space::Disk::of(dir.path()).unwrap();
    assert_eq!(disk.free_files.is_some(), stat.f_files > 0);
    assert!(disk.free_files.is_none_or(|free| free <= stat.f_files), "{:?} of {}", disk.free_files, stat.f_files);
}

async fn try_put(log: &EmbeddedLog, key: &str, value: Option<&str>) -> Result<Appended, WriteError> {
    log.append(record(log, key, value))?.await.expect("answered")
}

/// Whether there was room.
async fn fits(log: &EmbeddedLog, key: &str, value: Option<&str>) -> bool {
    match try_put(log, key, value).await {
        Ok(_) => true,
        Err(WriteError::DiskFull { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Runs `work`, and returns its result and the most that the directory occupied meanwhile.
pub(super) async fn watched<T>(dir: &Path, work: impl Future<Output = T>) -> (T, u64) {
    let (dir, done) = (dir.to_owned(), CancellationToken::new());
    // Also if the work panics.
    let (ended, done) = (done.clone(), done.drop_guard());
    let watching = tokio::task::spawn_blocking(move || {
        let mut most = 0;
        while !ended.is_cancelled() {
            most = most.max(occupied(&dir));
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    });
    let result = work.await;
    drop(done);
    (result, watching.await.unwrap())
}

fn limited(dir: &TempDir) -> EmbeddedLog {
    EmbeddedLog::open(Settings { data_limit: Some(MIN_DATA_LIMIT), ..settings(dir) }).unwrap()
}

/// Covers R45.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_never_has_more_than_its_limit_and_deletes_have_a_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let work = async {
        let log = limited(&dir);
        let (mut written, value) = (0_u64, |n| noise(n, MIB as usize));
        let refusal = loop {
            assert!(written < MIN_DATA_LIMIT / MIB, "the limit holds");
            match try_put(&log, &format!("w/t/{written}"), Some(&value(written))).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        let limit = MIN_DATA_LIMIT.to_string();
        assert!(matches!(&refusal, WriteError::DiskFull { cause } if cause.contains(&limit)), "{refusal:?}");
        assert!(written > 40, "{written}");
        assert!(matches!(&*log.topic_state().borrow(), TopicState::Ready(_)), "it passes by itself");
        assert_eq!(load(&log, "w").await.unwrap().len() as u64, written, "nothing was written by the refused write");
        let (mut deleted, until) = (0, soon());
        // A merge that has just begun needs the reserve for its result, until it has removed what it merged.
        while deleted == 0 {
            assert!(Instant::now() < until, "deletes have a reserve");
            for n in 0..written {
                deleted += u64::from(fits(&log, &format!("w/t/{n}"), None).await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        written - deleted
    };
    let (left, most) = watched(dir.path(), work).await;
    assert!(most <= MIN_DATA_LIMIT, "{most}");
    let log = limited(&dir);
    let live = load(&log, "w").await.unwrap().into_iter().filter(|record| record.value.is_some());
    assert_eq!(live.count() as u64, left);
}

/// Covers R45.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_at_its_smallest_limit_takes_many_overwrites_within_it() {
    for (value_bytes, keys) in [(MIB as usize, 20), (200_000, 150)] {
        let dir = tempfile::tempdir().unwrap();
        let work = async {
            let log = limited(&dir);
            let mut written = 0;
            for n in 0..2 * MIN_DATA_LIMIT / value_bytes as u64 {
                let (key, value) = (format!("w/t/{}", n % keys), noise(n, value_bytes));
                written += u64::from(fits(&log, &key, Some(&value)).await);
            }
            assert!(written >= keys, "{written}");
            load(&log, "w").await.unwrap().len() as u64
        };
        let (loaded, most) = watched(dir.path(), work).await;
        assert!(most <= MIN_DATA_LIMIT, "{value_bytes}: {most}");
        assert_eq!(loaded, keys, "{value_bytes}");
    }
}

/// A directory that can't be read to the end, because the paths in it are too long.
fn unreadable(path: &Path) {
    fs::create_dir(path).unwrap();
    let mut dir = std::os::fd::OwnedFd::from(fs::File::open(path).unwrap());
    let name = "x".repeat(200);
    for _ in 0..25 {
        mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = openat(&dir, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

const SMALL_LIMIT: u64 = 64 * MIB;

fn open_small(dir: &TempDir) -> EmbeddedLog {
    EmbeddedLog::open(Settings { data_limit: Some(SMALL_LIMIT), ..settings(dir) }).unwrap()
}

/// Writes until it is refused. Returns how many were written, and why the next was not.
async fn fill(log: &EmbeddedLog) -> (u64, String) {
    for n in 0..2 * SMALL_LIMIT / MIB {
        match try_put(log, &format!("w/t/{n}"), Some(&noise(n, MIB as usize))).await {
            Ok(_) => {}
            Err(WriteError::DiskFull { cause }) => return (n, cause),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the limit refuses nothing")
}

/// As `lost+found` of a volume is, which only root may read.
/// Covers R45.
#[tokio::test]
async fn foreign_files_of_the_directory_do_not_count_and_need_not_be_readable() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("lost+found");
    unreadable(&foreign);
    let mut large = fs::File::create(foreign.join("large")).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(1), SMALL_LIMIT), &mut large).unwrap();
    large.sync_all().unwrap();
    let (written, cause) = fill(&open_small(&dir)).await;
    assert!((8..SMALL_LIMIT / MIB).contains(&written), "{written}");
    assert!(cause.contains(&SMALL_LIMIT.to_string()) && !cause.contains("measured"), "{cause}");
}

/// Covers R45.
#[tokio::test]
async fn a_store_whose_size_can_not_be_measured_keeps_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(&dir);
    let blocked = dir.path().join("engine/blocked");
    unreadable(&blocked);
    let (written, cause) = fill(&log).await;
    assert!((4..SMALL_LIMIT / MIB).contains(&written), "{written}");
    assert!(cause.contains(&SMALL_LIMIT.to_string()) && cause.contains("can't be measured now"), "{cause}");
    assert!(log.describe().await.findings.is_empty(), "it passes by itself");
    fs::remove_dir_all(&blocked).unwrap();
    // A merge that runs needs room until it ends.
    let until = soon();
    while let Err(full) = try_put(&log, "w/t/again", Some("a")).await {
        assert!(Instant::now() < until && matches!(full, WriteError::DiskFull { .. }), "{full:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(load(&log, "w").await.unwrap().len() as u64, written + 1, "nothing was written by the refused write");
}

/// Covers R45.
#[test]
fn a_limited_store_whose_size_was_never_measured_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path()).store;
    unreadable(&dir.path().join("engine/blocked"));
    let reserve = |data_limit| Reserve { bytes: 0, files: 0, data_limit };
    let space = |data_limit| Space::of(&store, reserve(data_limit), Box::new(Disk::of), crate::Metrics::default());
    assert!(space(None).is_ok());
    let error = space(Some(SMALL_LIMIT)).err().expect("the cause");
    assert_eq!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::NAMETOOLONG));
}

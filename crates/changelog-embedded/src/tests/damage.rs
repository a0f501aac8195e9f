//! A damaged store is rejected, at the start or when the damage is read, or it serves what was written.

use fjall::PersistMode;

use super::{super::layout, *};

/// Covers R35, F22.
#[tokio::test]
async fn after_the_first_damage_nothing_is_served() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(&dir);
        put(&log, "w/t/1", Some("a")).await;
        put(&log, "sound/t/1", Some("a")).await;
    }
    {
        let store = open_store(dir.path()).store;
        let entry_key = layout::latest_key(PartitionCount::new(4).unwrap().of_workspace(b"w"), b"w/t/1");
        let mut sealed = store.latest.get(&entry_key).unwrap().unwrap().to_vec();
        let value = sealed.len() - 5;
        sealed[value] ^= 1;
        store.latest.insert(entry_key, sealed).unwrap();
        store.db.persist(PersistMode::SyncAll).unwrap();
    }
    let log = open(&dir);
    assert_eq!(load(&log, "sound").await.unwrap().len(), 1);
    assert!(matches!(&*log.topic_state().borrow(), TopicState::Ready(_)));
    let error = load(&log, "w").await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Corrupt(c) if c.detail.contains("w/t/1") && c.detail.contains("partition")),
        "{error}"
    );
    assert_eq!(load(&log, "sound").await.unwrap_err(), error);
    assert!(matches!(log.append(record(&log, "sound/t/1", None)), Err(WriteError::Corrupt(_))));
    assert_eq!(log.describe().await.findings[0].code, "STORE_CORRUPT");
    let failed = log.topic_state().borrow().clone();
    assert!(matches!(failed, TopicState::Failed(StoreFailure::Corrupt(_))), "{failed:?}");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Which of the keyspaces `latest`, `log`, `tombstones` and `meta` are in tables. The others are only in the journal.
/// The engine writes each to tables when it is full.
type InTables = [bool; 4];
const NONE: InTables = [false; 4];
const ALL: InTables = [true; 4];

async fn write_some(log: &EmbeddedLog, in_tables: InTables) -> Vec<Record> {
    for (key, value) in [("w/t/1", "a"), ("w/t/2", "b"), ("w/t/1", "c"), ("v/t/1", "d"), ("w/t/2", "e")] {
        put(log, key, Some(value)).await;
    }
    put(log, "v/t/2", None).await;
    let store = log.state.published.borrow().clone().unwrap().store.clone();
    for (keyspace, _) in store.keyspaces().iter().zip(in_tables).filter(|(_, in_tables)| *in_tables) {
        keyspace.rotate_memtable_and_wait().unwrap();
    }
    all(log).await.unwrap()
}

/// Flips bits in all files of the store. Each time the store is rejected, or it serves what was written.
async fn flip_all_over(in_tables: InTables, step: usize, extension: &str) {
    let dir = tempfile::tempdir().unwrap();
    let expected = {
        let log = open(&dir);
        write_some(&log, in_tables).await
    };
    // Opening the store cuts the journal to its content.
    drop(open(&dir));
    let mut refused = 0;
    let wanted = |file: &PathBuf| file.extension().is_some_and(|e| e == extension) || extension.is_empty();
    for file in files(&dir.path().join("engine")).into_iter().filter(wanted) {
        let length = fs::metadata(&file).unwrap().len() as usize;
        for at in (0..length).step_by(step) {
            let copied = tempfile::tempdir().unwrap();
            copy(dir.path(), copied.path());
            let victim = copied.path().join(file.strip_prefix(dir.path()).unwrap());
            let mut bytes = fs::read(&victim).unwrap();
            bytes[at] ^= 1 << (at / step % 8);
            fs::write(&victim, bytes).unwrap();
            let read = match EmbeddedLog::open(settings(&copied)) {
                Err(OpenError::Corrupt { .. } | OpenError::Panicked { .. }) => {
                    refused += 1;
                    continue;
                }
                Err(other) => panic!("{} at {at}: {other}", file.display()),
                Ok(log) => match scan(&log).await {
                    Ok(scanned) => all(&log).await.inspect(|read| assert_eq!(*read, scanned)),
                    damaged => damaged,
                },
            };
            match read {
                Err(ReadError::Corrupt(_)) => refused += 1,
                // Some bits have no meaning.
                read => assert_eq!(read.as_ref(), Ok(&expected), "{in_tables:?}: {} at {at}", file.display()),
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// Covers R35, F22.
#[tokio::test]
async fn a_flipped_bit_in_the_journal_loses_nothing_silently() {
    flip_all_over(NONE, 23, "").await;
}

/// Covers R35, F22.
#[tokio::test]
async fn a_flipped_bit_in_the_tables_loses_nothing_silently() {
    flip_all_over(ALL, 37, "").await;
}

/// A journal that is cut at the damage loses later batches for the keyspaces that are not in tables.
/// Covers R35, F22.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flipped_bit_in_the_journal_is_found_whichever_keyspaces_are_in_tables() {
    // Side by side, because each of them mostly waits for the disk.
    let mut cases = tokio::task::JoinSet::new();
    for one in 0..4 {
        let only = std::array::from_fn(|keyspace| keyspace == one);
        cases.spawn(flip_all_over(only, 5, "jnl"));
        cases.spawn(flip_all_over(only.map(|in_tables| !in_tables), 5, "jnl"));
    }
    cases.join_all().await;
}

/// Covers R35, F22.
#[tokio::test]
async fn a_missing_journal_is_damage_whichever_keyspaces_are_in_tables() {
    for in_tables in [
        [false, false, false, true],
        [true, false, true, true],
        [false, true, true, true],
        [true, true, false, true],
        NONE,
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_some(&open(&dir), in_tables).await;
        for journal in files(dir.path()).iter().filter(|file| file.extension().is_some_and(|e| e == "jnl")) {
            fs::remove_file(journal).unwrap();
        }
        let opened = EmbeddedLog::open(settings(&dir));
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{in_tables:?}: {opened:?}");
    }
}

/// Covers C40, R34, F22.
#[tokio::test]
async fn a_torn_end_of_the_journal_is_cut_and_acknowledged_writes_are_there() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(&dir);
        put(&log, "w/t/1", Some("a")).await;
    }
    drop(open(&dir));
    let journal = dir.path().join("engine/0.jnl");
    let intact = fs::read(&journal).unwrap();
    // The start of a batch, as a crash may leave it.
    let torn = [&intact[..], &intact[..intact.len() / 3]].concat();
    fs::write(&journal, torn).unwrap();
    let log = open(&dir);
    assert_eq!(texts(&all(&log).await.unwrap()), [pair("w/t/1", "a")]);
    assert_eq!(put(&log, "w/t/1", Some("b")).await.position.offset, 1);
}

/// Where the part of an engine's file starts that the engine does not check; `None` if it checks everything.
fn believed(file: &Path) -> Option<usize> {
    let name = file.file_name().unwrap().to_str().unwrap();
    match file.parent().unwrap().file_name().unwrap().to_str().unwrap() {
        "tables" => {
            let bytes = fs::read(file).unwrap();
            bytes.windows(4).rposition(|window| window == b"TOC!")
        }
        keyspace if keyspace.parse::<u8>().is_ok() => {
            let current = fs::read(file.with_file_name("current")).unwrap();
            let version = format!("v{}", u64::from_le_bytes(current[..8].try_into().unwrap()));
            (name == "current" || name == version).then_some(0)
        }
        _ => None,
    }
}

/// Covers R35, F22.
#[tokio::test]
async fn every_bit_that_the_engine_trusts_unchecked_is_checked_and_the_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let expected = write_some(&open(&dir), ALL).await;
    // Opening the store removes files that it no longer uses.
    drop(open(&dir));
    let (mut versions, mut tables) = (0, 0);
    for file in files(&dir.path().join("engine")) {
        let Some(start) = believed(&file) else { continue };
        *(if file.parent().unwrap().ends_with("tables") { &mut tables } else { &mut versions }) += 1;
        let sound = fs::read(&file).unwrap();
        for bit in start * 8..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, bytes).unwrap();
            let opened = EmbeddedLog::open(settings(&dir));
            let Err(OpenError::Corrupt { corrupt, .. }) = &opened else {
                panic!("{} bit {bit}: {opened:?}", file.display())
            };
            let keyspace = file.parent().unwrap().display().to_string();
            assert!(corrupt.detail.contains(&keyspace), "{} bit {bit}: {}", file.display(), corrupt.detail);
        }
        fs::write(&file, sound).unwrap();
    }
    assert!(versions == 10 && tables >= 3, "{versions} versions, {tables} tables");
    assert_eq!(all(&open(&dir)).await.unwrap(), expected);
}

/// Covers R35, F22.
#[tokio::test]
async fn a_missing_file_of_the_engine_is_damage_and_is_not_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let expected = write_some(&open(&dir), ALL).await;
    drop(open(&dir));
    let refused = |what: &Path| {
        let opened = EmbeddedLog::open(settings(&dir));
        let Err(OpenError::Corrupt { corrupt, .. }) = &opened else { panic!("without {}: {opened:?}", what.display()) };
        assert!(corrupt.detail.contains(&*what.to_string_lossy()), "without {}: {}", what.display(), corrupt.detail);
    };
    let aside = tempfile::tempdir().unwrap();
    for file in files(&dir.path().join("engine")).into_iter().filter(|file| believed(file).is_some()) {
        fs::rename(&file, aside.path().join("file")).unwrap();
        refused(&file);
        fs::rename(aside.path().join("file"), &file).unwrap();
    }
    for n in 0..5 {
        let keyspace = dir.path().join("engine/keyspaces").join(n.to_string());
        fs::rename(&keyspace, aside.path().join("keyspace")).unwrap();
        refused(&keyspace);
        fs::rename(aside.path().join("keyspace"), &keyspace).unwrap();
    }
    assert_eq!(all(&open(&dir)).await.unwrap(), expected);
}

/// Where the second batch of a journal starts: after the magic bytes that end the first.
fn second_batch(journal: &[u8]) -> usize {
    journal.windows(4).position(|window| window == b"FJL\x03").unwrap() + 4
}

/// The engine starts a new journal every 64 MB. It reads each by itself, and continues with the next if one is cut.
/// Covers R35, F22.
#[tokio::test]
async fn damage_in_an_older_journal_is_found_when_nothing_was_in_tables() {
    let dir = tempfile::tempdir().unwrap();
    let expected = {
        let log = open(&dir);
        let store = log.state.published.borrow().clone().unwrap().store.clone();
        // Random values, so that compression does not make them smaller.
        let (mut state, mut value) = (1_u64, String::new());
        for n in 0..70 {
            value.clear();
            for _ in 0..250_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                value.extend((0..4).map(|at| char::from(b'0' + (state >> (8 * at + 32)) as u8 % 64)));
            }
            put(&log, &format!("w/t/{n}"), Some(&value)).await;
        }
        store.latest.rotate_memtable_and_wait().unwrap();
        put(&log, "v/t/1", Some("behind it")).await;
        store.latest.rotate_memtable_and_wait().unwrap();
        all(&log).await.unwrap()
    };
    let damaged = tempfile::tempdir().unwrap();
    copy(dir.path(), damaged.path());
    // Opening the store writes to tables what was in a journal that is not the last.
    assert!(all(&open(&dir)).await.unwrap() == expected, "a sound store of several journals is not the same");

    let number = |file: &Path| file.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let mut journals = files(damaged.path());
    journals.retain(|file| file.extension().is_some_and(|e| e == "jnl"));
    journals.sort_unstable_by_key(|file| number(file));
    assert!(journals.len() >= 2, "{journals:?}");
    let mut bytes = fs::read(&journals[0]).unwrap();
    let at = second_batch(&bytes);
    bytes[at] ^= 0x40;
    fs::write(&journals[0], bytes).unwrap();
    let opened = EmbeddedLog::open(settings(&damaged));
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
}

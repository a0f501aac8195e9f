//! Which directories are opened, and that only one log at a time has a directory open.

use super::*;

/// Covers R35, F23.
#[tokio::test]
async fn a_directory_has_one_log_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let error = EmbeddedLog::open(settings(&dir)).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { .. }) && error.to_string().contains(dir.path().to_str().unwrap()));
    put(&log, "w/t/1", Some("a")).await;
    assert_eq!(log.close(soon()).await, 0);
    let second = open(&dir);
    assert!(matches!(log.append(record(&log, "w/t/1", None)), Err(WriteError::Draining)));
    assert_eq!(load(&log, "w").await.unwrap_err(), ReadError::Draining);
    drop(second);
    let third = open(&dir);
    assert_eq!(third.topic().await.unwrap().id, log.topic().await.unwrap().id);
    assert_eq!(texts(&load(&third, "w").await.unwrap()), [pair("w/t/1", "a")]);
}

#[test]
fn a_foreign_directory_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes"), "mine").unwrap();
    let error = EmbeddedLog::open(settings(&dir)).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "notes"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A directory that mkfs created is allowed.
    fs::remove_file(dir.path().join("notes")).unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    drop(open(&dir));
    drop(open(&dir));
}

/// Covers C10.
#[test]
fn the_partition_count_is_fixed_and_the_marker_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let asked = Settings { partition_count: PartitionCount::new(5), ..settings(&dir) };
    let error = EmbeddedLog::open(asked).unwrap_err();
    assert!(matches!(error, OpenError::PartitionCount { stored, asked, .. } if (stored.get(), asked.get()) == (4, 5)));
    let none_asked = EmbeddedLog::open(Settings::new(dir.path())).unwrap();
    assert_eq!(none_asked.state.topic.partition_count.get(), 4);
    drop(none_asked);

    let marker = dir.path().join("store");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("partitions 4", "partitions 6")).unwrap();
    assert!(matches!(EmbeddedLog::open(Settings::new(dir.path())), Err(OpenError::Corrupt { .. })));
    fs::write(&marker, text.replace("format 2", "format 3")).unwrap();
    let error = EmbeddedLog::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(&error, OpenError::Format { stored, .. } if stored == "3"), "{error}");
    fs::remove_file(&marker).unwrap();
    assert!(matches!(EmbeddedLog::open(Settings::new(dir.path())), Err(OpenError::Foreign { .. })));
}

#[test]
fn an_interrupted_creation_of_a_store_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    // Before the marker.
    fs::create_dir(dir.path().join("engine.new")).unwrap();
    fs::write(dir.path().join("engine.new/0.jnl"), "half").unwrap();
    fs::write(dir.path().join("store.new"), "half").unwrap();
    drop(open(&dir));
    // After the marker, before the rename.
    fs::rename(dir.path().join("engine"), dir.path().join("engine.new")).unwrap();
    drop(open(&dir));
    // The engine is missing, and must not be created again.
    fs::remove_dir_all(dir.path().join("engine")).unwrap();
    assert!(matches!(EmbeddedLog::open(settings(&dir)), Err(OpenError::Corrupt { .. })));
}

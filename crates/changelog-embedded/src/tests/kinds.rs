//! The modes of what a store creates, and files of a wrong kind in its directory, which are refused and left alone.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// The permissions of a file or a directory.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Covers R47.
#[tokio::test]
async fn a_new_directory_and_its_own_files_are_for_the_owner_only() {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("above/data");
    let log = EmbeddedLog::open(Settings { partition_count: PartitionCount::new(4), ..Settings::new(&dir) }).unwrap();
    put(&log, "w/t/1", Some("a")).await;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(dir.parent().unwrap()) & 0o077, 0);
    assert_eq!(mode(&dir.join("engine")), 0o700);
    for file in ["lock", "store", "acknowledged"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn an_existing_directory_keeps_its_mode_and_is_served_although_others_may_write_in_it() {
    for given in [0o700, 0o755, 0o770, 0o2775, 0o777, 0o1777] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(given)).unwrap();
        put(&open(&dir), "w/t/1", Some("a")).await;
        assert_eq!(mode(dir.path()), given, "{given:o}");
        assert_eq!(mode(&dir.path().join("engine")), 0o700, "{given:o}");
    }
}

fn is_refused(dir: &TempDir, name: &str, what: &str) {
    let opened = EmbeddedLog::open(settings(dir));
    let Err(OpenError::FileKind { file, found, .. }) = &opened else { panic!("{name}: {opened:?}") };
    assert_eq!((&**file, *found), (&*dir.path().join(name), what));
    let message = opened.unwrap_err().to_string();
    assert!(message.contains(what) && !message.contains("corrupt"), "{message}");
}

const LINK: &str = "a symbolic link";

/// Covers R47.
#[test]
fn a_link_in_a_new_directory_is_refused_and_nothing_is_written_through_it() {
    for name in ["lock", "store", "store.new", "acknowledged", "engine", "engine.new"] {
        for target_exists in [true, false] {
            let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let target = outside.path().join("target");
            if target_exists && name.starts_with("engine") {
                fs::create_dir(&target).unwrap();
            } else if target_exists {
                fs::write(&target, "not yours").unwrap();
            }
            symlink(&target, dir.path().join(name)).unwrap();
            is_refused(&dir, name, LINK);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{name}: nothing is created");
            assert_eq!(target.exists(), target_exists, "{name}");
            if target.is_file() {
                assert_eq!(fs::read_to_string(&target).unwrap(), "not yours", "{name}");
            } else if target_exists {
                assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{name}");
            }
        }
    }
}

/// Covers R47.
#[tokio::test]
async fn a_link_in_an_existing_store_is_refused_and_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(&dir), "w/t/1", Some("a")).await;
    let keyspace = "engine/keyspaces/1";
    let names = ["lock", "store", "acknowledged", "engine", "engine/0.jnl", "engine/keyspaces", keyspace];
    for name in
        names.map(str::to_owned).into_iter().chain([format!("{keyspace}/current"), format!("{keyspace}/tables")])
    {
        let (file, outside) = (dir.path().join(&name), tempfile::tempdir().unwrap());
        let aside = outside.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        symlink(&aside, &file).unwrap();
        is_refused(&dir, &name, LINK);
        fs::remove_file(&file).unwrap();
        fs::rename(&aside, &file).unwrap();
    }
    assert_eq!(texts(&all(&open(&dir)).await.unwrap()), [pair("w/t/1", "a")]);
}

/// Covers R47.
#[tokio::test]
async fn the_data_directory_itself_may_be_a_link() {
    let keep = tempfile::tempdir().unwrap();
    let (real, link) = (keep.path().join("real"), keep.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink("real", &link).unwrap();
    for value in ["a", "b"] {
        let log = EmbeddedLog::open(Settings::new(&link)).unwrap();
        put(&log, "w/t/1", Some(value)).await;
        assert_eq!(texts(&all(&log).await.unwrap()), [pair("w/t/1", value)]);
    }
    assert!(real.join("engine").is_dir());
    // Where it leads must exist.
    symlink("missing", keep.path().join("dangling")).unwrap();
    assert!(matches!(EmbeddedLog::open(Settings::new(keep.path().join("dangling"))), Err(OpenError::Io { .. })));
    assert!(!keep.path().join("missing").exists());
}

/// Covers R47.
#[test]
fn a_leftover_with_another_name_is_replaced_and_not_written() {
    for name in ["store.new", "acknowledged"] {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let other = outside.path().join("other");
        fs::write(&other, "not yours").unwrap();
        fs::hard_link(&other, dir.path().join(name)).unwrap();
        drop(open(&dir));
        assert_eq!(fs::read_to_string(&other).unwrap(), "not yours", "{name}");
    }
    // A link in the leftovers of the engine is removed, and not what it leads to.
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("mine"), "x").unwrap();
    fs::create_dir(dir.path().join("engine.new")).unwrap();
    symlink(outside.path(), dir.path().join("engine.new/keyspaces")).unwrap();
    drop(open(&dir));
    assert!(outside.path().join("mine").exists());
}

/// Covers R47.
#[test]
fn a_pipe_or_a_directory_in_place_of_a_file_is_refused_and_not_waited_for() {
    for (name, is_pipe, what) in [
        ("lock", true, "not a regular file"),
        ("acknowledged", true, "not a regular file"),
        ("store.new", true, "not a regular file"),
        ("lock", false, "not a regular file"),
        ("acknowledged", false, "not a regular file"),
        ("engine.new", true, "not a directory"),
        ("engine", true, "not a directory"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        if is_pipe {
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        } else {
            fs::create_dir(&file).unwrap();
        }
        is_refused(&dir, name, what);
    }
}

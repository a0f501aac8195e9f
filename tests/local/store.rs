//! The embedded store when its files fail. No acknowledged write is lost, no damaged data is served, and probes report
//! it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use changelog_embedded::{EmbeddedLog, Settings};
use changelogd::proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::contract::server::{TestServer, directory, raw, reason};

fn data_dir(path: &Path) -> Vec<String> {
    vec![format!("--data-dir={}", path.display())]
}

async fn set(server: &TestServer, n: u32) -> Result<(), Status> {
    // Random bytes, which the journal cannot compress.
    let noise: String = (0..2000_u32).map(|i| format!("{:08x}", (n * 2000 + i).wrapping_mul(2_654_435_761))).collect();
    let value = raw(&format!("\"{noise}\""));
    let request = v1::SetRequest { changelog_id: format!("ws/t/{n}"), value, ..Default::default() };
    server.client.clone().set(request).await.map(drop)
}

async fn not_ready(server: &TestServer, cause: &str) {
    let started = std::time::Instant::now();
    loop {
        let (code, body) = server.http("/readyz").await;
        if code == 503 {
            assert!(body.contains(cause), "{body}");
            break;
        }
        assert!(started.elapsed() < crate::contract::server::PATIENCE, "readiness goes off");
    }
    assert_eq!(server.http("/livez").await.0, 200, "a restart is for people to decide on");
}

/// Covers C40, R34, F23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_commit_the_store_is_read_only_and_acknowledged_writes_remain() {
    let (_keep, path) = directory();
    TestServer::process(data_dir(&path)).await.ready().await.stop().await;
    // A file may grow to 2 MiB.
    let mut server = TestServer::process_with_small_files(4096, data_dir(&path)).await.ready().await;
    let mut acknowledged = Vec::new();
    let status = loop {
        let n = acknowledged.len() as u32;
        assert!(n < 10_000, "the limit holds");
        match set(&server, n).await {
            Ok(()) => acknowledged.push(format!("ws/t/{n}")),
            Err(status) => break status,
        }
    };
    assert!(!acknowledged.is_empty());
    // Some of it may be on the disk.
    assert_eq!((status.code(), &*reason(&status)), (Code::Unknown, "OUTCOME_UNKNOWN"), "{status:?}");
    let status = set(&server, 20_000).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::FailedPrecondition, "STORE_READ_ONLY"), "{status:?}");
    not_ready(&server, "takes no writes").await;
    assert_eq!(server.describe("").await.findings[0].code, "STORE_READ_ONLY");
    assert_eq!(server.load("ws").await.entries.len(), acknowledged.len(), "what was committed is served");

    server.kill_and_restart().await;
    server = server.ready().await;
    let unknown = format!("ws/t/{}", acknowledged.len());
    let found: Vec<_> =
        server.load("ws").await.entries.into_iter().map(|e| e.key).filter(|key| *key != unknown).collect();
    assert_eq!(found, acknowledged);
    set(&server, 20_000).await.expect("it takes writes again");
}

/// The largest file under a directory.
fn largest(dir: &Path) -> PathBuf {
    fn walk(dir: &Path, found: &mut Vec<(u64, PathBuf)>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push((metadata.len(), entry.path()));
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, &mut found);
    found.into_iter().filter(|(_, path)| path.extension().is_none_or(|e| e != "jnl")).max().expect("a file").1
}

/// Covers R35, F22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_meets_a_flipped_bit_is_data_loss_and_turns_readiness_off() {
    let (_keep, path) = directory();
    let mut server = TestServer::process(data_dir(&path)).await.ready().await;
    // More than fjall keeps in memory, so that it goes into tables.
    let mut n = 0;
    let tables = loop {
        for _ in 0..100 {
            set(&server, n).await.unwrap();
            n += 1;
        }
        let largest = largest(&path);
        if std::fs::metadata(&largest).unwrap().len() > 1024 * 1024 {
            break largest;
        }
        assert!(n < 100_000, "tables are written");
    };
    server.stop().await;
    let mut bytes = std::fs::read(&tables).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&tables, bytes).unwrap();

    let server = TestServer::process(data_dir(&path)).await.ready().await;
    let request = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let is_data_loss = |status: &Status| {
        assert_eq!((status.code(), &*reason(status)), (Code::DataLoss, "STORE_CORRUPT"), "{status:?}");
        assert!(status.message().contains(path.to_str().unwrap()), "{status:?}");
    };
    is_data_loss(&server.try_load(request).await.unwrap_err());
    is_data_loss(&set(&server, 0).await.unwrap_err());
    let elsewhere = v1::LoadWorkspaceRequest { workspace_id: "other".to_owned(), ..Default::default() };
    is_data_loss(&server.try_load(elsewhere).await.unwrap_err());
    is_data_loss(&server.get("other/t/1").await.unwrap_err());
    not_ready(&server, "the store is corrupt").await;
    assert_eq!(server.describe("").await.findings[0].code, "STORE_CORRUPT");
}

/// Covers C57, F23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_resource_exhausted_and_nothing_is_written() {
    let keep = tempfile::tempdir().unwrap();
    let settings = Settings { reserve_bytes: u64::MAX, ..Settings::new(keep.path()) };
    let log = Arc::new(EmbeddedLog::open(settings).unwrap());
    let server = TestServer::on_log(log, Vec::new()).await.ready().await;
    let status = set(&server, 1).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "DISK_FULL"), "{status:?}");
    assert!(status.get_error_details().retry_info().is_some_and(|i| i.retry_delay.is_some()), "{status:?}");
    assert_eq!(server.load("ws").await.entries.len(), 0);
    assert_eq!(server.http("/readyz").await.0, 200, "it passes by itself, and reads are served");
}

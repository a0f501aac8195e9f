//! The embedded store when its files fail it: nothing that was acknowledged is lost, nothing is served that can't be trusted,
//! and probes are told.

use std::path::Path;

use changelogd::proto::v1;
use tonic::{Code, Status};

use crate::contract::world::{World, directory, raw, reason};

fn data_dir(path: &Path) -> Vec<String> {
    vec![format!("--data-dir={}", path.display())]
}

async fn set(world: &World, n: u32) -> Result<(), Status> {
    // Nothing that a journal could make smaller.
    let noise: String = (0..2000_u32).map(|i| format!("{:08x}", (n * 2000 + i).wrapping_mul(2_654_435_761))).collect();
    let value = raw(&format!("\"{noise}\""));
    let request = v1::SetRequest { changelog_id: format!("ws/t/{n}"), value, ..Default::default() };
    world.client.clone().set(request).await.map(drop)
}

async fn not_ready(world: &World, cause: &str) {
    let started = std::time::Instant::now();
    loop {
        let (code, body) = world.http("/readyz").await;
        if code == 503 {
            assert!(body.contains(cause), "{body}");
            break;
        }
        assert!(started.elapsed() < crate::contract::world::PATIENCE, "readiness goes off");
    }
    assert_eq!(world.http("/livez").await.0, 200, "a restart is for people to decide on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r34_f23_after_a_failed_commit_the_store_is_read_only_and_every_acknowledged_write_is_there_after_a_restart() {
    let (_keep, path) = directory();
    World::process(data_dir(&path)).await.ready().await.stop().await;
    // 2 MiB a file.
    let mut world = World::process_with_small_files(4096, data_dir(&path)).await.ready().await;
    let mut acknowledged = Vec::new();
    let status = loop {
        let n = acknowledged.len() as u32;
        assert!(n < 10_000, "the limit holds");
        match set(&world, n).await {
            Ok(()) => acknowledged.push(format!("ws/t/{n}")),
            Err(status) => break status,
        }
    };
    assert!(!acknowledged.is_empty());
    // Some of it may be on the disk.
    assert_eq!((status.code(), &*reason(&status)), (Code::Unknown, "OUTCOME_UNKNOWN"), "{status:?}");
    let status = set(&world, 20_000).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::FailedPrecondition, "STORE_READ_ONLY"), "{status:?}");
    not_ready(&world, "takes no writes").await;
    assert_eq!(world.describe("").await.findings[0].code, "STORE_READ_ONLY");
    assert_eq!(world.load("ws").await.entries.len(), acknowledged.len(), "what was committed is served");

    world.kill_and_restart().await;
    world = world.ready().await;
    let unknown = format!("ws/t/{}", acknowledged.len());
    let found: Vec<_> =
        world.load("ws").await.entries.into_iter().map(|e| e.key).filter(|key| *key != unknown).collect();
    assert_eq!(found, acknowledged);
    set(&world, 20_000).await.expect("it takes writes again");
}

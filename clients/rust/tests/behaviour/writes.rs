//! Buffered writes and the writer.

use std::time::Duration;

use changelogd_client::{Code, Entity, Key, Writer};
use tokio::{task::unconstrained, time::timeout};

use crate::support::{Deployment, assert_error, observed, on_both, scripted, versions, workspace};

const MIB: usize = 1024 * 1024;
const WAIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn flush_lists_failed_writes() {
    on_both(async |client, workspace| {
        for version in 0..20 {
            client.set_buffered(&Deployment::new(&workspace, format!("{:02}", version % 10), version)).await.unwrap();
        }
        client.delete_buffered(&Deployment::new(&workspace, "00", 0).key()).await.unwrap();
        let flushed = client.flush(WAIT).await.unwrap();
        assert!(flushed.remaining == 0 && flushed.failures.is_empty() && flushed.omitted == 0, "{flushed:?}");
        let loaded = client.load(&workspace).await.unwrap();
        let loaded = versions(&loaded);
        assert_eq!((loaded.len(), loaded[0], loaded[8]), (9, ("01", 11), ("09", 19)));
    })
    .await;
    let client = scripted();
    let flushed = client.flush(WAIT).await.unwrap();
    let keys: Vec<_> = flushed.failures.iter().map(|failure| failure.key.as_str()).collect();
    assert_eq!(keys, ["flush/deployment/a", "flush/deployment/b"]);
    for failure in flushed.failures {
        let error = failure.error;
        assert_eq!((error.code(), error.reason()), (Code::Unavailable, Some("BROKERS_UNREACHABLE")));
        assert_eq!((error.retry_after(), error.is_safe_to_retry()), (Some(Duration::from_secs(1)), true));
    }
    assert!(client.flush(WAIT).await.unwrap().failures.is_empty());
    // At the same time, by clones.
    let client = scripted();
    let clone = client.clone();
    let (first, second) = tokio::join!(client.flush(WAIT), clone.flush(WAIT));
    let counts = [first, second].map(|flushed| flushed.unwrap().failures.len());
    assert_eq!(counts.iter().sum::<usize>(), 2, "{counts:?}");
}

#[tokio::test]
async fn a_writer_answers_each_mutation() {
    on_both(async |client, workspace| {
        let writer = client.writer().await.unwrap();
        let first = writer.set(&Deployment::new(&workspace, "a", 1)).await.unwrap();
        let refused = writer.set(&Deployment::new(&workspace, "", 1)).await.unwrap();
        let second = writer.set(&Deployment::new(&workspace, "b", 2)).await.unwrap();
        let deleted = writer.delete(&Key::new(&workspace, "deployment", "a")).await.unwrap();
        writer.close().await.unwrap();
        let error = assert_error(refused.await, Code::InvalidArgument, Some("KEY_INVALID"));
        assert_eq!(error.field(), Some("changelog_id"));
        let offsets = [first.await.unwrap(), second.await.unwrap(), deleted.await.unwrap()].map(|at| at.offset);
        assert!(offsets.is_sorted() && offsets[0] < offsets[2], "{offsets:?}");
        assert_eq!(versions(&client.load(&workspace).await.unwrap()), [("b", 2)]);
    })
    .await;
}

/// How many mutations with names of this length a writer takes before it waits.
async fn accepted(writer: &Writer, workspace: &str, name_bytes: usize) -> usize {
    let deployment = Deployment::new(workspace, "n".repeat(name_bytes), 1);
    let mut accepted = 0;
    while let Ok(verdict) = timeout(Duration::from_millis(500), writer.set(&deployment)).await {
        // The verdict may be dropped.
        drop(verdict.unwrap());
        accepted += 1;
    }
    accepted
}

#[tokio::test]
async fn a_writer_bounds_its_batches() {
    let client = scripted();
    // All are queued before the transport, which is a task of this thread, takes a message.
    let many = workspace("count");
    let writer = client.writer().await.unwrap();
    let verdicts = unconstrained(async {
        let mut verdicts = Vec::new();
        for version in 0..5_000 {
            verdicts.push(writer.set(&Deployment::new(&many, "a", version)).await.unwrap());
        }
        verdicts
    });
    let verdicts = verdicts.await;
    writer.close().await.unwrap();
    let mut offsets = Vec::new();
    for verdict in verdicts {
        offsets.push(verdict.await.unwrap().offset);
    }
    assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "verdicts of other mutations");
    let seen = observed(&client, &many).await;
    assert_eq!((seen.messages, seen.most_mutations), (5, 1_000), "{seen:?}");

    // By bytes. The entity has its name in the key and in the value.
    let large = workspace("count");
    let writer = client.writer().await.unwrap();
    let verdicts = unconstrained(async {
        let mut verdicts = Vec::new();
        for name_bytes in [200_000, 200_000, 200_000, 800_000, 10] {
            let deployment = Deployment::new(&large, "n".repeat(name_bytes), 1);
            verdicts.push(writer.set(&deployment).await.unwrap());
        }
        verdicts
    });
    for verdict in verdicts.await {
        verdict.await.unwrap();
    }
    let seen = observed(&client, &large).await;
    // Two of 400 kB, the third, the one of 1.6 MB alone, and the last.
    assert_eq!((seen.messages, seen.most_mutations), (4, 2), "{seen:?}");
    assert!(seen.most_bytes > 1_600_000 && seen.most_bytes < 1_601_000, "{seen:?}");

    for (name_bytes, least, most) in [(4, 10_000, 10_000), (2_000, 1_900, 8 * MIB / 4_000)] {
        let stalled = workspace("stall");
        let writer = client.writer().await.unwrap();
        let accepted = accepted(&writer, &stalled, name_bytes).await;
        assert!(accepted >= least && accepted <= most, "{accepted}");
        assert_eq!(observed(&client, &stalled).await.messages, 1);
    }
}

#[tokio::test]
async fn a_broken_writer_answers_with_unknown_outcomes() {
    let (client, workspace) = (scripted(), workspace("cut"));
    let writer = client.writer().await.unwrap();
    let mut verdicts = Vec::new();
    for version in 0..3 {
        verdicts.push(unconstrained(writer.set(&Deployment::new(&workspace, "a", version))).await.unwrap());
    }
    let mut verdicts = verdicts.into_iter();
    verdicts.next().unwrap().await.unwrap();
    for verdict in verdicts {
        let error = assert_error(timeout(WAIT, verdict).await.unwrap(), Code::Unavailable, None);
        assert!(!error.is_safe_to_retry() && error.message().contains("not known"), "{error}");
    }
    let error = assert_error(writer.set(&Deployment::new(&workspace, "a", 9)).await, Code::Unavailable, None);
    assert!(!error.is_safe_to_retry(), "{error}");
    let error = assert_error(timeout(WAIT, writer.close()).await.unwrap(), Code::Unavailable, None);
    assert!(!error.is_safe_to_retry(), "{error}");

    // Also if the caller reads no verdict.
    let writer = client.writer().await.unwrap();
    for version in 0..3 {
        drop(unconstrained(writer.set(&Deployment::new(&workspace, "a", version))).await.unwrap());
    }
    assert_error(timeout(WAIT, writer.close()).await.unwrap(), Code::Unavailable, None);
}

//! Watches on a real broker: while the cleaner runs, behind an open transaction, and of a topic that changes.

use std::time::Instant;

use changelogd::proto::v1;
use changelogd_testkit::{Isolation, shared_broker, shared_oracle, unique_topic};
use tokio::task::block_in_place;
use tonic::Code;

use crate::{
    contract::{
        busy,
        retention::a_watch_resumes_until_its_token_is_too_old,
        server::{TestServer, reason},
        watches::of,
        watching::Watching,
    },
    kit::PATIENCE,
    servers::{COMPACTED, topic},
};

/// Covers C71, R40, R67.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_ordered_unique_whole_and_final_while_the_cleaner_runs() {
    let (oracle, bootstrap, topic) = (shared_oracle(), shared_broker().bootstrap(), unique_topic("watch"));
    let tiny = [
        ("segment.bytes", "1048576"),
        ("segment.ms", "300"),
        ("min.cleanable.dirty.ratio", "0"),
        ("min.compaction.lag.ms", "0"),
    ];
    oracle.create(bootstrap, &topic, 1, 1, &[&COMPACTED[..], &tiny].concat()).expect("the topic is created");
    let arguments = vec![format!("--brokers={bootstrap}"), format!("--topic={topic}"), "--partitions=1".to_owned()];
    let server = TestServer::process(arguments).await.ready().await;
    let began = Instant::now();
    let cleaned = async |written: usize| {
        assert!(began.elapsed() < 2 * PATIENCE, "the cleaner does not come");
        let dump = block_in_place(|| oracle.dump(bootstrap, &topic, Isolation::ReadCommitted));
        let left = dump.expect("Java reads it").records.len();
        let has_cleaned = left + 40 < written;
        if has_cleaned {
            println!("{left} of {written} records are left");
        }
        has_cleaned
    };
    busy::watch_while_writing(&server, cleaned).await.assert_whole();
}

/// Covers C71, R67.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_of_a_log_that_is_not_compacted_deliver_every_change() {
    let server = TestServer::process(topic(1).1).await.ready().await;
    let busy = busy::watch_while_writing(&server, async |_| true).await;
    busy.assert_whole();
    for seen in &busy.ended {
        let skipped = seen.skipped(&busy.written);
        assert!(skipped.is_none(), "{skipped:?}");
    }
}

/// Covers C71, R4, F8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_delays_the_changes_of_a_watch_and_not_its_bookmarks() {
    let (topic, args) = topic(1);
    let server = TestServer::process(args).await.ready().await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    server.set("ws/t/before", "1").await;
    let mut watching = Watching::start(&server, of("ws")).await;
    watching.synced().await;
    for end in ["commit", "abort"] {
        let id = unique_topic("txn");
        oracle.txn_begin(bootstrap, &id).unwrap();
        oracle.txn_send(&id, &topic, 0, Some(format!("ws/t/inside-{end}").as_bytes()), Some(b"1")).unwrap();
        let after = format!("ws/t/after-{end}");
        server.set(&after, "2").await;
        watching.bookmark().await;
        watching.bookmark().await;
        let mut starting = Watching::start(&server, of("ws")).await;
        let status = starting.next().await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "OPEN_TRANSACTION"), "{status:?}");
        match end {
            "commit" => oracle.txn_commit(&id).unwrap(),
            _ => oracle.txn_abort(&id).unwrap(),
        }
        let changes = watching.until(|entry| entry.key == after).await;
        let inside = changes.iter().filter(|entry| entry.key.starts_with("ws/t/inside")).count();
        assert_eq!(inside, usize::from(end == "commit"), "{changes:?}");
    }
}

/// Covers C71, C52, R15, R16, F14, F15, F16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_recreated_or_grown_ends_a_watch_and_its_token() {
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    for (what, reasons) in [
        ("deleted", &["TOPIC_NOT_FOUND"][..]),
        // A reader can see the new topic's shorter log before the topic is checked.
        ("recreated", &["TOPIC_RECREATED", "TOPIC_NOT_FOUND", "LOG_TRUNCATED", "RESYNC_REQUIRED"]),
        ("grown", &["PARTITION_COUNT_CHANGED"]),
    ] {
        let (topic, args) = topic(2);
        let mut server = TestServer::process(args).await.ready().await;
        server.set("ws/t/a", "1").await;
        let mut watching = Watching::start(&server, of("ws")).await;
        let token = watching.synced().await.1.resume_token;
        match what {
            "grown" => oracle.add_partitions(bootstrap, &topic, 3).unwrap(),
            _ => oracle.delete(bootstrap, &topic).unwrap(),
        }
        if what == "recreated" {
            oracle.create(bootstrap, &topic, 2, 1, &COMPACTED).unwrap();
        }
        let changed = Instant::now();
        let status = loop {
            if let Err(status) = watching.next().await {
                break status;
            }
        };
        println!("{what}: {} after {:?}", reason(&status), changed.elapsed());
        assert!(reasons.contains(&&*reason(&status)), "{what}: {status:?}");
        if what != "recreated" {
            continue;
        }
        // After a restart the new topic is served, and the old token requires a resync.
        server.restart().await;
        let server = server.ready().await;
        let request = v1::WatchRequest { resume_token: token, ..of("ws") };
        let status = Watching::start(&server, request).await.next().await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "RESYNC_REQUIRED"), "{status:?}");
    }
}

/// Covers C71, C49.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_with_a_token_older_than_half_of_delete_retention_ms_must_start_again() {
    let (topic, arguments) = topic(1);
    shared_oracle().config(shared_broker().bootstrap(), &topic, &[("delete.retention.ms", "4000")]).unwrap();
    let server = TestServer::process(arguments).await.ready().await;
    a_watch_resumes_until_its_token_is_too_old(&server).await;
}

//! Watches on a real broker that is away, or whose log has an open transaction.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelogd::proto::v1;
use changelogd_testkit::{Broker, Watched, Written, shared_broker, shared_oracle, unique_topic};
use tokio::task::block_in_place;
use tonic::{Code, Status};

use crate::{
    contract::{
        server::{TestServer, reason},
        watches::of,
        watching::Watching,
    },
    kit::PATIENCE,
    servers::{COMPACTED, topic},
};

/// A follower waits for a minute.
const ENDS_WITHIN: Duration = Duration::from_secs(100);

/// A server with a broker that a test may stop.
async fn with_own_broker() -> (Broker, TestServer) {
    let (broker, topic) = (block_in_place(Broker::start), unique_topic("away"));
    block_in_place(|| shared_oracle().create(broker.bootstrap(), &topic, 1, 1, &COMPACTED)).expect("a topic");
    let arguments =
        vec![format!("--brokers={}", broker.bootstrap()), format!("--topic={topic}"), "--partitions=1".to_owned()];
    (broker, TestServer::process(arguments).await.ready().await)
}

/// The events of a call, and what the client knows. The call was refused if there are no events.
async fn called(server: &TestServer, token: &Bytes, seen: &Watched) -> Result<Watching, Status> {
    let request = v1::WatchRequest { resume_token: token.clone(), ..of("ws") };
    let events = server.client.clone().watch(request).await?.into_inner();
    Ok(Watching { events, seen: seen.clone() })
}

/// Resumes until the state has come. What is answered meanwhile says that this is right.
async fn resumed(server: &TestServer, mut seen: Watched) -> (Watching, Vec<v1::Entry>) {
    let began = Instant::now();
    let token = Bytes::from(seen.resume());
    loop {
        let refused = match called(server, &token, &seen).await {
            Err(status) => status,
            Ok(mut watching) => {
                let mut missed = Vec::new();
                loop {
                    match watching.next().await {
                        Ok(v1::watch_response::Event::Batch(batch)) => missed.extend(batch.entries),
                        Ok(_) => return (watching, missed),
                        Err(status) => break status,
                    }
                }
            }
        };
        let found = (refused.code(), &*reason(&refused));
        assert_eq!(found, (Code::Unavailable, "BROKERS_UNREACHABLE"), "{refused:?}");
        assert!(began.elapsed() < 2 * PATIENCE, "it is not resumed: {refused:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One watch stays open while the broker is away. Another is resumed in vain then, and with its old token afterwards.
/// Covers C71, C49, F1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_miss_nothing_when_brokers_were_away() {
    let (mut broker, server) = with_own_broker().await;
    let mut written = Vec::new();
    let mut write = |key: &str, value: Option<&str>, position: v1::Position| {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        written.push(Written { key, value, offset: Some(position.offset) });
    };
    for key in ["ws/t/kept", "ws/t/changed", "ws/t/deleted"] {
        write(key, Some("1"), server.set(key, "1").await);
    }
    let mut steady = Watching::start(&server, of("ws")).await;
    steady.synced().await;
    let mut broken = Watching::start(&server, of("ws")).await;
    broken.synced().await;
    let token = broken.bookmark().await;
    let broken = broken.seen;
    write("ws/t/changed", Some("2"), server.set("ws/t/changed", "2").await);
    write("ws/t/deleted", None, server.delete("ws/t/deleted").await);
    steady.until(|entry| entry.key == "ws/t/deleted").await;

    block_in_place(|| broker.stop());
    let refused = match called(&server, &token, &broken).await {
        Err(status) => status,
        Ok(mut watching) => watching.next().await.expect_err("the broker is away"),
    };
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "BROKERS_UNREACHABLE"), "{refused:?}");
    block_in_place(|| broker.restart());

    let (mut broken, missed) = resumed(&server, broken).await;
    let keys: Vec<_> = missed.iter().map(|entry| (&*entry.key, entry.is_tombstone)).collect();
    assert_eq!(keys, [("ws/t/changed", false), ("ws/t/deleted", true)]);
    let server = server.ready().await;
    write("ws/t/after", Some("3"), server.set("ws/t/after", "3").await);
    let after = |entry: &v1::Entry| entry.key == "ws/t/after";
    broken.until(after).await;
    // It was not long enough to end a watch that is open.
    steady.until(after).await;
    for seen in [&broken.seen, &steady.seen] {
        assert_eq!(seen.differs(&written, i64::MAX), None);
    }
}

/// Waits until the server ends a watch. Nothing but bookmarks may come meanwhile.
async fn ended(watching: &mut Watching) -> Status {
    let began = Instant::now();
    let ended = async {
        loop {
            match watching.events.message().await {
                Ok(message) => match message.and_then(|message| message.event).expect("an event") {
                    v1::watch_response::Event::Bookmark(bookmark) => {
                        watching.seen.bookmark(&bookmark.resume_token).unwrap()
                    }
                    other => panic!("{other:?}"),
                },
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(ENDS_WITHIN, ended).await.expect("it ends after a minute");
    println!("{} after {:?}", reason(&status), began.elapsed());
    assert!(began.elapsed() > ENDS_WITHIN / 2, "not before a minute");
    status
}

/// At the same time, because each takes a minute.
/// Covers C71, C49, F1, F8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_after_a_minute_without_brokers_or_behind_a_transaction_and_resumes() {
    let tests = [tokio::spawn(away_for_a_minute()), tokio::spawn(behind_a_transaction_for_a_minute())];
    for test in tests {
        test.await.unwrap();
    }
}

async fn away_for_a_minute() {
    let (mut broker, server) = with_own_broker().await;
    let mut written = Vec::new();
    for (key, value) in [("ws/t/a", "1"), ("ws/t/b", "1")] {
        let offset = Some(server.set(key, value).await.offset);
        written.push(Written { key: key.to_owned(), value: Some(value.to_owned()), offset });
    }
    let mut watching = Watching::start(&server, of("ws")).await;
    watching.synced().await;
    let offset = Some(server.delete("ws/t/a").await.offset);
    written.push(Written { key: "ws/t/a".to_owned(), value: None, offset });
    watching.until(|entry| entry.is_tombstone).await;

    block_in_place(|| broker.stop());
    let status = ended(&mut watching).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "BROKERS_UNREACHABLE"), "{status:?}");
    block_in_place(|| broker.restart());
    let (mut watching, _) = resumed(&server, watching.seen).await;
    let server = server.ready().await;
    let offset = Some(server.set("ws/t/c", "1").await.offset);
    written.push(Written { key: "ws/t/c".to_owned(), value: Some("1".to_owned()), offset });
    watching.until(|entry| entry.key == "ws/t/c").await;
    assert_eq!(watching.seen.differs(&written, i64::MAX), None);
}

async fn behind_a_transaction_for_a_minute() {
    let (topic, arguments) = topic(1);
    let server = TestServer::process(arguments).await.ready().await;
    let (oracle, bootstrap, id) = (shared_oracle(), shared_broker().bootstrap(), unique_topic("txn"));
    let mut watching = Watching::start(&server, of("ws")).await;
    watching.synced().await;
    block_in_place(|| {
        oracle.txn_begin_with_timeout(bootstrap, &id, 5 * 60 * 1_000).unwrap();
        oracle.txn_send(&id, &topic, 0, Some(b"ws/t/inside"), Some(b"1")).unwrap();
    });
    let offset = Some(server.set("ws/t/after", "1").await.offset);
    let status = ended(&mut watching).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "OPEN_TRANSACTION"), "{status:?}");
    block_in_place(|| oracle.txn_abort(&id)).unwrap();
    let mut seen = watching.seen;
    let token = seen.resume();
    assert!(!token.is_empty());
    let request = v1::WatchRequest { resume_token: token.into(), ..of("ws") };
    let mut watching = Watching::resumed(&server, request, seen).await;
    watching.synced().await;
    let written = [Written { key: "ws/t/after".to_owned(), value: Some("1".to_owned()), offset }];
    assert_eq!(watching.seen.differs(&written, i64::MAX), None);
}

//! Faults of changelogd itself, such as a panic in the code behind a call; what a client learns of a log's errors.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use changelog_core::{
    log::{
        ClockRange, Corrupt, Gone, InSync, MemoryLog, MoveCause, ReadError, TopicProblem, TruncationCause, WriteError,
    },
    model::{Partition, PartitionCount},
    testing::FakeLog,
};
use changelogd::proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::contract::server::{TestServer, raw, reason};

/// A server on a log that panics.
async fn faulty() -> TestServer {
    let memory = MemoryLog::new(PartitionCount::new(2).unwrap(), Duration::from_secs(1000));
    let log = FakeLog::new(memory)
        .on_append(|_, _| panic!("in append"))
        .on_replay(|_, _| -> std::future::Ready<_> { panic!("in replay") })
        .on_describe(|_| -> std::future::Ready<_> { panic!("in describe") });
    TestServer::on_log(Arc::new(log), vec!["--store=memory".to_owned()]).await.ready().await
}

async fn drained<T>(stream: Result<tonic::Response<tonic::Streaming<T>>, Status>) -> Result<(), Status> {
    let mut stream = stream?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Covers R44, C43, C76.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_called_a_fault_and_a_write_behind_it_unknown() {
    let server = faulty().await;
    let mut client = server.client.clone();
    let key = || "ws/t/1".to_owned();
    let set = v1::SetRequest { changelog_id: key(), value: raw("1"), ..Default::default() };
    let buffered = v1::SetRequest { ack: v1::Ack::Buffered.into(), ..set.clone() };
    let delete = v1::DeleteRequest { changelog_id: key(), ..Default::default() };
    let mutation =
        v1::Mutation { changelog_id: key(), change: Some(v1::mutation::Change::Raw("1".into())), ..Default::default() };
    let writes = tokio_stream::iter([v1::WriteRequest { mutations: vec![mutation] }]);
    for (rpc, ended) in [
        ("Set", client.set(set).await.map(drop)),
        ("Set, buffered", client.set(buffered).await.map(drop)),
        ("Delete", client.delete(delete).await.map(drop)),
        ("Write", drained(client.write(writes).await).await),
    ] {
        let status = ended.expect_err(rpc);
        assert_eq!((status.code(), &*reason(&status)), (Code::Unknown, "OUTCOME_UNKNOWN"), "{rpc}: {status:?}");
    }
    let get = v1::GetRequest { changelog_id: key(), ..Default::default() };
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let stream = v1::StreamAllRequest::default();
    let follow = v1::StreamAllRequest { follow: true, ..Default::default() };
    for (rpc, ended) in [
        ("Get", client.get(get).await.map(drop)),
        ("LoadWorkspace", drained(client.load_workspace(load).await).await),
        ("StreamAll", drained(client.stream_all(stream).await).await),
        ("StreamAll, follow", drained(client.stream_all(follow).await).await),
        ("Describe", client.describe(v1::DescribeRequest::default()).await.map(drop)),
    ] {
        let status = ended.expect_err(rpc);
        assert_eq!((status.code(), &*reason(&status)), (Code::Internal, "INTERNAL_FAULT"), "{rpc}: {status:?}");
    }
    // The process goes on.
    assert_eq!(server.http("/livez").await.0, 200);
    client.flush(v1::FlushRequest::default()).await.unwrap();
}

/// Covers R44, R46.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failure_of_the_store_each_call_names_it_and_nothing_is_written() {
    let gone = Gone { dir: "data".into(), cause: "data/lock is missing".to_owned() };
    let corrupt = Corrupt { detail: "data/engine/0.jnl".to_owned() };
    let fault = WriteError::Fault { cause: "the writer thread ended".to_owned() };
    let cases: [(WriteError, Option<ReadError>, Code, &str); 4] = [
        (gone.clone().into(), Some(gone.into()), Code::FailedPrecondition, "STORE_GONE"),
        (corrupt.clone().into(), Some(corrupt.into()), Code::DataLoss, "STORE_CORRUPT"),
        (fault, None, Code::Internal, "INTERNAL_FAULT"),
        (
            WriteError::ReadOnly { cause: "a commit failed".to_owned() },
            None,
            Code::FailedPrecondition,
            "STORE_READ_ONLY",
        ),
    ];
    for (write, read, code, expected) in cases {
        let memory = MemoryLog::new(PartitionCount::new(2).unwrap(), Duration::from_secs(1000));
        let refused = read.clone();
        let log = FakeLog::new(memory).on_append(move |_, _| Err(write.clone())).on_replay(move |memory, request| {
            let refused = refused.clone();
            async move {
                match refused {
                    Some(error) => Err(error),
                    None => changelog_core::log::Log::replay(&memory, request).await,
                }
            }
        });
        let server = TestServer::on_log(Arc::new(log), vec!["--store=memory".to_owned()]).await.ready().await;
        let set = v1::SetRequest { changelog_id: "ws/t/1".to_owned(), value: raw("1"), ..Default::default() };
        let delete = v1::DeleteRequest { changelog_id: "ws/t/1".to_owned(), ..Default::default() };
        let mut client = server.client.clone();
        for status in [client.set(set).await.map(drop), client.delete(delete).await.map(drop)] {
            let status = status.unwrap_err();
            assert_eq!((status.code(), &*reason(&status)), (code, expected), "{status:?}");
            assert!(status.message().contains("nothing was written"), "{status:?}");
        }
        let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
        let loaded = server.try_load(load).await.map(drop).map_err(|status| (status.code(), reason(&status)));
        assert_eq!(loaded, if read.is_some() { Err((code, expected.to_owned())) } else { Ok(()) }, "{expected}");
    }
}

/// Covers C77.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_facts_of_an_error_of_the_log_reach_the_client() {
    let partition = Partition::new(1).unwrap();
    let cause = || "a cause".to_owned();
    let topic = TopicProblem::PartitionCountChanged { topic: "t".to_owned(), expected: 2, actual: 3 };
    let of_topic = [("topic", "t"), ("expected", "2"), ("got", "3")];
    let end_went_back = TruncationCause::EndWentBack { was: 9, high: 4 };
    let setting = "--delete-retention";
    let too_slow = MoveCause::TooSlow { read_ms: 1_001, retention_ms: 2_000, setting };
    let reads: [(ReadError, &[(&str, &str)]); 13] = [
        (topic.clone().into(), &of_topic),
        (ReadError::EndedEarly { partition }, &[("partition", "1")]),
        (ReadError::Truncated { partition, cause: TruncationCause::Other(cause()) }, &[("partition", "1")]),
        (
            ReadError::Truncated { partition, cause: end_went_back },
            &[("partition", "1"), ("endOffset", "9"), ("highWatermark", "4")],
        ),
        (
            ReadError::Truncated { partition, cause: TruncationCause::Purged { offset: 3 } },
            &[("partition", "1"), ("offset", "3")],
        ),
        (
            ReadError::Moved { partition, cause: too_slow },
            &[("partition", "1"), ("readMs", "1001"), ("deleteRetentionMs", "2000")],
        ),
        (
            ReadError::Moved { partition, cause: MoveCause::Purged { offset: 3 } },
            &[("partition", "1"), ("offset", "3")],
        ),
        (
            ReadError::Moved { partition, cause: MoveCause::Grew { rounds: 5, end: 9, lag_ms: 0 } },
            &[("partition", "1"), ("endOffset", "9")],
        ),
        (
            ReadError::RetentionTooShort { partition, read_ms: 3, retention_ms: 5, setting },
            &[("partition", "1"), ("readMs", "3"), ("deleteRetentionMs", "5")],
        ),
        (
            ReadError::NoProgress { partition, position: 3, end: 8, seconds: 10, cause: Some(cause()) },
            &[("partition", "1"), ("offset", "3"), ("endOffset", "8")],
        ),
        (
            ReadError::OffsetOutOfRange { partition, offset: 3, low: 4, end: 8 },
            &[("partition", "1"), ("offset", "3"), ("lowWatermark", "4"), ("highWatermark", "8")],
        ),
        (
            ReadError::OpenTransaction { partition, last_stable: 5, high: 9 },
            &[("partition", "1"), ("lastStableOffset", "5"), ("highWatermark", "9")],
        ),
        (
            ReadError::Deadline { partition, position: 3, end: 8 },
            &[("partition", "1"), ("offset", "3"), ("endOffset", "8")],
        ),
    ];
    for (error, expected) in reads {
        let memory = MemoryLog::new(PartitionCount::new(2).unwrap(), Duration::from_secs(1000));
        let log = FakeLog::new(memory).on_replay(move |_, _| std::future::ready(Err(error.clone())));
        let server = TestServer::on_log(Arc::new(log), vec!["--store=memory".to_owned()]).await.ready().await;
        let load = v1::LoadWorkspaceRequest { workspace_id: "ws?".to_owned(), ..Default::default() };
        assert_eq!(facts(&server.try_load(load).await.unwrap_err()), with(expected, ("workspace", "ws?")));
        assert_eq!(facts(&server.get("ws/t/?").await.unwrap_err()), with(expected, ("key", "ws/t/?")));
    }
    let clock = ClockRange { now: "2026-01-01T00:00:00.000Z".to_owned(), before_ms: 5, after_ms: 6 };
    let replicas = Some(InSync { partition, in_sync: 1, min: 2 });
    let writes: [(WriteError, &[(&str, &str)]); 7] = [
        (
            WriteError::ClockSkew { cause: cause(), clock },
            &[("clock", "2026-01-01T00:00:00.000Z"), ("beforeMs", "5"), ("afterMs", "6")],
        ),
        (
            WriteError::NotEnoughReplicas { cause: cause(), replicas },
            &[("partition", "1"), ("expected", "2"), ("got", "1")],
        ),
        (WriteError::NotEnoughReplicas { cause: cause(), replicas: None }, &[]),
        (topic.into(), &of_topic),
        (WriteError::TooLarge { limit: 10, got: 20 }, &[("limit", "10"), ("got", "20")]),
        (WriteError::QueueFull { limit: "3 records".to_owned() }, &[("limit", "3 records")]),
        (WriteError::OutcomeUnknown { by_time: false, cause: cause() }, &[]),
    ];
    for (error, expected) in writes {
        let memory = MemoryLog::new(PartitionCount::new(2).unwrap(), Duration::from_secs(1000));
        let log = FakeLog::new(memory).on_append(move |_, _| Err(error.clone()));
        let server = TestServer::on_log(Arc::new(log), vec!["--store=memory".to_owned()]).await.ready().await;
        let set = v1::SetRequest { changelog_id: "ws/t/1".to_owned(), value: raw("1"), ..Default::default() };
        let status = server.client.clone().set(set).await.unwrap_err();
        assert_eq!(facts(&status), with(expected, ("key", "ws/t/1")), "{status:?}");
    }
}

fn facts(status: &Status) -> BTreeMap<String, String> {
    let details = status.get_error_details();
    details.error_info().unwrap_or_else(|| panic!("{status:?}")).metadata.clone().into_iter().collect()
}

fn with(facts: &[(&str, &str)], more: (&str, &str)) -> BTreeMap<String, String> {
    facts.iter().copied().chain([more]).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

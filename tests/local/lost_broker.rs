//! The answers to writes and flushes after the broker is lost.

use std::{collections::HashSet, time::Instant};

use changelogd::proto::v1;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    contract::server::{PATIENCE, TestServer, raw, reason},
    mock_cluster::MockKafka,
    servers::raw_client,
};

async fn server(more: &[&str]) -> (TestServer, MockKafka) {
    let kafka = MockKafka::start(3);
    let more = more.iter().map(|m| (*m).to_owned());
    let server = TestServer::in_process(kafka.arguments(3).into_iter().chain(more).collect()).await.ready().await;
    // On a busy machine the first write may take longer than a short --write-timeout.
    let started = Instant::now();
    while let Err(status) = server.client.clone().set(set("ws/t/before", v1::Ack::Durable)).await {
        assert!(started.elapsed() < PATIENCE, "{status:?}");
    }
    (server, kafka)
}

fn set(key: &str, ack: v1::Ack) -> v1::SetRequest {
    v1::SetRequest { changelog_id: key.to_owned(), value: raw("1"), ack: ack.into(), ..Default::default() }
}

async fn flush(server: &TestServer, timeout_ms: u32, failures_after: u64) -> v1::FlushResponse {
    let request = v1::FlushRequest { timeout_ms, failures_after };
    server.client.clone().flush(request).await.expect("flush is OK whenever it ran").into_inner()
}

/// Covers C19, C21, C41, C54, R31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_names_every_buffered_write_that_failed() {
    let (server, kafka) = server(&["--write-timeout=4s"]).await;
    kafka.switch(false);
    let keys: HashSet<_> = (0..20).map(|i| format!("ws{}/t/{i}", i % 5)).collect();
    for key in &keys {
        server.client.clone().set(set(key, v1::Ack::Buffered)).await.expect("accepted");
    }
    let early = flush(&server, 1, 0).await;
    assert_eq!((early.remaining, early.failures.len()), (20, 0), "{early:?}");
    let late = flush(&server, 20_000, 0).await;
    assert_eq!(late.remaining, 0);
    assert_eq!(late.failures.iter().map(|f| f.key.clone()).collect::<HashSet<_>>(), keys);
    assert!(late.failures.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(late.last_failure, late.failures.last().unwrap().id);
    for failure in &late.failures {
        let error = failure.error.as_ref().unwrap();
        let expected =
            [(v1::Code::Unavailable, "BROKERS_UNREACHABLE"), (v1::Code::DeadlineExceeded, "OUTCOME_UNKNOWN")];
        assert!(expected.contains(&(error.code(), &*error.reason)), "{error:?}");
        assert!(error.message.contains(&failure.key), "{error:?}");
    }
    assert_eq!(flush(&server, 1, 0).await.failures, late.failures, "a lost answer is asked again");
    let none = flush(&server, 1, late.last_failure).await;
    assert_eq!((none.failures.len(), none.last_failure), (0, late.last_failure));
    kafka.switch(true);
    // Nothing was sent again without a request of the caller.
    let started = Instant::now();
    let loaded = loop {
        let request = v1::LoadWorkspaceRequest { workspace_id: "ws0".to_owned(), ..Default::default() };
        match server.try_load(request).await {
            Ok(loaded) => break loaded,
            Err(status) => assert!(started.elapsed() < PATIENCE, "it recovers: {status:?}"),
        }
    };
    assert_eq!(loaded.entries.len(), 0);
}

/// Covers C21, C41.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_names_failures_after_a_restart_of_the_server() {
    let mut last_failure = 0;
    for _process in 0..3 {
        let (server, kafka) = server(&["--write-timeout=1s"]).await;
        kafka.switch(false);
        server.client.clone().set(set("ws/t/lost", v1::Ack::Buffered)).await.expect("accepted");
        let flushed = flush(&server, 20_000, last_failure).await;
        assert_eq!((flushed.remaining, flushed.failures.len(), flushed.failures_omitted), (0, 1, 0), "{flushed:?}");
        last_failure = flushed.last_failure;
    }
}

/// Covers C55, R28.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_s_deadline_before_the_acknowledgement_is_an_unknown_outcome() {
    let (server, kafka) = server(&["--write-timeout=30s"]).await;
    kafka.switch(false);
    let mut request = Request::new(set("ws/t/late", v1::Ack::Durable));
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    // tonic's own client also ends calls at the deadline, and would answer first. This tests the answer of the server.
    let status = raw_client(&server.api).await.set(request).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "OUTCOME_UNKNOWN"), "{status:?}");
    assert_eq!(flush(&server, 1, 0).await.remaining, 1, "it is still queued");
    kafka.switch(true);
    let flushed = flush(&server, 30_000, 0).await;
    assert_eq!((flushed.remaining, flushed.failures.len()), (0, 0), "{flushed:?}");
    let started = Instant::now();
    while server.get("ws/t/late").await.is_err() {
        assert!(started.elapsed() < PATIENCE, "it landed after all");
    }
}

/// Covers C51, K4, F1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_not_sent_is_unavailable_and_readiness_goes_off_and_on() {
    let (server, kafka) = server(&["--write-timeout=3s"]).await;
    kafka.switch(false);
    let status = server.client.clone().set(set("ws/t/a", v1::Ack::Durable)).await.unwrap_err();
    let found = (status.code(), reason(&status));
    assert!(
        found == (Code::Unavailable, "BROKERS_UNREACHABLE".to_owned())
            || found == (Code::DeadlineExceeded, "OUTCOME_UNKNOWN".to_owned()),
        "{status:?}"
    );
    let started = Instant::now();
    while server.http("/readyz").await.0 != 503 {
        assert!(started.elapsed() < PATIENCE, "readiness goes off");
    }
    assert_eq!(server.http("/livez").await.0, 200);
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.api)).unwrap().connect().await;
    let mut health = HealthClient::new(channel.unwrap());
    for (service, serves) in [("", false), ("readiness", false), ("serving", true), ("liveness", true)] {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
        assert_eq!(answer.status() == ServingStatus::Serving, serves, "{service}");
    }
    kafka.switch(true);
    server.ready().await.set("ws/t/a", "1").await;
}

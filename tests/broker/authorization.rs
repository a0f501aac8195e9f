//! A broker with authentication and authorization: lost rights, a wrong password, an expired or unknown certificate.
//! Also a consumer group without any rights, which no load needs.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use changelogd_testkit::{
    guarded::{Guarded, PASSWORD, WRONG_PASSWORD},
    shared_oracle, unique_topic,
};
use tonic::{Code, Status};

use crate::{
    contract::server::{PATIENCE, TestServer, reason},
    servers::COMPACTED,
    topic_care::{load, set},
};

fn guarded() -> &'static Guarded {
    static GUARDED: OnceLock<Guarded> = OnceLock::new();
    GUARDED.get_or_init(Guarded::start)
}

fn topic_on(guarded: &Guarded) -> String {
    let topic = unique_topic("guarded");
    shared_oracle().create(guarded.broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
    topic
}

/// Waits a few seconds at most until a load and a write are answered so, with the cause. Returns both messages.
pub async fn come_to_be(server: &TestServer, code: (Code, &str), cause: &str) -> String {
    let started = Instant::now();
    loop {
        let found = [set(server).await, load(server).await].map(Result::err);
        let told = |s: &Option<Status>| {
            s.as_ref().is_some_and(|s| (s.code(), &*reason(s)) == code && s.message().contains(cause))
        };
        if found.iter().all(told) {
            return found.iter().flatten().map(Status::message).collect::<Vec<_>>().join("; ");
        }
        assert!(started.elapsed() < PATIENCE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn come_to_work(server: &TestServer) {
    come_to_work_within(server, PATIENCE).await;
}

pub async fn come_to_work_within(server: &TestServer, limit: Duration) {
    let started = Instant::now();
    loop {
        let found = (set(server).await, load(server).await);
        if matches!(found, (Ok(()), Ok(()))) {
            return;
        }
        assert!(started.elapsed() < limit, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const NOT_AUTHORIZED: (Code, &str) = (Code::FailedPrecondition, "NOT_AUTHORIZED_BY_BROKER");
pub const UNREACHABLE: (Code, &str) = (Code::Unavailable, "BROKERS_UNREACHABLE");

/// Covers R19, F19, F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_rights_are_a_failed_precondition_and_the_group_needs_no_right() {
    let (guarded, oracle) = (guarded(), shared_oracle());
    let (topic, plain) = (topic_on(guarded), guarded.broker.bootstrap());
    oracle.allow(plain, &topic, "service", "describe,describe_configs,read,write").unwrap();
    let server = TestServer::process(guarded.with_sasl(&topic, PASSWORD)).await.ready().await;
    // The user has no right to any group.
    come_to_work(&server).await;
    for lost in ["read,write", "describe,describe_configs,read,write"] {
        oracle.forbid(plain, &topic, "service", lost).unwrap();
        let said = come_to_be(&server, NOT_AUTHORIZED, &topic).await;
        println!("without {lost}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
        assert_eq!(server.http("/livez").await.0, 200);
        oracle.allow(plain, &topic, "service", lost).unwrap();
        come_to_work(&server).await;
    }
    // The user keeps only one of the two rights.
    oracle.forbid(plain, &topic, "service", "write").unwrap();
    let refused = Err((NOT_AUTHORIZED.0, NOT_AUTHORIZED.1.to_owned()));
    let started = Instant::now();
    while set(&server).await.map_err(|s| (s.code(), reason(&s))) != refused {
        assert!(started.elapsed() < PATIENCE, "writes go on");
    }
    // The same after the producer has asked for a new id, which a service without the right to write does not get.
    for _ in 0..20 {
        let answer = set(&server).await;
        assert_eq!(answer.as_ref().map_err(|s| (s.code(), reason(s))).copied(), refused, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    load(&server).await.unwrap();
}

/// Covers C58, S12, K4, F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_unavailable_with_the_cause_and_without_the_secret() {
    let guarded = guarded();
    let topic = topic_on(guarded);
    let server = TestServer::process(guarded.with_sasl(&topic, WRONG_PASSWORD)).await;
    let said = come_to_be(&server, UNREACHABLE, "Authentication failed").await;
    println!("wrong password: {said}");
    assert!(!said.contains(WRONG_PASSWORD), "{said}");
    let (status, ready) = server.http("/readyz").await;
    assert!(status == 503 && !ready.contains(WRONG_PASSWORD), "{ready}");
    assert_eq!(server.http("/livez").await.0, 200);
}

/// Covers F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_or_unknown_certificate_is_unavailable_with_the_cause() {
    let guarded = guarded();
    for (brokers, ca, cause) in [
        (&guarded.tls, "good", ""),
        (&guarded.tls, "stranger", "certificate verify failed"),
        (&guarded.tls_expired, "expired", "certificate has expired"),
    ] {
        let topic = topic_on(guarded);
        let server = TestServer::process(guarded.with_tls(brokers, &topic, ca)).await;
        if cause.is_empty() {
            come_to_work(&server).await;
            continue;
        }
        let said = come_to_be(&server, UNREACHABLE, cause).await;
        println!("{ca}: {said}");
        assert_eq!(server.http("/readyz").await.0, 503);
        assert_eq!(server.http("/livez").await.0, 200);
    }
}

/// Covers S11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pem_of_several_lines_in_a_properties_file_is_used_for_tls() {
    let guarded = guarded();
    for is_continued in [false, true] {
        let topic = topic_on(guarded);
        let server = TestServer::process(guarded.with_tls_in_properties(&topic, is_continued)).await;
        come_to_work(&server).await;
    }
}

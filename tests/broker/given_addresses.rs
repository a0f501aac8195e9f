//! Brokers that send their clients to addresses that do not answer.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use changelogd_testkit::{Broker, unique_topic};

use crate::contract::server::{PATIENCE, TestServer};

/// librdkafka gives a connection up after 10 s (api.version.request.timeout.ms). Silent clients are replaced after 5,
/// 10 and 20 s. So the cause comes from the second or the third client.
const CONNECTIONS_GIVEN_UP: Duration = PATIENCE.saturating_mul(3);

async fn not_ready(advertised: &str, named: &[&str]) {
    let listeners = format!("PLAINTEXT://{advertised}");
    let broker = tokio::task::spawn_blocking(move || Broker::start_with(&[("advertised.listeners", &listeners)]));
    let broker = broker.await.expect("a broker");
    let arguments = vec![
        format!("--brokers={}", broker.bootstrap()),
        format!("--topic={}", unique_topic("given")),
        "--partitions=1".to_owned(),
    ];
    let server = TestServer::process(arguments).await;
    let started = Instant::now();
    loop {
        let (status, text) = server.http("/readyz").await;
        assert_eq!(status, 503, "{text}");
        if named.iter().chain(&[advertised, "advertised.listeners"]).all(|named| text.contains(named)) {
            break;
        }
        // A cluster with a controller is never asked by plain metadata.
        assert!(!text.contains("Meta data fetch error"), "{text}");
        assert!(started.elapsed() < CONNECTIONS_GIVEN_UP, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Covers R51.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_refuses_connections_is_named_with_its_origin() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    not_ready(&port.to_string(), &["Connection refused"]).await;
}

/// Covers R51.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_answer_is_named_with_its_origin() {
    // The system accepts connections, and nothing reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    not_ready(&silent.local_addr().unwrap().to_string(), &["the brokers gave"]).await;
}

/// Covers R51.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_resolve_is_named_with_its_origin() {
    // A part of a name has at most 63 characters, so no name server is asked.
    not_ready(&format!("{}.invalid:9092", "a".repeat(64)), &["resolve"]).await;
}

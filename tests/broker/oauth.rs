//! A broker that wants tokens of SASL OAUTHBEARER, with Kafka's validator of unsecured tokens, an identity provider of
//! this test, and token files. Most tests use a listener that closes each connection that does not authenticate again
//! within three seconds.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use changelogd::proto::v1;
use changelogd_testkit::{
    identity_provider::{Granting, IdentityProvider, OauthBroker, unsecured_jwt},
    shared_oracle, unique_topic,
};
use tempfile::TempDir;
use tonic::Status;

use crate::{
    authorization::{UNREACHABLE, come_to_be, come_to_work},
    contract::server::{PATIENCE, TestServer, binary, raw, reason},
    servers::COMPACTED,
    topic_care::{load, set},
};

const SECRET: &str = "hunter2-of-the-client";
/// How often a token of a short life is seen to be replaced.
const RENEWALS: usize = 4;
const SHORT: Duration = Duration::from_secs(5);

fn broker() -> &'static OauthBroker {
    static BROKER: OnceLock<OauthBroker> = OnceLock::new();
    BROKER.get_or_init(OauthBroker::start)
}

fn jwts(life: Duration) -> Granting {
    Granting::Jwt("service".to_owned(), life)
}

fn denial() -> Granting {
    Granting::json("401 Unauthorized", r#"{"error":"invalid_client","error_description":"the client is locked"}"#)
}

/// A topic, and the arguments that all commands share.
fn arguments(directory: &Path, more: &[(&str, &str)]) -> (String, Vec<String>) {
    arguments_at(&broker().address, directory, more)
}

fn arguments_at(address: &str, directory: &Path, more: &[(&str, &str)]) -> (String, Vec<String>) {
    let topic = unique_topic("oauth");
    shared_oracle().create(broker().broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
    let properties = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "OAUTHBEARER")];
    let text: String = properties.iter().chain(more).map(|(name, value)| format!("{name}={value}\n")).collect();
    let file = directory.join(format!("{topic}.properties"));
    fs::write(&file, text).unwrap();
    let arguments = vec![
        format!("--brokers={address}"),
        format!("--topic={topic}"),
        "--partitions=1".to_owned(),
        format!("--kafka-properties-file={}", file.display()),
    ];
    (topic, arguments)
}

fn with_provider(directory: &Path, provider: &IdentityProvider) -> (String, Vec<String>) {
    let more = [
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", SECRET),
        ("sasl.oauthbearer.token.endpoint.url", &*provider.url()),
    ];
    arguments(directory, &more)
}

/// Replaces the token as a helper does: by a file that is renamed.
fn replace_token(path: &Path, token: &str) {
    let next = path.with_extension("next");
    fs::write(&next, token).unwrap();
    fs::rename(next, path).unwrap();
}

fn jwt_of_life(life: Duration) -> String {
    let now = SystemTime::now();
    unsecured_jwt("service", now, now + life)
}

async fn write(server: &TestServer, key: &str) -> Result<(), Status> {
    let request = v1::SetRequest { changelog_id: key.to_owned(), value: raw("1"), ..Default::default() };
    server.client.clone().set(request).await.map(drop)
}

/// Covers R60.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_loads_need_one_request_for_a_token() {
    let (directory, provider) = (TempDir::new().unwrap(), IdentityProvider::start(jwts(Duration::from_secs(3_600))));
    let (_, arguments) = with_provider(directory.path(), &provider);
    let server = TestServer::process(arguments).await.ready().await;
    set(&server).await.unwrap();
    for round in 0..100 {
        load(&server).await.unwrap_or_else(|e| panic!("load {round}: {e:?}"));
    }
    assert_eq!(provider.requests().len(), 1, "{:?}", provider.requests());
    assert_eq!(server.metric("changelogd_kafka_token_requests_total").await, 1);
    assert_eq!(server.metric("changelogd_kafka_token_failures_total").await, 0);
}

/// Covers R60, R61.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_while_a_stream_follows() {
    use v1::stream_all_response::Event;
    let (directory, provider) = (TempDir::new().unwrap(), IdentityProvider::start(jwts(SHORT)));
    let (_, arguments) = with_provider(directory.path(), &provider);
    let server = TestServer::process(arguments).await.ready().await;
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let mut stream = server.client.clone().stream_all(request).await.unwrap().into_inner();
    let (started, mut written, mut followed) = (Instant::now(), 0, 0);
    // Longer than any connection may live without a new token.
    while provider.requests().len() < RENEWALS || started.elapsed() < SHORT * 2 || followed < written {
        if provider.requests().len() < RENEWALS || started.elapsed() < SHORT * 2 {
            write(&server, &format!("ws/t/{written}")).await.unwrap_or_else(|e| panic!("write {written}: {e:?}"));
            load(&server).await.unwrap_or_else(|e| panic!("load {written}: {e:?}"));
            written += 1;
        }
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(200), stream.message()).await {
            let message = message.expect("the stream goes on").expect("the stream goes on");
            if let Some(Event::Batch(batch)) = message.event {
                followed += batch.entries.len();
            }
        }
        assert!(started.elapsed() < PATIENCE * 2, "{followed} of {written}, {} requests", provider.requests().len());
    }
    assert_eq!(followed, written);
    assert_eq!(server.metric("changelogd_kafka_token_failures_total").await, 0);
}

/// Covers R61, R64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_denies_is_the_cause_until_it_grants() {
    let (directory, provider) = (TempDir::new().unwrap(), IdentityProvider::start(denial()));
    let (_, arguments) = with_provider(directory.path(), &provider);
    let server = TestServer::process(arguments).await;
    for _ in 0..2 {
        let said = come_to_be(&server, UNREACHABLE, "invalid_client: the client is locked").await;
        println!("denied: {said}");
        let (status, ready) = server.http("/readyz").await;
        let described = format!("{:?}", server.describe("").await);
        for shown in [&said, &ready, &described] {
            assert!(shown.contains("the client is locked") && !shown.contains(SECRET), "{shown}");
            assert!(shown.contains(&provider.address().to_string()), "{shown}");
        }
        assert_eq!((status, server.http("/livez").await.0), (503, 200));
        provider.grant(jwts(SHORT));
        come_to_work(&server).await;
        // The last token is used until it expires.
        provider.grant(denial());
    }
    assert!(server.metric("changelogd_kafka_token_failures_total").await > 0);
}

/// Covers R63, R64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_may_come_later_and_is_read_again_when_it_changes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    let (_, mut arguments) = arguments(directory.path(), &[]);
    arguments.push(format!("--kafka-oauth-token-file={}", path.display()));
    let server = TestServer::process(arguments).await;
    let shown = path.display().to_string();
    let said = come_to_be(&server, UNREACHABLE, "No such file").await;
    assert!(said.contains(&shown), "{said}");
    fs::write(&path, "").unwrap();
    come_to_be(&server, UNREACHABLE, "is empty").await;
    fs::write(&path, jwt_of_life(SHORT)).unwrap();
    come_to_work(&server).await;
    // Each token ends before the next one does.
    for _ in 0..RENEWALS {
        let expires_at = Instant::now() + SHORT;
        replace_token(&path, &jwt_of_life(SHORT * 2));
        while Instant::now() < expires_at {
            load(&server).await.expect("a load with a renewed token");
            write(&server, "ws/t/a").await.expect("a write with a renewed token");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let said = come_to_be(&server, UNREACHABLE, "has expired at ").await;
    assert!(said.contains(&shown), "{said}");
    replace_token(&path, &jwt_of_life(Duration::from_secs(3_600)));
    come_to_work(&server).await;
}

/// Covers R64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_the_cause_at_once_also_if_connections_do_not_end() {
    /// A load that waits for a broker takes ten seconds.
    const AT_ONCE: Duration = Duration::from_secs(3);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    let (_, mut arguments) = arguments_at(&broker().default_address, directory.path(), &[]);
    arguments.push(format!("--kafka-oauth-token-file={}", path.display()));
    fs::write(&path, jwt_of_life(SHORT)).unwrap();
    let server = TestServer::process(arguments).await.ready().await;
    for _ in 0..2 {
        come_to_work(&server).await;
        let waited = Instant::now();
        let said = loop {
            let (status, said) = server.http("/readyz").await;
            if status == 503 {
                break said;
            }
            assert!(waited.elapsed() < PATIENCE, "{said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let started = Instant::now();
        let refused = load(&server).await.expect_err("no load can be made");
        assert!(started.elapsed() < AT_ONCE, "{:?}: {refused:?}", started.elapsed());
        assert_eq!((refused.code(), &*reason(&refused)), UNREACHABLE);
        let described = format!("{:?}", server.describe("").await.findings);
        for shown in [&*said, refused.message(), &described] {
            assert!(shown.contains("the last one has expired at "), "{shown}");
            assert!(shown.contains(&path.display().to_string()), "{shown}");
        }
        assert_eq!(server.http("/livez").await.0, 200);
        // It depends on the broker whether the producer still has its connection.
        if let Err(status) = write(&server, "ws/t/a").await {
            assert_eq!((status.code(), &*reason(&status)), UNREACHABLE, "{status:?}");
            assert!(status.message().contains("the last one has expired at "), "{status:?}");
        }
        // Longer than it takes to notice the token, and to replace a client that finds no broker any more.
        replace_token(&path, &jwt_of_life(SHORT * 4));
    }
    come_to_work(&server).await;
}

/// Covers R64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_broker_rejects_is_unreachable_with_the_words_of_the_broker() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "hunter2-no-token-of-this-broker").unwrap();
    let (_, mut arguments) = arguments(directory.path(), &[]);
    arguments.push(format!("--kafka-oauth-token-file={}", path.display()));
    let server = TestServer::process(arguments).await;
    let said = come_to_be(&server, UNREACHABLE, "authentication").await;
    println!("rejected: {said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// Covers R60, R64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_command_gets_one_token_or_says_why_not() {
    let (directory, provider) = (TempDir::new().unwrap(), IdentityProvider::start(jwts(Duration::from_secs(60))));
    let (topic, arguments) = with_provider(directory.path(), &provider);
    let run = |command: &'static str| {
        let output = Command::new(binary()).args(["topic", command]).args(&arguments).env_clear().output();
        let output = output.expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for (count, command) in ["describe", "ensure"].into_iter().enumerate() {
        let (code, out, error) = run(command);
        assert!(code == Some(0) && out.contains(&topic), "{command}: {out}{error}");
        assert_eq!(provider.requests().len(), count + 1);
    }
    provider.grant(denial());
    for command in ["describe", "ensure"] {
        let (code, _, error) = run(command);
        assert_eq!(code, Some(69), "{error}");
        assert!(error.contains("invalid_client: the client is locked") && !error.contains(SECRET), "{error}");
    }
}

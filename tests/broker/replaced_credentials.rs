//! Certificates and passwords that are replaced while a server runs, on brokers that reject the old ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use changelogd_testkit::{
    Mode,
    guarded::{Guarded, PASSWORD},
    mutual_tls::MutualTls,
    shared_oracle, unique_topic,
};

use crate::{
    authorization::come_to_work_within,
    contract::server::{TestServer, binary},
    servers::COMPACTED,
    topic_care::{load, set},
};

/// A server looks at its files each 5 s. A lost connection takes some seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const REPLACED: &str = "changelogd_kafka_settings_replaced_total";

async fn finding(server: &TestServer) -> Option<String> {
    let findings = server.describe("").await.findings;
    findings.into_iter().find(|f| f.code == "SETTINGS_NOT_REPLACED").map(|f| f.message)
}

async fn finding_with(server: &TestServer, words: &str) -> String {
    let started = Instant::now();
    loop {
        let found = finding(server).await;
        match found {
            Some(message) if message.contains(words) => return message,
            other => assert!(started.elapsed() < PATIENCE, "{words}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn are_replaced(server: &TestServer, times: i64) {
    let started = Instant::now();
    while server.metric(REPLACED).await != times {
        assert!(started.elapsed() < PATIENCE, "replaced: {:?}", finding(server).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(finding(server).await, None);
}

struct Service {
    topic: String,
    properties: PathBuf,
    server: TestServer,
}

impl Service {
    async fn start(tls: &MutualTls, properties: &str) -> Self {
        let topic = unique_topic("replaced");
        shared_oracle().create(tls.broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
        let file = tls.dir().join(format!("{topic}.properties"));
        fs::write(&file, properties).unwrap();
        let server = TestServer::process(vec![
            format!("--brokers={}", tls.proxy.address()),
            format!("--topic={topic}"),
            "--partitions=1".to_owned(),
            format!("--kafka-properties-file={}", file.display()),
        ]);
        Self { topic, properties: file, server: server.await.ready().await }
    }
}

/// Whether the broker takes a client with these properties.
fn is_taken(tls: &MutualTls, topic: &str, properties: &Path) -> bool {
    let described = Command::new(binary())
        .args(["topic", "describe", "--brokers", tls.proxy.address(), "--topic", topic])
        .arg(format!("--kafka-properties-file={}", properties.display()))
        .env_clear()
        .output()
        .expect("the binary runs");
    described.status.success()
}

/// All connections are closed, as by a broker that restarts.
async fn cut(tls: &MutualTls) {
    tls.proxy.set(Mode::Cut);
    let started = Instant::now();
    while tls.proxy.open() > 0 {
        assert!(started.elapsed() < PATIENCE, "closed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tls.proxy.pass();
}

/// Covers R52, R53, F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_certificate_is_replaced_before_it_expires_and_no_write_fails() {
    let tls = MutualTls::start();
    // The one that expires is made last.
    let (next, old) = (tls.client("next", 80_000), tls.client("old", 45));
    let live = tls.dir().join("live.p12");
    fs::copy(&old, &live).unwrap();
    let service = Service::start(&tls, &tls.properties(&live)).await;
    let (topic, server) = (service.topic.clone(), Arc::new(service.server));
    come_to_work_within(&server, PATIENCE).await;
    let old_properties = tls.dir().join("old.properties");
    fs::write(&old_properties, tls.properties(&old)).unwrap();
    assert!(is_taken(&tls, &topic, &old_properties), "it has not expired yet");

    let (stop, written) = (Arc::new(AtomicBool::default()), Arc::new(AtomicU64::default()));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (server, stop, written) = (server.clone(), stop.clone(), written.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    server.set(&format!("ws/t/{writer}"), &written.fetch_add(1, Ordering::Relaxed).to_string()).await;
                }
            })
        })
        .collect();
    // As kubelet does it, in one step.
    let staged = tls.dir().join("staged.p12");
    fs::copy(&next, &staged).unwrap();
    fs::rename(&staged, &live).unwrap();
    are_replaced(&server, 1).await;
    let before = written.load(Ordering::Relaxed);
    let started = Instant::now();
    while written.load(Ordering::Relaxed) < before + 1_000 {
        assert!(started.elapsed() < PATIENCE, "writes go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("each write is acknowledged");
    }
    println!("{} writes", written.load(Ordering::Relaxed));

    let started = Instant::now();
    while is_taken(&tls, &topic, &old_properties) {
        assert!(started.elapsed() < PATIENCE, "the old certificate expires");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    cut(&tls).await;
    come_to_work_within(&server, PATIENCE).await;
    assert!(!is_taken(&tls, &topic, &old_properties));
}

/// The certificate is there before its key. Then the right pair is, and then the old ones expire.
/// Covers R52, R54.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_fit_is_a_finding_and_the_certificate_from_before_stays_in_use() {
    let tls = MutualTls::start();
    let (next, old) = (tls.client("next", 80_000), tls.client("old", 80_000));
    let live = tls.dir().join("live.p12");
    fs::copy(&old, &live).unwrap();
    let good = tls.properties(&live);
    let Service { server, properties, .. } = Service::start(&tls, &good).await;
    come_to_work_within(&server, PATIENCE).await;
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crates/changelog-kafka/tests/fixtures/tls");
    let pair = |key: &str| {
        let (certificate, key) = (fixtures.join("certificate.pem"), fixtures.join(key));
        let ca = good.lines().find(|line| line.starts_with("ssl.ca.location")).unwrap();
        let (certificate, key) = (certificate.display(), key.display());
        format!("security.protocol=ssl\n{ca}\nssl.certificate.location={certificate}\nssl.key.location={key}\n")
    };
    fs::write(&properties, pair("other-key.pem")).unwrap();
    let message = finding_with(&server, "is not the key of the certificate").await;
    assert!(message.contains("ssl.key.location"), "{message}");
    // The pair fits, and the broker trusts no such certificate.
    fs::write(&properties, pair("key.pem")).unwrap();
    println!("{}", finding_with(&server, "no broker answers").await);
    // Half a keystore, as while it is written.
    fs::write(&properties, &good).unwrap();
    let whole = fs::read(&next).unwrap();
    fs::write(&live, &whole[..whole.len() / 2]).unwrap();
    let message = finding_with(&server, "ssl.keystore.location").await;
    assert!(message.contains("live.p12") && !message.contains("changeit"), "{message}");
    // New connections, also those of loads, are made with the keystore from before.
    cut(&tls).await;
    come_to_work_within(&server, PATIENCE).await;
    assert_eq!(server.metric(REPLACED).await, 0);
    fs::write(&live, &whole).unwrap();
    are_replaced(&server, 1).await;
    cut(&tls).await;
    come_to_work_within(&server, PATIENCE).await;
}

/// The Secret has the new password before the broker does. The old one serves until then.
/// Covers R52, R54, S12, F20, K11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_replaced_when_the_brokers_take_it() {
    const NEXT: &str = "hunter4-of-the-service";
    let mut guarded = Guarded::start_with(&["service"]);
    let (topic, secret) = (unique_topic("replaced"), tempfile::tempdir().expect("a directory"));
    shared_oracle().create(guarded.broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
    // As the entries of a Secret are mounted. The user is named by a flag, and the password by the properties file.
    let write = |name: &str, text: &str| fs::write(secret.path().join(name), format!("{text}\n")).expect("written");
    let reference = |name: &str| format!("${{directory:{}:{name}}}", secret.path().display());
    write("user", "service");
    write("password", PASSWORD);
    let mut arguments = guarded.with_sasl(&topic, &reference("password"));
    arguments.push(format!("--kafka-property=sasl.username={}", reference("user")));
    let server = TestServer::process(arguments).await.ready().await;
    come_to_work_within(&server, PATIENCE).await;
    write("password", NEXT);
    let message = finding_with(&server, "Authentication failed").await;
    assert!(!message.contains(NEXT) && !message.contains(PASSWORD), "{message}");
    set(&server).await.expect("with the password from before");
    load(&server).await.expect("with the password from before");
    assert_eq!(server.metric(REPLACED).await, 0);
    guarded.change_password(PASSWORD, NEXT);
    are_replaced(&server, 1).await;
    come_to_work_within(&server, PATIENCE).await;
}

/// Without a file that changes, the same certificate ends the service: what these tests rely on.
/// Covers F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_that_is_not_replaced_ends_writes() {
    let tls = MutualTls::start();
    let old = tls.client("old", 25);
    let service = Service::start(&tls, &tls.properties(&old)).await;
    come_to_work_within(&service.server, PATIENCE).await;
    let started = Instant::now();
    while is_taken(&tls, &service.topic, &service.properties) {
        assert!(started.elapsed() < PATIENCE, "the certificate expires");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let request = v1::SetRequest {
        changelog_id: "ws/t/a".to_owned(),
        value: crate::contract::server::raw("1"),
        ..Default::default()
    };
    service.server.client.clone().set(request).await.expect("on the connection from before");
    cut(&tls).await;
    let started = Instant::now();
    while set(&service.server).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "writes fail");
    }
}

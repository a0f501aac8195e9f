//! A broker that asks who one is and what one may do: rights that are lost, a wrong password, a certificate that is expired or
//! that nobody vouches for. And a group that nothing is allowed with, which no load minds.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::{
    contract::world::{PATIENCE, World, raw, reason},
    kafka::{Broker, shared_oracle, unique_topic},
    worlds::COMPACTED,
};

const PASSWORD: &str = "hunter2-of-the-service";
const WRONG_PASSWORD: &str = "hunter3-planted-secret";
const STORE_PASSWORD: &str = "changeit";

/// A broker with an authorizer, and a listener for each way to be refused. Its plain one is the oracle's, who may do all.
struct Guarded {
    broker: Broker,
    sasl: String,
    tls: String,
    tls_expired: String,
    dir: TempDir,
}

/// Below the ephemeral range, as the broker's own.
fn free_port() -> u16 {
    let taken =
        (20_000 + (std::process::id() % 997) as u16..32_000).find_map(|p| TcpListener::bind(("127.0.0.1", p)).ok());
    taken.expect("a free port").local_addr().expect("bound").port()
}

/// A key and a certificate that vouches for itself, as a store and as PEM.
fn certificate(dir: &Path, name: &str, start: &str, days: &str) {
    let keytool = |arguments: &[&str]| {
        let store = dir.join(format!("{name}.p12"));
        let output = Command::new("keytool")
            .args(arguments)
            .args(["-alias", "b", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"])
            .arg(store)
            .output()
            .expect("keytool comes with Java");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        output.stdout
    };
    let who = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-startdate", start, "-validity", days];
    keytool(&[&["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1"][..], &who].concat());
    fs::write(dir.join(format!("{name}.pem")), keytool(&["-exportcert", "-rfc"])).expect("written");
}

fn guarded() -> &'static Guarded {
    static GUARDED: OnceLock<Guarded> = OnceLock::new();
    GUARDED.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        certificate(dir.path(), "good", "-1d", "10");
        certificate(dir.path(), "expired", "-10d", "5");
        certificate(dir.path(), "stranger", "-1d", "10");
        let mut ports: Vec<u16> = Vec::new();
        let mut held = Vec::new();
        while ports.len() < 3 {
            let port = free_port();
            held.push(TcpListener::bind(("127.0.0.1", port)));
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        drop(held);
        let at = |i: usize| format!("127.0.0.1:{}", ports[i]);
        let (sasl, tls, tls_expired) = (at(0), at(1), at(2));
        let outside = format!("SASL://{sasl},TLS://{tls},EXPIRED://{tls_expired}");
        let store = |name: &str| dir.path().join(format!("{name}.p12")).display().to_string();
        let mut properties = vec![
            (
                "listeners".to_owned(),
                format!("PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},{outside}"),
            ),
            ("advertised.listeners".to_owned(), format!("PLAINTEXT://127.0.0.1:{{port}},{outside}")),
            (
                "listener.security.protocol.map".to_owned(),
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,EXPIRED:SSL".to_owned(),
            ),
            ("authorizer.class.name".to_owned(), "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
            ("super.users".to_owned(), "User:ANONYMOUS".to_owned()),
            ("sasl.enabled.mechanisms".to_owned(), "PLAIN".to_owned()),
            (
                "listener.name.sasl.plain.sasl.jaas.config".to_owned(),
                format!(
                    "org.apache.kafka.common.security.plain.PlainLoginModule required user_service=\"{PASSWORD}\";"
                ),
            ),
        ];
        for (listener, name) in [("tls", "good"), ("expired", "expired")] {
            for (property, value) in
                [("location", store(name)), ("password", STORE_PASSWORD.to_owned()), ("type", "PKCS12".to_owned())]
            {
                properties.push((format!("listener.name.{listener}.ssl.keystore.{property}"), value));
            }
            properties.push((format!("listener.name.{listener}.ssl.key.password"), STORE_PASSWORD.to_owned()));
        }
        let properties: Vec<_> = properties.iter().map(|(k, v)| (&**k, &**v)).collect();
        Guarded { broker: Broker::start_with(&properties), sasl, tls, tls_expired, dir }
    })
}

impl Guarded {
    fn topic(&self) -> String {
        let topic = unique_topic("guarded");
        shared_oracle().create(self.broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
        topic
    }

    /// Secrets are in a file: a process's arguments are everybody's to read.
    fn arguments(&self, brokers: &str, topic: &str, properties: &[(&str, &str)]) -> Vec<String> {
        let file = self.dir.path().join(format!("{topic}.properties"));
        let text: String = properties.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        fs::write(&file, text).expect("written");
        vec![
            format!("--brokers={brokers}"),
            format!("--topic={topic}"),
            "--partitions=1".to_owned(),
            format!("--kafka-properties-file={}", file.display()),
        ]
    }

    fn with_sasl(&self, topic: &str, password: &str) -> Vec<String> {
        let properties = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "service"),
            ("sasl.password", password),
        ];
        self.arguments(&self.sasl, topic, &properties)
    }
}

async fn set(world: &World) -> Result<(), Status> {
    let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
    world.client.clone().set(request).await.map(drop)
}

async fn load(world: &World) -> Result<(), Status> {
    let request = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    world.try_load(request).await.map(drop)
}

/// Both verbs come to be answered so, naming the cause, at the latest in a few seconds; what both say.
async fn come_to_be(world: &World, code: (Code, &str), cause: &str) -> String {
    let started = Instant::now();
    loop {
        let found = [set(world).await, load(world).await].map(Result::err);
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

async fn come_to_work(world: &World) {
    let started = Instant::now();
    loop {
        let found = (set(world).await, load(world).await);
        if matches!(found, (Ok(()), Ok(()))) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const NOT_AUTHORIZED: (Code, &str) = (Code::FailedPrecondition, "NOT_AUTHORIZED_BY_BROKER");
const UNREACHABLE: (Code, &str) = (Code::Unavailable, "BROKERS_UNREACHABLE");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_f20_r19_lost_rights_are_a_failed_precondition_and_a_group_needs_none() {
    let (guarded, oracle) = (guarded(), shared_oracle());
    let (topic, plain) = (guarded.topic(), guarded.broker.bootstrap());
    oracle.allow(plain, &topic, "service", "describe,describe_configs,read,write").unwrap();
    let world = World::process(guarded.with_sasl(&topic, PASSWORD)).await.ready().await;
    // Nothing is allowed with any group.
    come_to_work(&world).await;
    for lost in ["read,write", "describe,describe_configs,read,write"] {
        oracle.forbid(plain, &topic, "service", lost).unwrap();
        let said = come_to_be(&world, NOT_AUTHORIZED, &topic).await;
        println!("without {lost}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
        assert_eq!(world.http("/livez").await.0, 200);
        oracle.allow(plain, &topic, "service", lost).unwrap();
        come_to_work(&world).await;
    }
    // Only one of the two.
    oracle.forbid(plain, &topic, "service", "write").unwrap();
    let refused = Err((NOT_AUTHORIZED.0, NOT_AUTHORIZED.1.to_owned()));
    let started = Instant::now();
    while set(&world).await.map_err(|s| (s.code(), reason(&s))) != refused {
        assert!(started.elapsed() < PATIENCE, "writes go on");
    }
    // Also once the producer has asked for a new id, which a service without any right to write is not given.
    for _ in 0..20 {
        let answer = set(&world).await;
        assert_eq!(answer.as_ref().map_err(|s| (s.code(), reason(s))).copied(), refused, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    load(&world).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_wrong_password_is_unavailable_with_the_cause_and_without_the_secret() {
    let guarded = guarded();
    let topic = guarded.topic();
    let world = World::process(guarded.with_sasl(&topic, WRONG_PASSWORD)).await;
    let said = come_to_be(&world, UNREACHABLE, "Authentication failed").await;
    println!("wrong password: {said}");
    assert!(!said.contains(WRONG_PASSWORD), "{said}");
    let (status, ready) = world.http("/readyz").await;
    assert!(status == 503 && !ready.contains(WRONG_PASSWORD), "{ready}");
    assert_eq!(world.http("/livez").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_an_expired_and_an_unknown_certificate_are_unavailable_with_the_cause() {
    let guarded = guarded();
    let pem = |name: &str| guarded.dir.path().join(format!("{name}.pem")).display().to_string();
    for (brokers, ca, cause) in [
        (&guarded.tls, "good", ""),
        (&guarded.tls, "stranger", "certificate verify failed"),
        (&guarded.tls_expired, "expired", "certificate has expired"),
    ] {
        let topic = guarded.topic();
        let properties = [("security.protocol", "ssl"), ("ssl.ca.location", &*pem(ca))];
        let world = World::process(guarded.arguments(brokers, &topic, &properties)).await;
        if cause.is_empty() {
            come_to_work(&world).await;
            continue;
        }
        let said = come_to_be(&world, UNREACHABLE, cause).await;
        println!("{ca}: {said}");
        assert_eq!(world.http("/readyz").await.0, 503);
        assert_eq!(world.http("/livez").await.0, 200);
    }
}

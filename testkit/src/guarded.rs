//! A broker with an authorizer, and with a listener for each way to be refused.

use std::{fs, net::TcpListener};

use tempfile::TempDir;

use crate::{
    broker::Broker,
    keytool::{STORE_PASSWORD, self_signed},
};

pub const PASSWORD: &str = "hunter2-of-the-service";
pub const WRONG_PASSWORD: &str = "hunter3-planted-secret";

/// The oracle uses its plain listener, and may do everything.
pub struct Guarded {
    pub broker: Broker,
    pub sasl: String,
    pub tls: String,
    pub tls_expired: String,
    dir: TempDir,
}

/// Below the ephemeral range, like the broker's own.
fn free_port() -> u16 {
    let taken =
        (20_000 + (std::process::id() % 997) as u16..32_000).find_map(|p| TcpListener::bind(("127.0.0.1", p)).ok());
    taken.expect("a free port").local_addr().expect("bound").port()
}

impl Guarded {
    /// # Panics
    /// As [`Broker::start`], or if there is no keytool.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like `start`, with users that may do everything, as the oracle may.
    ///
    /// # Panics
    /// As [`Guarded::start`].
    pub fn start_with(super_users: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        self_signed(dir.path(), "good", "-1d", "10");
        self_signed(dir.path(), "expired", "-10d", "5");
        self_signed(dir.path(), "stranger", "-1d", "10");
        let (mut ports, mut held): (Vec<u16>, Vec<_>) = (Vec::new(), Vec::new());
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
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all = ["ANONYMOUS"].iter().chain(super_users);
        let super_users = all.map(|user| format!("User:{user}")).collect::<Vec<_>>().join(";");
        let mut properties = vec![
            set(
                "listeners",
                &format!("PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},{outside}"),
            ),
            set("advertised.listeners", &format!("PLAINTEXT://127.0.0.1:{{port}},{outside}")),
            set(
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,EXPIRED:SSL",
            ),
            set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            set("super.users", &super_users),
            set("sasl.enabled.mechanisms", "PLAIN"),
            set(
                "listener.name.sasl.plain.sasl.jaas.config",
                &format!(
                    "org.apache.kafka.common.security.plain.PlainLoginModule required user_service=\"{PASSWORD}\";"
                ),
            ),
        ];
        for (listener, name) in [("tls", "good"), ("expired", "expired")] {
            for (property, value) in [("location", &*store(name)), ("password", STORE_PASSWORD), ("type", "PKCS12")] {
                properties.push((format!("listener.name.{listener}.ssl.keystore.{property}"), value.to_owned()));
            }
            properties.push((format!("listener.name.{listener}.ssl.key.password"), STORE_PASSWORD.to_owned()));
        }
        let properties: Vec<_> = properties.iter().map(|(k, v)| (&**k, &**v)).collect();
        Self { broker: Broker::start_with(&properties), sasl, tls, tls_expired, dir }
    }

    /// Restarts the broker with another password of the user `service`.
    ///
    /// # Panics
    /// As [`Broker::restart`].
    pub fn change_password(&mut self, before: &str, after: &str) {
        let file = self.broker.run.path().join("server.properties");
        let text = fs::read_to_string(&file).expect("the broker's properties");
        assert!(text.contains(before), "the password before");
        fs::write(&file, text.replace(before, after)).expect("written");
        self.broker.restart();
    }

    /// Arguments of a sidecar. Secrets are in a file, because all users can read a process's arguments.
    pub fn arguments(&self, brokers: &str, topic: &str, properties: &[(&str, &str)]) -> Vec<String> {
        let file = self.dir.path().join(format!("{topic}-{}.properties", brokers.replace(':', "-")));
        let text: String = properties.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        fs::write(&file, text).expect("written");
        vec![
            format!("--brokers={brokers}"),
            format!("--topic={topic}"),
            "--partitions=1".to_owned(),
            format!("--kafka-properties-file={}", file.display()),
        ]
    }

    pub fn with_sasl(&self, topic: &str, password: &str) -> Vec<String> {
        let properties = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "service"),
            ("sasl.password", password),
        ];
        self.arguments(&self.sasl, topic, &properties)
    }

    /// Which certificate (`good`, `expired`, `stranger`) is trusted.
    pub fn with_tls(&self, brokers: &str, topic: &str, trusted: &str) -> Vec<String> {
        let ca = self.dir.path().join(format!("{trusted}.pem")).display().to_string();
        self.arguments(brokers, topic, &[("security.protocol", "ssl"), ("ssl.ca.location", &ca)])
    }

    /// As [`Guarded::with_tls`] with the trusted certificate as PEM in the properties: as it is, or in the form of
    /// Java's properties files, whose lines end in a backslash.
    ///
    /// # Panics
    /// If the certificate can't be read.
    pub fn with_tls_in_properties(&self, topic: &str, is_continued: bool) -> Vec<String> {
        let pem = fs::read_to_string(self.dir.path().join("good.pem")).expect("a certificate");
        let pem = if is_continued { pem.trim().replace('\n', " \\\n    ") } else { pem };
        self.arguments(&self.tls, topic, &[("ssl.ca.pem", &pem), ("security.protocol", "ssl")])
    }
}

//! A broker that wants a certificate of its clients. They reach it through a proxy, which can close their connections.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{
    broker::{Broker, free_ports},
    keytool::{STORE_PASSWORD, authority, self_signed, signed},
    proxy::Proxy,
};

/// The oracle uses its plain listener.
pub struct MutualTls {
    pub broker: Broker,
    pub proxy: Proxy,
    dir: TempDir,
}

impl MutualTls {
    /// # Panics
    /// As [`Broker::start`], or if there is no keytool.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        self_signed(dir.path(), "broker", "-1d", "10");
        authority(dir.path());
        let [port] = free_ports();
        let target = format!("127.0.0.1:{port}");
        let proxy = Proxy::start(&target);
        let mut properties = vec![
            (
                "listeners".to_owned(),
                format!("PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},TLS://{target}"),
            ),
            ("advertised.listeners".to_owned(), format!("PLAINTEXT://127.0.0.1:{{port}},TLS://{}", proxy.address())),
            (
                "listener.security.protocol.map".to_owned(),
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL".to_owned(),
            ),
            ("listener.name.tls.ssl.client.auth".to_owned(), "required".to_owned()),
            ("listener.name.tls.ssl.key.password".to_owned(), STORE_PASSWORD.to_owned()),
        ];
        for (kind, store) in [("keystore", "broker.p12"), ("truststore", "trust.p12")] {
            let path = dir.path().join(store).display().to_string();
            for (property, value) in [("location", &*path), ("password", STORE_PASSWORD), ("type", "PKCS12")] {
                properties.push((format!("listener.name.tls.ssl.{kind}.{property}"), value.to_owned()));
            }
        }
        let properties: Vec<_> = properties.iter().map(|(k, v)| (&**k, &**v)).collect();
        let broker = Broker::start_with(&properties);
        Self { broker, proxy, dir }
    }

    /// A directory for files of a test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new key with a certificate that the broker takes for so many seconds, as PKCS#12.
    pub fn client(&self, name: &str, seconds: u32) -> PathBuf {
        signed(self.dir.path(), name, seconds);
        self.dir.path().join(format!("{name}.p12"))
    }

    /// The text of a properties file for a client with this keystore.
    pub fn properties(&self, keystore: &Path) -> String {
        let (ca, keystore) = (self.dir.path().join("broker.pem"), keystore.display());
        let ca = ca.display();
        let of_keystore = format!("ssl.keystore.location={keystore}\nssl.keystore.password={STORE_PASSWORD}\n");
        format!("security.protocol=ssl\nssl.ca.location={ca}\n{of_keystore}")
    }
}

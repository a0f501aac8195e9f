//! How the clients of librdkafka are made, and the admin client that the topic's watcher and the offset queries share.
//!
//! Does not decide when a client is used, or when settings or producers are replaced.

use std::{mem, sync::Arc, thread};

use parking_lot::RwLock;
use rdkafka::{
    ClientConfig,
    admin::AdminClient,
    config::FromClientConfigAndContext,
    error::KafkaError,
    producer::{ProducerContext, ThreadedProducer},
};

use crate::{
    client_context::Context,
    ffi,
    settings::{HeldFiles, Role, Settings},
    timeouts::{RETIRE_CHECK_INTERVAL, SETTINGS_WAIT},
    token::Tokens,
};

pub type Admin = AdminClient<Context>;

/// Settings, and copies of the files that they name.
#[derive(Clone)]
struct ClientSettings {
    settings: Arc<Settings>,
    held: HeldFiles,
}

impl ClientSettings {
    /// Calls `make` with the properties. Their files can be opened until it has returned: a copy has no other name than
    /// its descriptor, which would be that of another file as soon as the last `HeldFiles` is dropped.
    fn make<T>(&self, role: Role, make: impl FnOnce(&mut ClientConfig) -> T) -> T {
        let mut config = self.settings.config(role);
        for (property, path) in self.held.paths() {
            config.set(property, path);
        }
        make(&mut config)
    }

    fn admin(&self, tokens: Option<&Tokens>, change: impl FnOnce(&mut ClientConfig)) -> Result<Arc<Admin>, KafkaError> {
        let admin = self.make(Role::Admin, |config| {
            change(config);
            AdminClient::from_config_and_context(config, Context::default())
        })?;
        ffi::redirect_logs(admin.inner());
        let admin = Arc::new(admin);
        if let Some(tokens) = tokens {
            tokens.adopt(&admin);
        }
        Ok(admin)
    }
}

/// The settings in effect, and the admin client that was made with them.
struct Current {
    made_with: ClientSettings,
    admin: Arc<Admin>,
}

/// Makes clients with the settings in effect.
pub struct Clients {
    current: RwLock<Current>,
    /// With SASL OAUTHBEARER, what gives each client its token.
    tokens: Option<Arc<Tokens>>,
}

impl Clients {
    /// `held` are the files of the settings. With none, each client reads them.
    pub fn new(settings: Settings, held: HeldFiles) -> Result<Self, KafkaError> {
        let tokens = settings.token().ok().flatten().map(|_| Arc::<Tokens>::default());
        let made_with = ClientSettings { settings: Arc::new(settings), held };
        let admin = made_with.admin(tokens.as_deref(), |_| ())?;
        Ok(Self { current: RwLock::new(Current { made_with, admin }), tokens })
    }

    fn made_with(&self) -> ClientSettings {
        self.current.read().made_with.clone()
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.made_with().settings
    }

    pub fn held(&self) -> HeldFiles {
        self.made_with().held
    }

    /// `None` if no client needs a token.
    pub fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    /// The long-lived client that watches the topic and queries offsets.
    pub fn admin(&self) -> Arc<Admin> {
        self.current.read().admin.clone()
    }

    /// A client to try other settings with. It logs in at a broker once in [`SETTINGS_WAIT`], because each failed login
    /// may count against an account.
    pub fn probe(&self, settings: &Settings, held: &HeldFiles) -> Result<Arc<Admin>, KafkaError> {
        let made_with = ClientSettings { settings: Arc::new(settings.clone()), held: held.clone() };
        let pause = SETTINGS_WAIT.as_millis().to_string();
        made_with.admin(self.tokens.as_deref(), |config| {
            config.set("reconnect.backoff.ms", &pause).set("reconnect.backoff.max.ms", &pause);
        })
    }

    /// Puts other settings into effect for the clients that are made from now on. Existing producers and consumers
    /// keep theirs.
    pub fn replace(&self, settings: Settings, held: HeldFiles) -> Result<(), KafkaError> {
        let made_with = ClientSettings { settings: Arc::new(settings), held };
        let admin = made_with.admin(self.tokens.as_deref(), |_| ())?;
        // Without the lock, because it may block if no thread can be had.
        let old = mem::replace(&mut *self.current.write(), Current { made_with, admin });
        retire(old.admin);
        Ok(())
    }

    /// A new consumer without an assignment.
    pub fn consumer(&self) -> Result<ffi::Consumer, KafkaError> {
        let made_with = self.made_with();
        let queue_kib = made_with.settings.read_ahead_bytes / 1024;
        let consumer = made_with.make(Role::Consumer { queue_kib }, |config| ffi::Consumer::new(config))?;
        if let Some(tokens) = &self.tokens {
            tokens.adopt(consumer.handle());
        }
        Ok(consumer)
    }

    /// A new producer for batches of at most this size.
    pub fn producer<C: ProducerContext + 'static>(
        &self,
        max_message_bytes: usize,
        context: C,
    ) -> Result<Arc<ThreadedProducer<C>>, KafkaError> {
        let producer = self.made_with().make(Role::Producer { max_message_bytes }, |config| {
            ThreadedProducer::from_config_and_context(config, context)
        })?;
        let producer = Arc::new(producer);
        if let Some(tokens) = &self.tokens {
            tokens.adopt(&producer);
        }
        Ok(producer)
    }
}

/// Drops an admin client on a thread of its own, because that waits for librdkafka's threads. Its last users may run on
/// the runtime, so the thread waits for them. Each of them uses it for some seconds at most.
fn retire(admin: Arc<Admin>) {
    let wait = move || {
        let mut admin = admin;
        while let Err(shared) = Arc::try_unwrap(admin) {
            admin = shared;
            thread::sleep(RETIRE_CHECK_INTERVAL);
        }
    };
    if let Err(error) = thread::Builder::new().name("old-admin".to_owned()).spawn(wait) {
        tracing::warn!(%error, "no thread can be had: an old admin client ends with its last call");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::settings::{Loaded, PropertiesFile};

    /// Covers R54.
    #[test]
    fn the_files_of_a_client_stay_until_it_is_made() {
        let directory = TempDir::new().unwrap();
        let (authorities, properties) = (directory.path().join("ca.pem"), directory.path().join("properties"));
        let certificate = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/certificate.pem")).unwrap();
        fs::write(&authorities, &certificate).unwrap();
        fs::write(&properties, format!("security.protocol=ssl\nssl.ca.location={}", authorities.display())).unwrap();
        let mut settings = Settings::new("127.0.0.1:1", "t");
        settings.properties_file = Some(PropertiesFile::read(&properties).unwrap());
        let Loaded { settings, held, .. } = Loaded::new(settings).unwrap();
        let clients = Clients::new(settings, held).unwrap();
        clients.made_with().make(Role::Admin, |config| {
            let path = config.get("ssl.ca.location").expect("the copy").to_owned();
            assert_ne!(path, authorities.to_string_lossy(), "it is a copy");
            // Other settings take effect, and other files are opened, while this client is made.
            fs::write(&authorities, [&certificate[..], &certificate].concat()).unwrap();
            let Loaded { settings, held, .. } = Loaded::again(&clients.settings()).unwrap();
            clients.replace(settings, held).unwrap();
            let _others: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            assert_eq!(fs::read(path).unwrap(), certificate);
        });
        let both = clients.made_with().make(Role::Admin, |config| fs::read(config.get("ssl.ca.location").unwrap()));
        assert_eq!(both.unwrap().len(), 2 * certificate.len());
    }
}

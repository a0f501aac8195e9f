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
    ffi::{self, TokenTarget},
    settings::{HeldFiles, Role, Settings, TokenSettings},
    timeouts::{RETIRE_CHECK_INTERVAL, SETTINGS_WAIT},
    token::{Token, TokenError, Tokens},
};

pub type Admin = AdminClient<Context>;

/// Settings, and copies of the files that they name.
#[derive(Clone)]
pub struct ClientSettings {
    settings: Arc<Settings>,
    held: HeldFiles,
}

impl ClientSettings {
    pub fn new(settings: Settings, held: HeldFiles) -> Self {
        Self { settings: Arc::new(settings), held }
    }

    /// Calls `make` with the properties. Their files can be opened until it has returned: a copy has no other name than
    /// its descriptor, which would be that of another file as soon as the last `HeldFiles` is dropped.
    fn make<T>(&self, role: Role, make: impl FnOnce(&mut ClientConfig) -> T) -> T {
        let mut config = self.settings.config(role);
        for (property, path) in self.held.paths() {
            config.set(property, path);
        }
        make(&mut config)
    }

    fn admin(&self, change: impl FnOnce(&mut ClientConfig)) -> Result<Arc<Admin>, KafkaError> {
        let admin = self.make(Role::Admin, |config| {
            change(config);
            AdminClient::from_config_and_context(config, Context::default())
        })?;
        ffi::redirect_logs(admin.inner());
        Ok(Arc::new(admin))
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The properties, or the system.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// It would connect to no broker, and say nothing.
    #[error("no token for the brokers: {0}")]
    Token(#[from] TokenError),
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
        let made_with = ClientSettings::new(settings, held);
        let admin = made_with.admin(|_| ())?;
        adopt(tokens.as_deref(), &admin);
        Ok(Self { current: RwLock::new(Current { made_with, admin }), tokens })
    }

    fn made_with(&self) -> ClientSettings {
        self.current.read().made_with.clone()
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.current.read().made_with.settings.clone()
    }

    pub fn held(&self) -> HeldFiles {
        self.current.read().made_with.held.clone()
    }

    /// `None` if no client needs a token.
    pub fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    /// The long-lived client that watches the topic and queries offsets.
    pub fn admin(&self) -> Arc<Admin> {
        self.current.read().admin.clone()
    }

    /// A client to try other settings with, and the token that was got with them. It logs in at a broker once in
    /// [`SETTINGS_WAIT`], because each failed login may count against an account.
    pub fn probe(&self, settings: &ClientSettings, token: Option<&Token>) -> Result<Arc<Admin>, ClientError> {
        let pause = SETTINGS_WAIT.as_millis().to_string();
        let admin = settings.admin(|config| {
            config.set("reconnect.backoff.ms", &pause).set("reconnect.backoff.max.ms", &pause);
        })?;
        match token {
            Some(token) => admin.set_token(token).map_err(TokenError)?,
            None => adopt(self.tokens.as_deref(), &admin),
        }
        Ok(admin)
    }

    /// Puts other settings into effect for the clients that are made from now on, with the token that was got with
    /// them. Existing producers and consumers keep their settings. Blocks.
    pub fn replace(&self, made_with: ClientSettings, token: Option<(TokenSettings, Token)>) -> Result<(), KafkaError> {
        let admin = made_with.admin(|_| ())?;
        // Without the lock, because it may block if no thread can be had.
        let old = mem::replace(&mut *self.current.write(), Current { made_with, admin: admin.clone() });
        retire(old.admin);
        // After the settings are in effect, so that the next token is got with them.
        if let (Some(tokens), Some((settings, token))) = (&self.tokens, token) {
            tokens.replace(settings, token);
        }
        adopt(self.tokens.as_deref(), &admin);
        Ok(())
    }

    /// Puts a new admin client with the same settings into the place of this one, unless another one is there already.
    /// Blocks.
    pub fn replace_admin(&self, silent: &Arc<Admin>) -> Result<(), KafkaError> {
        let admin = self.made_with().admin(|_| ())?;
        adopt(self.tokens.as_deref(), &admin);
        let unused = {
            let mut current = self.current.write();
            let is_current = Arc::ptr_eq(&current.admin, silent);
            if is_current { mem::replace(&mut current.admin, admin) } else { admin }
        };
        retire(unused);
        Ok(())
    }

    fn has_token(&self) -> Result<(), TokenError> {
        self.tokens.as_ref().map_or(Ok(()), |tokens| tokens.current().map(drop))
    }

    /// A new consumer without an assignment.
    pub fn consumer(&self) -> Result<ffi::Consumer, ClientError> {
        self.has_token()?;
        let made_with = self.made_with();
        let queue_kib = made_with.settings.read_ahead_bytes / 1024;
        let consumer = made_with.make(Role::Consumer { queue_kib }, |config| ffi::Consumer::new(config))?;
        adopt(self.tokens.as_deref(), consumer.handle());
        Ok(consumer)
    }

    /// A new producer for batches of at most this size.
    pub fn producer<C: ProducerContext + 'static>(
        &self,
        max_message_bytes: usize,
        context: C,
    ) -> Result<Arc<ThreadedProducer<C>>, ClientError> {
        self.has_token()?;
        let producer = self.made_with().make(Role::Producer { max_message_bytes }, |config| {
            ThreadedProducer::from_config_and_context(config, context)
        })?;
        let producer = Arc::new(producer);
        adopt(self.tokens.as_deref(), &producer);
        Ok(producer)
    }
}

/// Gives a client the token, and each later one.
fn adopt<T: TokenTarget + 'static>(tokens: Option<&Tokens>, client: &Arc<T>) {
    if let Some(tokens) = tokens {
        tokens.adopt(client);
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
            clients.replace(ClientSettings::new(settings, held), None).unwrap();
            let _others: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            assert_eq!(fs::read(path).unwrap(), certificate);
        });
        let both = clients.made_with().make(Role::Admin, |config| fs::read(config.get("ssl.ca.location").unwrap()));
        assert_eq!(both.unwrap().len(), 2 * certificate.len());
    }
}

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
    timeouts::RETIRE_CHECK_INTERVAL,
    token::Tokens,
};

pub type Admin = AdminClient<Context>;

/// The settings in effect, and the admin client that was made with them.
struct Current {
    settings: Arc<Settings>,
    held: HeldFiles,
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
        let admin = make_admin(&settings, &held, tokens.as_deref())?;
        Ok(Self { current: RwLock::new(Current { settings: Arc::new(settings), held, admin }), tokens })
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.current.read().settings.clone()
    }

    pub fn held(&self) -> HeldFiles {
        self.current.read().held.clone()
    }

    /// `None` if no client needs a token.
    pub fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    /// The long-lived client that watches the topic and queries offsets.
    pub fn admin(&self) -> Arc<Admin> {
        self.current.read().admin.clone()
    }

    /// A new admin client, for [`Clients::replace`].
    pub fn admin_with(&self, settings: &Settings, held: &HeldFiles) -> Result<Arc<Admin>, KafkaError> {
        make_admin(settings, held, self.tokens.as_deref())
    }

    /// Puts other settings into effect for the clients that are made from now on. Existing producers and consumers
    /// keep theirs. `admin` was made with the new settings.
    pub fn replace(&self, settings: Settings, held: HeldFiles, admin: Arc<Admin>) {
        let new = Current { settings: Arc::new(settings), held, admin };
        retire(mem::replace(&mut *self.current.write(), new).admin);
    }

    /// A new consumer without an assignment.
    pub fn consumer(&self) -> Result<ffi::Consumer, KafkaError> {
        let queue_kib = self.settings().read_ahead_bytes / 1024;
        let consumer = ffi::Consumer::new(&self.config(Role::Consumer { queue_kib }))?;
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
        let config = self.config(Role::Producer { max_message_bytes });
        let producer = Arc::new(ThreadedProducer::from_config_and_context(&config, context)?);
        if let Some(tokens) = &self.tokens {
            tokens.adopt(&producer);
        }
        Ok(producer)
    }

    fn config(&self, role: Role) -> ClientConfig {
        let current = self.current.read();
        config(&current.settings, &current.held, role)
    }
}

fn make_admin(settings: &Settings, held: &HeldFiles, tokens: Option<&Tokens>) -> Result<Arc<Admin>, KafkaError> {
    let admin = AdminClient::from_config_and_context(&config(settings, held, Role::Admin), Context::default())?;
    ffi::redirect_logs(admin.inner());
    let admin = Arc::new(admin);
    if let Some(tokens) = tokens {
        tokens.adopt(&admin);
    }
    Ok(admin)
}

fn config(settings: &Settings, held: &HeldFiles, role: Role) -> ClientConfig {
    let mut config = settings.config(role);
    for (property, path) in held.paths() {
        config.set(property, path);
    }
    config
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

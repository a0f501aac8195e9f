//! How the clients of librdkafka are made, and the admin client that the topic's watcher and the offset queries share.
//!
//! Does not decide when a client is used, or when a producer is replaced.

use std::sync::Arc;

use parking_lot::RwLock;
use rdkafka::{
    admin::AdminClient,
    config::FromClientConfigAndContext,
    error::KafkaError,
    producer::{ProducerContext, ThreadedProducer},
};

use crate::{
    client_context::Context,
    ffi,
    settings::{Role, Settings},
    token::Tokens,
};

pub type Admin = AdminClient<Context>;

/// The settings in effect, and the admin client that was made with them.
struct Current {
    settings: Arc<Settings>,
    admin: Arc<Admin>,
}

/// Makes clients with the settings in effect.
pub struct Clients {
    current: RwLock<Current>,
    /// With SASL OAUTHBEARER, what gives each client its token.
    tokens: Option<Arc<Tokens>>,
}

impl Clients {
    pub fn new(settings: Settings) -> Result<Self, KafkaError> {
        let tokens = settings.token().ok().flatten().map(|_| Arc::<Tokens>::default());
        let admin = Arc::new(make_admin(&settings)?);
        if let Some(tokens) = &tokens {
            tokens.adopt(&admin);
        }
        Ok(Self { current: RwLock::new(Current { settings: Arc::new(settings), admin }), tokens })
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.current.read().settings.clone()
    }

    /// `None` if no client needs a token.
    pub fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    /// The long-lived client that watches the topic and queries offsets.
    pub fn admin(&self) -> Arc<Admin> {
        self.current.read().admin.clone()
    }

    /// A new consumer without an assignment.
    pub fn consumer(&self) -> Result<ffi::Consumer, KafkaError> {
        let settings = self.settings();
        let queue_kib = settings.read_ahead_bytes / 1024;
        let consumer = ffi::Consumer::new(&settings.config(Role::Consumer { queue_kib }))?;
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
        let config = self.settings().config(Role::Producer { max_message_bytes });
        let producer = Arc::new(ThreadedProducer::from_config_and_context(&config, context)?);
        if let Some(tokens) = &self.tokens {
            tokens.adopt(&producer);
        }
        Ok(producer)
    }
}

fn make_admin(settings: &Settings) -> Result<Admin, KafkaError> {
    let admin = AdminClient::from_config_and_context(&settings.config(Role::Admin), Context::default())?;
    ffi::redirect_logs(admin.inner());
    Ok(admin)
}

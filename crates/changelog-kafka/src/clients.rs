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
}

impl Clients {
    pub fn new(settings: Settings) -> Result<Self, KafkaError> {
        let admin = Arc::new(make_admin(&settings)?);
        Ok(Self { current: RwLock::new(Current { settings: Arc::new(settings), admin }) })
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.current.read().settings.clone()
    }

    /// The long-lived client that watches the topic and queries offsets.
    pub fn admin(&self) -> Arc<Admin> {
        self.current.read().admin.clone()
    }

    /// A new consumer without an assignment.
    pub fn consumer(&self) -> Result<ffi::Consumer, KafkaError> {
        let settings = self.settings();
        let queue_kib = settings.read_ahead_bytes / 1024;
        ffi::Consumer::new(&settings.config(Role::Consumer { queue_kib }))
    }

    /// A new producer for batches of at most this size.
    pub fn producer<C: ProducerContext + 'static>(
        &self,
        max_message_bytes: usize,
        context: C,
    ) -> Result<ThreadedProducer<C>, KafkaError> {
        let config = self.settings().config(Role::Producer { max_message_bytes });
        ThreadedProducer::from_config_and_context(&config, context)
    }
}

fn make_admin(settings: &Settings) -> Result<Admin, KafkaError> {
    let admin = AdminClient::from_config_and_context(&settings.config(Role::Admin), Context::default())?;
    ffi::redirect_logs(admin.inner());
    Ok(admin)
}

//! The process: binds addresses, opens the log, serves, and drains. Tests run it, too.
//!
//! Promises: all addresses are bound and the store is open before anything is served. A drain ends at its deadline, and
//! reports writes that were not delivered.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};

use crate::{
    address::Address,
    changelog::{Changelog, Limits, Undelivered},
    config::{KafkaArgs, ServeArgs, StoreChoice, UsageError},
    embedded::{self, EmbeddedLog},
    kafka::{self, KafkaLog},
    log::{Log, MemoryLog},
    metrics::Metrics,
    model::{MAX_HEADER_BYTES, MAX_KEY_BYTES, PartitionCount, ValueRules},
    server::{Health, Listener, api_routes, health_routes, serve, serve_admin},
    service::{CallLimits, Service},
};

/// How long after --write-timeout a log may still report the outcome of a write. librdkafka checks its timeouts each
/// second.
const WRITE_GRACE: Duration = Duration::from_secs(5);
/// Partitions of a memory log without --partitions.
const DEFAULT_PARTITIONS: i64 = 10;

/// Why the process can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can never work.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An address can't be bound.
    #[error("{setting}: can't listen on {address}: {cause}")]
    Bind {
        /// The flag.
        setting: &'static str,
        /// Its value.
        address: Address,
        /// The error of the system.
        cause: io::Error,
    },
    /// The embedded store can not be opened.
    #[error(transparent)]
    Store(#[from] embedded::OpenError),
}

/// The addresses of the process, with real ports.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The API.
    pub api: Address,
    /// Metrics and health over HTTP; `None` if it is off.
    pub admin: Option<Address>,
    /// gRPC health only; `None` if it is off.
    pub health: Option<Address>,
}

/// A process that is ready to serve.
#[derive(Debug)]
pub struct App {
    args: ServeArgs,
    addresses: Addresses,
    api: Listener,
    admin: Option<TcpListener>,
    health_port: Option<Listener>,
    changelog: Changelog,
    health: Health,
    metrics: Arc<Metrics>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Accepted writes that failed during the drain, or whose outcome is unknown.
    pub undelivered: Undelivered,
    /// Connections that were still open at the end of the drain.
    pub cut_connections: usize,
}

impl App {
    /// Binds every address and opens the log. Does not wait for brokers: with a wrong topic the process starts, and
    /// calls return the error.
    pub async fn start(args: ServeArgs) -> Result<Self, StartError> {
        Self::start_with(args, open_log).await
    }

    /// As [`App::start`], with a log that the caller opens.
    pub async fn start_on(
        args: ServeArgs,
        open: impl FnOnce(&ServeArgs) -> Result<Arc<dyn Log>, StartError>,
    ) -> Result<Self, StartError> {
        Self::start_with(args, |args, _| open(args)).await
    }

    async fn start_with(
        args: ServeArgs,
        open: impl FnOnce(&ServeArgs, &Metrics) -> Result<Arc<dyn Log>, StartError>,
    ) -> Result<Self, StartError> {
        args.check()?;
        let bind_error = |setting, address: &Address| {
            let address = address.clone();
            move |cause| StartError::Bind { setting, address, cause }
        };
        let api = Listener::bind(&args.listen).await.map_err(bind_error("--listen", &args.listen))?;
        let admin = match &args.admin_listen.0 {
            None => None,
            Some(address) => Some(Listener::bind_admin(address).await.map_err(bind_error("--admin-listen", address))?),
        };
        let health_port = match &args.health_listen.0 {
            None => None,
            Some(address) => Some(Listener::bind(address).await.map_err(bind_error("--health-listen", address))?),
        };
        let real = |listener: &Listener| listener.address().map_err(bind_error("--listen", &args.listen));
        let addresses = Addresses {
            api: real(&api)?,
            admin: admin.as_ref().and_then(|l| l.local_addr().ok()).map(Address::Tcp),
            health: health_port.as_ref().map(real).transpose()?,
        };
        let metrics = Arc::new(Metrics::new());
        let log = open(&args, &metrics)?;
        let changelog = Changelog::new(log, limits(&args), metrics.clone());
        Ok(Self { args, addresses, api, admin, health_port, changelog, health: Health::new().await, metrics })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Serves until `shutdown` completes, then drains within --drain-timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        let (stop, stopping) = watch::channel(None::<Instant>);
        let stopped = || {
            let mut stopping = stopping.clone();
            async move { stopping.wait_for(Option::is_some).await.ok().and_then(|s| *s).unwrap_or_else(Instant::now) }
        };
        // The tasks are aborted when this is dropped.
        let mut tasks = JoinSet::new();
        let following = tasks.spawn(self.health.clone().follow(self.changelog.topic_state(), self.metrics.clone()));
        if let Some(listener) = self.admin {
            let (metrics, health) = (self.metrics.clone(), self.health.clone());
            let state = self.changelog.topic_state();
            tasks.spawn(serve_admin(listener, metrics, health, state, std::future::pending()));
        }
        if let Some(listener) = self.health_port {
            let routes = health_routes(&self.health);
            let metrics = self.metrics.clone();
            tasks.spawn(async move {
                serve(listener, routes, metrics, std::future::pending()).await;
            });
        }
        let call_limits = CallLimits {
            read_timeout: self.args.read_timeout,
            write_timeout: self.args.write_timeout + WRITE_GRACE,
            client_stall_timeout: self.args.client_stall_timeout,
            max_request_bytes: max_request_bytes(&self.args),
        };
        let service = Service::new(self.changelog.clone(), call_limits);
        let routes = api_routes(service, &self.health, call_limits.max_request_bytes);
        let api = serve(self.api, routes, self.metrics.clone(), stopped());
        let mut api = std::pin::pin!(api);

        tokio::select! {
            _ = &mut api => unreachable!("the API is served until shutdown"),
            () = shutdown => {}
        }
        tracing::info!(timeout_ms = self.args.drain_timeout.as_millis() as u64, "draining");
        let deadline = Instant::now() + self.args.drain_timeout;
        // The state of the topic may still change, but the process must not become ready again.
        following.abort();
        self.health.set_ready(false).await;
        self.metrics.set_ready(false);
        self.changelog.refuse_new_work();
        // A quarter of the time is kept for accepted writes that no call waits for.
        stop.send_replace(Some(deadline - self.args.drain_timeout / 4));
        let cut_connections = api.await;
        let undelivered = self.changelog.drain(deadline).await;
        Drained { undelivered, cut_connections }
    }
}

fn open_log(args: &ServeArgs, metrics: &Metrics) -> Result<Arc<dyn Log>, StartError> {
    match args.store() {
        StoreChoice::Memory => {
            let default = PartitionCount::new(DEFAULT_PARTITIONS);
            let count = args.kafka.partitions.or(default).ok_or_else(|| UsageError("no partitions".to_owned()))?;
            Ok(Arc::new(MemoryLog::new(count, args.delete_retention)))
        }
        StoreChoice::Embedded => {
            let settings = embedded::Settings {
                partition_count: args.kafka.partitions,
                delete_retention: args.delete_retention,
                sort_bytes: size(args.read_ahead()),
                ..embedded::Settings::new(&args.data_dir)
            };
            Ok(Arc::new(EmbeddedLog::open(settings)?))
        }
        StoreChoice::Kafka => {
            let settings = kafka::Settings {
                producers: args.producers.into(),
                write_timeout: args.write_timeout,
                create_topic: args.create_topic,
                read_ahead_bytes: size(args.read_ahead()),
                producers_replaced: metrics.producers_replaced().clone(),
                ..kafka_settings(&args.kafka)?
            };
            let log = KafkaLog::start(settings).map_err(|e| UsageError(e.to_string()))?;
            Ok(Arc::new(log))
        }
    }
}

/// The Kafka settings from flags, environment and properties file. They are not checked yet.
pub fn kafka_settings(args: &KafkaArgs) -> Result<kafka::Settings, UsageError> {
    let mut settings = kafka::Settings::new(args.brokers(), &args.topic);
    settings.group_id.clone_from(&args.group_id);
    settings.expected_partitions = args.partitions;
    if let Some(path) = &args.kafka_properties_file {
        let shown = path.display().to_string();
        let bad = |reason: String| UsageError::value("--kafka-properties-file", &shown, reason);
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        settings.properties = kafka::parse_properties(&text).map_err(bad)?;
    }
    // Flags win over the file.
    settings.properties.extend(args.kafka_property.iter().cloned());
    Ok(settings)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn limits(args: &ServeArgs) -> Limits {
    Limits {
        values: ValueRules { mode: args.values.into(), max_bytes: args.max_value_bytes as usize },
        max_replays: args.max_replays.into(),
        max_replays_per_client: args.max_replays_per_client().into(),
        share_replays: args.share_replays,
        replay_queue_timeout: args.replay_queue_timeout,
        max_following_streams: args.max_following_streams().into(),
        replay_memory: size(args.replay_memory()),
        read_ahead: size(args.read_ahead()),
        max_load_memory: size(args.max_load_memory()),
    }
}

/// The size of a request with the largest value, key and headers. A `json` value is larger on the wire than stored: a
/// small integer takes nine bytes and its frame. At least 4 MiB, which is the usual limit of gRPC.
fn max_request_bytes(args: &ServeArgs) -> usize {
    (args.max_value_bytes as usize * 4 + MAX_KEY_BYTES + 2 * MAX_HEADER_BYTES).max(4 * 1024 * 1024)
}

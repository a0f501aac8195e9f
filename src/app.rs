//! The process: binds addresses, opens the store, serves, and drains. Tests run it, too.
//!
//! Promises: all addresses are bound and the store is open before anything is served. A drain ends at its deadline, and
//! reports writes that were not delivered.

use std::{future::Future, io, sync::Arc, time::Duration};

use changelog_core::{
    changelog::{Changelog, Limits, Undelivered},
    log::Log,
    model::{MAX_HEADER_BYTES, MAX_KEY_BYTES, ValueRules},
};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    address::Address,
    config::{ServeArgs, UsageError},
    metrics::Metrics,
    server::{Health, Listener, api_routes, health_routes, serve, serve_admin},
    service::{CallLimits, Service},
    store::{StoreError, open_log, saturating_usize},
};

/// How long after --write-timeout a log may still report the outcome of a write. librdkafka checks its timeouts each
/// second.
const WRITE_GRACE: Duration = Duration::from_secs(5);

/// Why the process can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can never work.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An address can't be bound. `setting` is its flag.
    #[error("{setting}: can't listen on {address}: {cause}")]
    Bind { setting: &'static str, address: Address, cause: io::Error },
    /// The store can not be opened.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Usage(error) => Self::Usage(error),
            #[cfg(feature = "embedded")]
            StoreError::Embedded(_) => Self::Store(error),
        }
    }
}

/// The addresses of the process, with real ports.
#[derive(Debug, Clone)]
pub struct Addresses {
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
    /// Connections that were still open after three quarters of --drain-timeout.
    pub cut_connections: usize,
}

impl App {
    /// Binds every address and opens the log. Does not wait for brokers: with a wrong topic the process starts, and
    /// calls return the error.
    pub async fn start(args: ServeArgs) -> Result<Self, StartError> {
        Self::start_with(args, |args, registry| Ok(open_log(args, registry)?)).await
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
        open: impl FnOnce(&ServeArgs, &mut Registry) -> Result<Arc<dyn Log>, StartError>,
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
        let mut metrics = Metrics::new();
        let log = open(&args, metrics.registry())?;
        let metrics = Arc::new(metrics);
        let changelog = Changelog::new(log, limits(&args), metrics.changelog().clone());
        Ok(Self { args, addresses, api, admin, health_port, changelog, health: Health::new().await, metrics })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Serves until `shutdown` completes, then drains within --drain-timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or_else(|_| Instant::now()) };
        // The tasks are aborted when this is dropped.
        let mut tasks = JoinSet::new();
        let following = tasks.spawn(self.health.clone().follow(self.changelog.topic_state(), self.metrics.clone()));
        if let Some(listener) = self.admin {
            let (metrics, health) = (self.metrics.clone(), self.health.clone());
            let state = self.changelog.topic_state();
            tasks.spawn(serve_admin(listener, metrics, health, state));
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
        let write_tasks = TaskTracker::new();
        let service = Service::new(self.changelog.clone(), call_limits, self.metrics.clone(), write_tasks.clone());
        let routes = api_routes(service, &self.health, call_limits.max_request_bytes);
        let api = serve(self.api, routes, self.metrics.clone(), stopped);
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
        let _ = stop.send(deadline - self.args.drain_timeout / 4);
        let cut_connections = api.await;
        let undelivered = self.changelog.drain(deadline).await;
        // The log has reported all outcomes by now, so the tasks that wait for them end.
        write_tasks.close();
        let _ = timeout_at(deadline, write_tasks.wait()).await;
        Drained { undelivered, cut_connections }
    }
}

fn limits(args: &ServeArgs) -> Limits {
    Limits {
        values: ValueRules { mode: args.values.into(), max_bytes: args.max_value_bytes as usize },
        max_replays: args.max_replays.into(),
        max_replays_per_client: args.max_replays_per_client().into(),
        share_replays: args.share_replays,
        replay_queue_timeout: args.replay_queue_timeout,
        max_following_streams: args.max_following_streams().into(),
        replay_memory: saturating_usize(args.replay_memory()),
        read_ahead: saturating_usize(args.read_ahead()),
        max_load_memory: saturating_usize(args.max_load_memory()),
    }
}

/// The size of a request with the largest value, key and headers. A `json` value is larger on the wire than stored: a
/// small integer takes nine bytes and its frame. At least 4 MiB, which is the usual limit of gRPC.
fn max_request_bytes(args: &ServeArgs) -> usize {
    (args.max_value_bytes as usize * 4 + MAX_KEY_BYTES + 2 * MAX_HEADER_BYTES).max(4 * 1024 * 1024)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    /// The memory is given, because its default depends on the machine.
    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_library() {
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        let matches = command.get_matches_from(["serve", "--replay-memory=536870912"]);
        let args = ServeArgs::from_arg_matches(&matches).unwrap();
        assert_eq!(limits(&args), Limits::default());
    }
}

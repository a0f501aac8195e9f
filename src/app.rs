//! The process: binds addresses, opens the store, serves, and drains. Tests run it, too.
//!
//! Promises: all addresses are bound and the store is open before anything is served. A drain ends a second after its
//! deadline at the latest, and reports writes that were not delivered.

use std::{future::Future, io, sync::Arc, time::Duration};

use changelog_core::{
    changelog::{Changelog, Limits, Undelivered},
    log::Log,
    model::ValueRules,
};
use prometheus_client::registry::Registry;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    address::Address,
    config::{ServeArgs, UsageError},
    metrics::Metrics,
    server::{
        CallService, CallState, ConnectionCounts, Health, Listener, Port, PortEvent, admin_router, api_routes,
        health_routes,
    },
    service::{CallLimits, Service},
    store::{StoreError, open_log, saturating_usize},
    telemetry::{self, LogLimit},
};

/// How long after --write-timeout a log may still report the outcome of a write. librdkafka checks its timeouts each
/// second.
const WRITE_GRACE: Duration = Duration::from_secs(5);

/// The shortest time in which new calls are refused.
const MIN_REFUSING: Duration = Duration::from_millis(250);

/// How long the ports may take to close after a drain. A connection without a call needs less.
const CLOSE_TIME: Duration = Duration::from_secs(1);

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
    admin: Option<Listener>,
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
    /// Connections that still had a call at the end.
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
            Some(address) => Some(Listener::bind(address).await.map_err(bind_error("--admin-listen", address))?),
        };
        let health_port = match &args.health_listen.0 {
            None => None,
            Some(address) => Some(Listener::bind(address).await.map_err(bind_error("--health-listen", address))?),
        };
        let real = |listener: &Listener| listener.address().map_err(bind_error("--listen", &args.listen));
        let addresses = Addresses {
            api: real(&api)?,
            admin: admin.as_ref().map(real).transpose()?,
            health: health_port.as_ref().map(real).transpose()?,
        };
        let mut metrics = Metrics::new();
        let log = open(&args, metrics.registry())?;
        let metrics = Arc::new(metrics);
        let changelog = Changelog::new(log, limits(&args), metrics.changelog().clone());
        let health = Health::new(metrics.clone());
        Ok(Self { args, addresses, api, admin, health_port, changelog, health, metrics })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How many connections the API port may have.
    pub fn max_connections(&self) -> usize {
        self.args.max_connections()
    }

    /// Serves until `shutdown` completes, and then drains in three steps:
    ///
    /// 1. Readiness is off, and everything is served for --drain-delay.
    /// 2. New calls are refused, those that are open go on. Ends when no call is open and every accepted write has an
    ///    outcome, or after --drain-timeout.
    /// 3. The ports and all connections are closed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        let closing = CancellationToken::new();
        let stop = || {
            let closing = closing.clone();
            async move {
                closing.cancelled().await;
                Instant::now() + CLOSE_TIME
            }
        };
        // The tasks are aborted when this is dropped.
        let mut tasks = JoinSet::new();
        tasks.spawn(self.health.clone().follow(self.changelog.topic_state()));
        let (calls, port_events) = (CallState::new(self.metrics.clone()), Arc::new(LogLimit::new(1)));
        tasks.spawn(log_what_was_left_out(calls.clone(), port_events.clone()));
        let port = |name, listener| Port {
            name,
            listener,
            counts: ConnectionCounts { max: self.args.max_connections(), max_per_client: None },
            idle_timeout: self.args.connection_idle_timeout,
            client_stall_timeout: self.args.client_stall_timeout,
            metrics: self.metrics.clone(),
            log_limit: port_events.clone(),
        };
        let mut ports = JoinSet::new();
        if let Some(listener) = self.admin {
            let router = admin_router(self.metrics.clone(), self.health.clone(), self.changelog.topic_state());
            ports.spawn(port("admin", listener).for_probes().serve_http(router, stop()));
        }
        if let Some(listener) = self.health_port {
            let service = CallService::new(health_routes(&self.health).prepare(), None);
            ports.spawn(port("health", listener).for_probes().serve_grpc(service, stop()));
        }
        let call_limits = CallLimits {
            read_timeout: self.args.read_timeout,
            write_timeout: self.args.write_timeout + WRITE_GRACE,
            max_request_bytes: max_request_bytes(&self.args),
        };
        let write_tasks = TaskTracker::new();
        let service = Service::new(self.changelog.clone(), call_limits, self.metrics.clone(), write_tasks.clone());
        let routes = api_routes(service, &self.health, call_limits.max_request_bytes);
        let service = CallService::new(routes.prepare(), Some(calls.clone()));
        ports.spawn(port("api", self.api).serve_grpc(service, stop()));

        shutdown.await;
        let (delay, timeout) = (self.args.drain_delay, self.args.drain_timeout);
        tracing::info!(delay_ms = delay.as_millis() as u64, timeout_ms = timeout.as_millis() as u64, "draining");
        self.health.drain();
        sleep(delay).await;

        let deadline = Instant::now() + timeout;
        calls.refuse_new_calls();
        self.changelog.refuse_new_work();
        // Clients that connect for each call must meet the refusal, not a closed port.
        sleep_until(deadline.min(Instant::now() + MIN_REFUSING)).await;
        // A quarter of the time is kept for accepted writes that no call waits for.
        let _ = timeout_at(deadline - timeout / 4, calls.no_open_calls()).await;
        let undelivered = self.changelog.drain(deadline).await;
        // The log has reported all outcomes by now, so the tasks that wait for them end.
        write_tasks.close();
        let _ = timeout_at(deadline, write_tasks.wait()).await;

        self.health.close();
        closing.cancel();
        let mut cut_connections = 0;
        while let Some(cut) = ports.join_next().await {
            cut_connections += cut.unwrap_or_default();
        }
        calls.log_left_out();
        telemetry::log_left_out();
        Drained { undelivered, cut_connections }
    }
}

/// Writes how many calls and connections had no log line of their own, until it is dropped.
async fn log_what_was_left_out(calls: Arc<CallState>, port_events: Arc<LogLimit<PortEvent>>) {
    loop {
        sleep(telemetry::LOG_LIMIT_PERIOD).await;
        telemetry::log_left_out();
        calls.log_left_out();
        for (PortEvent { port, what }, times) in port_events.end_period() {
            tracing::warn!(port, times, "{what}: this happened more often than was logged");
        }
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

/// The size of a request with the largest value, key and headers. A `json` value is larger on the wire than stored: in
/// `[1,1]` a number and its comma take eleven bytes instead of two. At least 4 MiB, which is the usual limit of gRPC.
fn max_request_bytes(args: &ServeArgs) -> usize {
    (args.max_value_bytes as usize * 6 + 64 * 1024).max(4 * 1024 * 1024)
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

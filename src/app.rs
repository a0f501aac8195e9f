//! The process: binds addresses, opens the store, serves, and drains. Tests run it, too.
//!
//! Promises: all addresses are bound before anything is served. While the store is opened, health and metrics are
//! served, calls are refused, and a stop is not delayed. A drain ends two seconds after its deadline at the latest,
//! and reports writes that were not delivered. If a port ends by a fault, the process drains and ends, too.

mod limits;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use changelog_core::{
    changelog::{Changelog, Undelivered},
    log::Log,
};
use limits::limits;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    address::Address,
    config::{ServeArgs, UsageError, container_memory_limit, max_request_bytes},
    memory::CallMemory,
    metrics::Metrics,
    open_store::open_store,
    server::{
        CallService, CallState, ConnectionCounts, Health, Listener, Opened, Opening, Port, PortEvent, RequestLimits,
        admin_router, api, health_and_reflection_routes, health_routes,
    },
    service::{CallLimits, Service},
    store::{OpenProgress, StoreError, StoreMetrics, libraries, open_log, saturating_usize},
    telemetry::{self, LogLimit},
    traces::Traces,
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
    /// A task that opens the store panicked.
    #[error("a fault of changelogd ended the start: {0}")]
    Fault(String),
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

impl Addresses {
    /// For the log.
    pub fn shown(address: &Option<Address>) -> String {
        address.as_ref().map_or("off".to_owned(), ToString::to_string)
    }
}

/// A process with its addresses, before it serves.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct App {
    args: ServeArgs,
    addresses: Addresses,
    listeners: Listeners,
    open: OpenLog,
    opened: CancellationToken,
    memory: CallMemory,
    metrics: Arc<Metrics>,
    traces: Option<Arc<Traces>>,
}

/// Opens the log, and may block.
type OpenLog = Box<dyn FnOnce(&ServeArgs) -> Result<Arc<dyn Log>, StartError> + Send>;

struct Listeners {
    api: Listener,
    admin: Option<Listener>,
    health: Option<Listener>,
}

/// The result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Accepted writes that failed during the drain, or whose outcome is unknown.
    pub undelivered: Undelivered,
    /// Connections that still had a call at the end.
    pub cut_connections: usize,
    /// A port or another task of the process that ended by a fault of changelogd. The process can't go on without it.
    pub fault: Option<String>,
}

impl App {
    /// Binds every address. [`App::run`] opens the store.
    pub async fn start(args: ServeArgs) -> Result<Self, StartError> {
        let stores = StoreMetrics::default();
        let metrics = metrics_with(&stores);
        Self::bind(args, metrics, Box::new(move |args| Ok(open_log(args, &stores)?))).await
    }

    /// As [`App::start`], with a log that the caller opens. `open` may block.
    pub async fn start_on(
        args: ServeArgs,
        open: impl FnOnce(&ServeArgs) -> Result<Arc<dyn Log>, StartError> + Send + 'static,
    ) -> Result<Self, StartError> {
        Self::bind(args, metrics_with(&StoreMetrics::default()), Box::new(open)).await
    }

    async fn bind(args: ServeArgs, metrics: Metrics, open: OpenLog) -> Result<Self, StartError> {
        args.check()?;
        let memory = CallMemory::new(&args.memory()?, &metrics);
        metrics.set_container_limit(container_memory_limit());
        let bind_error = |setting, address: &Address| {
            let address = address.clone();
            move |cause| StartError::Bind { setting, address, cause }
        };
        let api = Listener::bind(&args.listen).await.map_err(bind_error("--listen", &args.listen))?;
        let admin = match &args.admin_listen.0 {
            None => None,
            Some(address) => Some(Listener::bind(address).await.map_err(bind_error("--admin-listen", address))?),
        };
        let health = match &args.health_listen.0 {
            None => None,
            Some(address) => Some(Listener::bind(address).await.map_err(bind_error("--health-listen", address))?),
        };
        let real = |listener: &Listener| listener.address().map_err(bind_error("--listen", &args.listen));
        let addresses = Addresses {
            api: real(&api)?,
            admin: admin.as_ref().map(real).transpose()?,
            health: health.as_ref().map(real).transpose()?,
        };
        let (opened, metrics) = (CancellationToken::new(), Arc::new(metrics));
        Ok(Self {
            args,
            addresses,
            listeners: Listeners { api, admin, health },
            open,
            opened,
            memory,
            metrics,
            traces: None,
        })
    }

    /// Records spans of calls.
    #[must_use]
    pub fn with_traces(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Completes when the store is open and the API is served.
    pub fn opened(&self) -> impl Future<Output = ()> + use<> {
        self.opened.clone().cancelled_owned()
    }

    /// How many connections the API port may have.
    pub fn max_connections(&self) -> usize {
        self.args.max_connections()
    }

    /// Opens the store and serves until `shutdown` completes. Health, metrics and refusals are served meanwhile, and a
    /// shutdown does not wait for the store. Does not wait for brokers: with a wrong topic the process serves, and
    /// calls return the error.
    ///
    /// Drains in three steps:
    ///
    /// 1. Readiness is off, and everything is served for --drain-delay.
    /// 2. New calls are refused, those that are open go on. Ends when no call is open and every accepted write has an
    ///    outcome, or after --drain-timeout.
    /// 3. The ports and all connections are closed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Drained, StartError> {
        self.run_with(shutdown, |_| {}).await
    }

    /// `started` is called when the ports are served.
    async fn run_with(
        self,
        shutdown: impl Future<Output = ()>,
        started: impl FnOnce(&mut Serving),
    ) -> Result<Drained, StartError> {
        let args = Arc::new(self.args);
        let mut serving = Serving::start(&args, self.memory, &self.metrics, self.listeners, self.traces);
        started(&mut serving);
        let mut shutdown = pin!(shutdown);
        let (open, opening_args, opening) = (self.open, args.clone(), serving.opening.clone());
        let open = move || open(&opening_args);
        let (mut progress, progress_args) = (None, args.clone());
        let measure = move || progress.get_or_insert_with(|| OpenProgress::new(&progress_args)).shown();
        let report = |progress: Option<String>, is_due: bool| {
            if is_due {
                let (api, admin) = (&self.addresses.api, Addresses::shown(&self.addresses.admin));
                let health = Addresses::shown(&self.addresses.health);
                tracing::info!(progress, %api, admin, health, "the store is being opened");
            }
            opening.set_progress(progress);
        };
        let log = tokio::select! {
            log = open_store(open, measure, report) => log,
            () = &mut shutdown => {
                // The directory of a store is as after a SIGKILL.
                tracing::info!("stopped before the store was open");
                serving.health.drain();
                return Ok(serving.drain(None).await);
            }
            () = serving.fault() => {
                serving.health.drain();
                return Ok(serving.drain(None).await);
            }
        };
        let open = match log.unwrap_or_else(|fault| Err(StartError::Fault(fault.to_string()))) {
            Ok(log) => serving.serve(log),
            Err(error) => {
                serving.close().await;
                return Err(error);
            }
        };
        self.opened.cancel();

        Ok(serving.serve_until(shutdown, open).await)
    }
}

fn metrics_with(stores: &StoreMetrics) -> Metrics {
    let mut metrics = Metrics::new();
    stores.register(metrics.registry());
    metrics.register_build(libraries());
    metrics
}

/// The ports, and what they serve.
struct Serving {
    args: Arc<ServeArgs>,
    memory: CallMemory,
    metrics: Arc<Metrics>,
    health: Health,
    calls: Arc<CallState>,
    opening: Arc<Opening>,
    ports: JoinSet<usize>,
    /// Closes the ports.
    closing: CancellationToken,
    /// Aborted when this is dropped.
    tasks: JoinSet<()>,
    fault: Option<String>,
}

/// The changelog, and the tasks that wait for outcomes of its writes.
struct Open {
    changelog: Changelog,
    write_tasks: TaskTracker,
}

impl Serving {
    /// Completes when a port, or a task that runs as long as the process, has ended. Keeps the cause.
    async fn fault(&mut self) {
        let fault = loop {
            tokio::select! {
                Some(port) = self.ports.join_next() => match port {
                    Ok(_) => break "a port is not served any more".to_owned(),
                    Err(error) => break format!("a port: {error}"),
                },
                Some(task) = self.tasks.join_next() => match task {
                    // Readiness is not followed any more when the log is gone.
                    Ok(()) => {}
                    Err(error) => break format!("a task: {error}"),
                },
            }
        };
        tracing::error!(fault, "a part of the process has ended; this is a fault of changelogd, and the process stops");
        self.fault = Some(fault);
    }

    /// Serves until `shutdown` completes or a fault has ended a part, and drains.
    async fn serve_until(mut self, shutdown: Pin<&mut impl Future<Output = ()>>, open: Open) -> Drained {
        tokio::select! {
            () = shutdown => {}
            () = self.fault() => {}
        }
        let (delay, timeout) = (self.args.drain_delay, self.args.drain_timeout);
        tracing::info!(delay_ms = delay.as_millis() as u64, timeout_ms = timeout.as_millis() as u64, "draining");
        self.metrics.set_draining();
        self.health.drain();
        sleep(delay).await;
        self.drain(Some(open)).await
    }

    /// Serves health and metrics, and refuses calls of the API.
    fn start(
        args: &Arc<ServeArgs>,
        memory: CallMemory,
        metrics: &Arc<Metrics>,
        listeners: Listeners,
        traces: Option<Arc<Traces>>,
    ) -> Self {
        let (health, opening) = (Health::new(metrics.clone()), Opening::new());
        let requests = RequestLimits {
            part: memory.requests.clone(),
            probes: memory.probes.clone(),
            max_request_bytes: max_request_bytes(args.max_value_bytes.into()),
        };
        let calls = CallState::new(metrics.clone(), opening.clone(), requests, traces);
        let port_events = Arc::new(LogLimit::new(1));
        let mut tasks = JoinSet::new();
        tasks.spawn(log_what_was_left_out(calls.clone(), port_events.clone()));
        let closing = CancellationToken::new();
        let stop = || {
            let closing = closing.clone();
            async move {
                closing.cancelled().await;
                Instant::now() + CLOSE_TIME
            }
        };
        let port = |name, listener| Port {
            name,
            listener,
            counts: ConnectionCounts { max: args.max_connections(), max_per_client: None },
            idle_timeout: args.connection_idle_timeout,
            client_stall_timeout: args.client_stall_timeout,
            metrics: metrics.clone(),
            log_limit: port_events.clone(),
        };
        let mut ports = JoinSet::new();
        if let Some(listener) = listeners.admin {
            let router = admin_router(metrics.clone(), health.clone(), opening.clone(), memory.clone());
            ports.spawn(port("admin", listener).for_probes().serve_http(router, stop()));
        }
        if let Some(listener) = listeners.health {
            let service = CallService::new(health_routes(&health), None);
            ports.spawn(port("health", listener).for_probes().serve_grpc(service, stop()));
        }
        let service = CallService::new(health_and_reflection_routes(&health), Some(calls.clone()));
        ports.spawn(port("api", listeners.api).serve_grpc(service, stop()));
        let (args, metrics) = (args.clone(), metrics.clone());
        Self { args, memory, metrics, health, calls, opening, ports, closing, tasks, fault: None }
    }

    /// Serves the API, too.
    fn serve(&mut self, log: Arc<dyn Log>) -> Open {
        let (args, metrics) = (&self.args, &self.metrics);
        let changelog = Changelog::new(log, limits(args), metrics.changelog().clone());
        let call_limits = CallLimits {
            read_timeout: args.read_timeout,
            write_timeout: args.write_timeout + WRITE_GRACE,
            max_request_bytes: saturating_usize(max_request_bytes(args.max_value_bytes.into())),
        };
        let (memory, write_tasks) = (self.memory.clone(), TaskTracker::new());
        let service = Service::new(changelog.clone(), call_limits, memory, metrics.clone(), write_tasks.clone());
        let api = api(service, call_limits.max_request_bytes);
        self.opening.opened(Opened { api, changelog: changelog.clone() });
        self.tasks.spawn(self.health.clone().follow(changelog.topic_state()));
        Open { changelog, write_tasks }
    }

    /// Drains after --drain-delay. `open` is `None` if the store was not open yet.
    async fn drain(self, open: Option<Open>) -> Drained {
        let deadline = Instant::now() + self.args.drain_timeout;
        self.metrics.set_draining();
        self.calls.refuse_new_calls();
        if let Some(Open { changelog, .. }) = &open {
            changelog.refuse_new_work();
        }
        // Clients that connect for each call must meet the refusal, not a closed port.
        sleep_until(deadline.min(Instant::now() + MIN_REFUSING)).await;
        // Meanwhile the log goes on with accepted writes that no call waits for.
        let _ = timeout_at(deadline, self.calls.no_open_calls()).await;
        let mut undelivered = Undelivered::default();
        if let Some(Open { changelog, write_tasks }) = open {
            undelivered = changelog.drain(deadline).await;
            // The log has reported all outcomes by now, so the tasks that wait for them end.
            write_tasks.close();
            let _ = timeout_at(deadline, write_tasks.wait()).await;
        }
        Drained { undelivered, ..self.close().await }
    }

    /// Closes the ports. Returns how many connections were cut.
    async fn close(mut self) -> Drained {
        self.health.close();
        self.closing.cancel();
        let mut cut_connections = 0;
        while let Some(port) = self.ports.join_next().await {
            match port {
                Ok(cut) => cut_connections += cut,
                Err(error) => self.fault = Some(format!("a port: {error}")),
            }
        }
        self.calls.log_left_out();
        telemetry::log_left_out();
        Drained { cut_connections, fault: self.fault, ..Drained::default() }
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

#[cfg(test)]
mod tests;

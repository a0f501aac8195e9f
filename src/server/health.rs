//! grpc.health.v1. The service name `liveness` serves as long as the process does. The empty name, `readiness` and
//! `changelog.v1.ChangelogService` serve while writes and loads are possible. `serving` serves from the first time that
//! they were possible until a drain.
//!
//! A missing topic turns readiness off. It must not turn liveness off, because a restart would fix nothing. It does not
//! turn `serving` off, because all replicas see the same topic: without any of them, clients would not get the cause.
//!
//! tonic-health's service is not used: it can't end its `Watch` streams on a stop, and it ends the `Watch` of a service
//! that it does not know, which the specification forbids.

use std::{pin::Pin, sync::Arc};

use changelog_core::log::TopicState;
use futures_util::{Stream, stream::unfold};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

use crate::{metrics::Metrics, service::name_unknown};

const LIVENESS: &str = "liveness";
const SERVING: &str = "serving";
const READINESS: [&str; 3] = ["", "readiness", "changelog.v1.ChangelogService"];

/// Whether the process serves. Only `Ready` and `NotReady` alternate. The others are never left for an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Not ready, and it never was.
    Starting,
    Ready,
    /// Not ready, and it was.
    NotReady,
    Draining,
    /// `Watch` streams end.
    Closing,
}

/// The health that probes see.
#[derive(Debug, Clone)]
pub struct Health {
    phase: watch::Sender<Phase>,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Starts as live and not ready.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { phase: watch::Sender::new(Phase::Starting), metrics }
    }

    pub fn server(&self) -> health_server::HealthServer<Self> {
        health_server::HealthServer::new(self.clone())
    }

    pub fn is_ready(&self) -> bool {
        *self.phase.borrow() == Phase::Ready
    }

    fn change(&self, after: impl FnOnce(Phase) -> Phase) {
        self.phase.send_if_modified(|phase| {
            let next = after(*phase);
            self.metrics.set_ready(next == Phase::Ready);
            std::mem::replace(phase, next) != next
        });
    }

    /// Has no effect while the process drains.
    pub fn set_ready(&self, ready: bool) {
        self.change(|before| match (before, ready) {
            (Phase::Draining | Phase::Closing, _) | (Phase::Starting, false) => before,
            (_, true) => Phase::Ready,
            (_, false) => Phase::NotReady,
        });
    }

    /// From now on the process is not ready.
    pub fn drain(&self) {
        self.change(|before| before.max(Phase::Draining));
    }

    /// Ends all `Watch` streams, after they have delivered the last status.
    pub fn close(&self) {
        self.change(|_| Phase::Closing);
    }

    /// Sets readiness from the state of the topic, until the log is gone.
    pub async fn follow(self, mut state: watch::Receiver<TopicState>) {
        loop {
            self.set_ready(matches!(*state.borrow_and_update(), TopicState::Ready(_)));
            if state.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The status of a service name; `None` for a name that is not known.
fn status_of(service: &str, phase: Phase) -> Option<ServingStatus> {
    match service {
        LIVENESS => Some(ServingStatus::Serving),
        SERVING if matches!(phase, Phase::Ready | Phase::NotReady) => Some(ServingStatus::Serving),
        SERVING => Some(ServingStatus::NotServing),
        name if !READINESS.contains(&name) => None,
        _ if phase == Phase::Ready => Some(ServingStatus::Serving),
        _ => Some(ServingStatus::NotServing),
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status = status_of(&request.get_ref().service, *self.phase.borrow());
        let unknown = || name_unknown("health has no service", &request.get_ref().service);
        let status = status.ok_or_else(unknown)?;
        Ok(Response::new(response(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let statuses = unfold((self.phase.subscribe(), None), move |(mut phases, mut last)| {
            let service = service.clone();
            async move {
                loop {
                    let phase = *phases.borrow_and_update();
                    let status = status_of(&service, phase).unwrap_or(ServingStatus::ServiceUnknown);
                    if last.replace(status) != Some(status) {
                        return Some((Ok(response(status)), (phases, last)));
                    }
                    if phase == Phase::Closing {
                        return None;
                    }
                    phases.changed().await.ok()?;
                }
            }
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

#[cfg(test)]
mod tests {
    use ServingStatus::{NotServing, ServiceUnknown, Serving};
    use futures_util::{FutureExt, StreamExt};
    use health_server::Health as _;

    use super::*;

    type Change = fn(&Health);

    /// Covers S10, S5.
    #[tokio::test]
    async fn a_watch_delivers_each_change_and_ends_on_a_stop() {
        let health = Health::new(Arc::new(Metrics::new()));
        let mut watches = Vec::new();
        for service in ["", "readiness", "changelog.v1.ChangelogService", LIVENESS, SERVING, "another"] {
            let request = Request::new(HealthCheckRequest { service: service.to_owned() });
            watches.push((service, health.watch(request).await.unwrap().into_inner()));
        }
        // What happens, and what the watches of readiness and of serving deliver.
        let changes: [(Change, Option<ServingStatus>, Option<ServingStatus>); 9] = [
            (|_| {}, Some(NotServing), Some(NotServing)),
            (|health| health.set_ready(false), None, None),
            (|health| health.set_ready(true), Some(Serving), Some(Serving)),
            (|health| health.set_ready(true), None, None),
            (|health| health.set_ready(false), Some(NotServing), None),
            (|health| health.set_ready(true), Some(Serving), None),
            (Health::drain, Some(NotServing), Some(NotServing)),
            (|health| health.set_ready(true), None, None),
            (|health| health.set_ready(false), None, None),
        ];
        for (number, (change, delivered, served)) in changes.into_iter().enumerate() {
            change(&health);
            for (service, watch) in &mut watches {
                let expected = match *service {
                    LIVENESS => (number == 0).then_some(Serving),
                    "another" => (number == 0).then_some(ServiceUnknown),
                    SERVING => served,
                    _ => delivered,
                };
                let next = watch.next().now_or_never().map(|next| next.expect("it goes on").unwrap().status());
                assert_eq!(next, expected, "{service:?} at change {number}");
            }
        }
        health.close();
        for (service, watch) in &mut watches {
            assert!(watch.next().now_or_never().expect("it ends").is_none(), "{service:?}");
        }
    }

    /// Covers S5.
    #[tokio::test]
    async fn a_watch_that_was_not_read_delivers_the_last_status_before_it_ends() {
        let health = Health::new(Arc::new(Metrics::new()));
        health.set_ready(true);
        let mut watch = health.watch(Request::new(HealthCheckRequest::default())).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap().status(), Serving);
        health.drain();
        health.close();
        assert_eq!(watch.next().await.unwrap().unwrap().status(), NotServing);
        assert!(watch.next().await.is_none());
    }
}

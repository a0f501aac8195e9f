//! Describes the topic by a broker that answers. A frozen broker must not block loads from healthy leaders.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    },
    time::Instant,
};

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::{
    clients::{Admin, Clients},
    ffi::{self, DescribedTopic, NativeError},
    timeouts::{METADATA_QUERY, TOPIC_QUERY, TOPIC_QUERY_SHORT},
};

/// Remembers which broker answered, and how.
pub struct TopicDescriber {
    clients: Arc<Clients>,
    topic: String,
    /// The broker that answered last; -1 = the controller.
    last_responder: AtomicI32,
    /// No broker answered in the short time, so the link is slow and brokers get the long one.
    use_long_timeout: AtomicBool,
    /// The cluster has no controller, so topic ids can't be queried.
    no_controller: AtomicBool,
}

impl TopicDescriber {
    pub fn new(clients: Arc<Clients>, topic: String) -> Self {
        Self {
            clients,
            topic,
            last_responder: AtomicI32::new(-1),
            use_long_timeout: AtomicBool::default(),
            no_controller: AtomicBool::default(),
        }
    }

    /// Describes the topic by the controller or one of these brokers. On a cluster without a controller by plain
    /// metadata, which has no topic id, if the description `may_lack_id`. Blocks.
    pub fn describe(&self, brokers: &[i32], may_lack_id: bool) -> Result<DescribedTopic, NativeError> {
        let admin = self.clients.admin();
        self.describe_once(&admin, brokers, may_lack_id).map_err(|mut error| {
            // The first broker answers, and sends us to others that do not.
            if brokers.is_empty()
                && error.code == Code::OperationTimedOut
                && let Some(given) = ffi::given_addresses(&admin, &self.topic, METADATA_QUERY)
            {
                error.text = format!("{}; {given}", error.text);
            }
            error
        })
    }

    fn describe_once(&self, admin: &Admin, brokers: &[i32], may_lack_id: bool) -> Result<DescribedTopic, NativeError> {
        // Log lines wait on this client's main queue until it is polled.
        ffi::poll_logs(admin);
        let from_metadata = || ffi::describe_from_metadata(admin, &self.topic, METADATA_QUERY);
        if !self.no_controller.load(Relaxed) {
            let described = self.describe_by_any_broker(admin, brokers);
            let timed_out = described.as_ref().is_err_and(|e| e.code == Code::OperationTimedOut);
            if !(timed_out && may_lack_id) {
                return described;
            }
            let Some(from_metadata) = from_metadata() else {
                return described;
            };
            self.no_controller.store(true, Relaxed);
            return from_metadata;
        }
        from_metadata().unwrap_or_else(|| {
            self.no_controller.store(false, Relaxed);
            ffi::describe_topic(admin, &self.topic, None, TOPIC_QUERY)
        })
    }

    /// Describes the topic by the broker that answered last, or by the others if that one does not answer. If none
    /// answers in the short time, the next query waits longer for its first broker.
    fn describe_by_any_broker(&self, admin: &Admin, brokers: &[i32]) -> Result<DescribedTopic, NativeError> {
        let (last_responder, use_long_timeout) = (&self.last_responder, &self.use_long_timeout);
        let (several, started_at) = (brokers.len() > 1, Instant::now());
        let timeout = if several && !use_long_timeout.load(Relaxed) { TOPIC_QUERY_SHORT } else { TOPIC_QUERY };
        let query = |broker: i32| {
            let described = ffi::describe_topic(admin, &self.topic, (broker >= 0).then_some(broker), timeout);
            let unavailable = described.as_ref().is_err_and(|e| {
                matches!(e.code, Code::OperationTimedOut | Code::BrokerTransportFailure | Code::RequestTimedOut)
            });
            if !unavailable {
                last_responder.store(broker, Relaxed);
            }
            (described, unavailable)
        };
        let last = last_responder.load(Relaxed);
        let (first, unavailable) = query(last);
        if unavailable && several {
            for broker in [-1].into_iter().chain(brokers.iter().copied()).filter(|broker| *broker != last) {
                if use_long_timeout.load(Relaxed) && started_at.elapsed() >= TOPIC_QUERY {
                    break;
                }
                let (described, unavailable) = query(broker);
                if !unavailable {
                    return described;
                }
            }
            // The timeout alternates, because either the first broker is frozen, or all brokers are slow.
            use_long_timeout.store(!use_long_timeout.load(Relaxed), Relaxed);
            let all: Vec<i32> = [-1].into_iter().chain(brokers.iter().copied()).collect();
            let next = all.iter().position(|broker| *broker == last).map_or(0, |at| (at + 1) % all.len());
            last_responder.store(all[next], Relaxed);
        } else if started_at.elapsed() < TOPIC_QUERY_SHORT {
            use_long_timeout.store(false, Relaxed);
        }
        first
    }
}

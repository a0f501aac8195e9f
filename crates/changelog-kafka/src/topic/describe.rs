//! Describes the topic by a broker that answers. A frozen broker must not block loads from healthy leaders.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::{
    clients::{Admin, Clients},
    ffi::{self, DescribedTopic, FromMetadata, NativeError},
    timeouts::{MAX_ADMIN_SILENCE, METADATA_QUERY, MIN_ADMIN_SILENCE, TOPIC_QUERY, TOPIC_QUERY_SHORT},
};

/// Whether no broker answers the admin client.
#[derive(Debug)]
struct Silence {
    /// The first query without an answer, or the replacement of the client after it.
    since: Option<Instant>,
    /// How long it lasts until the client is replaced.
    limit: Duration,
}

impl Silence {
    const NONE: Self = Self { since: None, limit: MIN_ADMIN_SILENCE };

    fn note(&mut self, is_answered: bool, now: Instant) {
        if is_answered {
            *self = Self::NONE;
        } else {
            self.since.get_or_insert(now);
        }
    }

    /// Whether the client is to be replaced now.
    fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.since.is_some_and(|since| now.duration_since(since) >= self.limit);
        if is_over {
            *self = Self { since: Some(now), limit: self.limit.saturating_mul(2).min(MAX_ADMIN_SILENCE) };
        }
        is_over
    }
}

fn is_silence(error: &NativeError) -> bool {
    matches!(error.code, Code::OperationTimedOut | Code::BrokerTransportFailure | Code::RequestTimedOut)
}

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
    silence: Mutex<Silence>,
}

impl TopicDescriber {
    pub fn new(clients: Arc<Clients>, topic: String) -> Self {
        Self {
            clients,
            topic,
            last_responder: AtomicI32::new(-1),
            use_long_timeout: AtomicBool::default(),
            no_controller: AtomicBool::default(),
            silence: Mutex::new(Silence::NONE),
        }
    }

    /// Describes the topic by the controller or one of these brokers. On a cluster without a controller by plain
    /// metadata, which has no topic id, if the description `may_lack_id`. Blocks.
    pub fn describe(&self, brokers: &[i32], may_lack_id: bool) -> Result<DescribedTopic, NativeError> {
        self.replace_silent_client();
        let admin = self.clients.admin();
        let described = self.describe_once(&admin, brokers, may_lack_id);
        self.silence.lock().note(!described.as_ref().is_err_and(is_silence), Instant::now());
        described.map_err(|mut error| {
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

    /// After all brokers were lost, librdkafka bootstraps again (metadata.recovery.strategy, KIP-899). It may then drop
    /// the connection that it has made, and make no other one. A new client finds the brokers if they are there. Not
    /// after a query, because the cause of its failure is with the client that made it.
    fn replace_silent_client(&self) {
        if !self.silence.lock().is_over(Instant::now()) {
            return;
        }
        // The new client knows no broker by its number yet.
        self.last_responder.store(-1, Relaxed);
        match self.clients.replace_admin(&self.clients.admin()) {
            Ok(()) => tracing::debug!("no broker has answered the admin client, and another one takes its place"),
            Err(error) => tracing::warn!(%error, "no other admin client can be made"),
        }
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
            // Without an answer nothing is known of a controller.
            let Ok(FromMetadata::WithoutController(from_metadata)) = from_metadata() else {
                return described;
            };
            self.no_controller.store(true, Relaxed);
            return from_metadata;
        }
        match from_metadata()? {
            FromMetadata::WithoutController(described) => described,
            FromMetadata::HasController => {
                self.no_controller.store(false, Relaxed);
                ffi::describe_topic(admin, &self.topic, None, TOPIC_QUERY)
            }
        }
    }

    /// Describes the topic by the broker that answered last, or by the others if that one does not answer. If none
    /// answers in the short time, the next query waits longer for its first broker.
    fn describe_by_any_broker(&self, admin: &Admin, brokers: &[i32]) -> Result<DescribedTopic, NativeError> {
        let (last_responder, use_long_timeout) = (&self.last_responder, &self.use_long_timeout);
        let (several, started_at) = (brokers.len() > 1, Instant::now());
        let timeout = if several && !use_long_timeout.load(Relaxed) { TOPIC_QUERY_SHORT } else { TOPIC_QUERY };
        let query = |broker: i32| {
            let described = ffi::describe_topic(admin, &self.topic, (broker >= 0).then_some(broker), timeout);
            let unavailable = described.as_ref().is_err_and(is_silence);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HeldFiles, Settings};

    /// Covers F1.
    #[test]
    fn a_client_is_replaced_after_a_silence_that_doubles_and_ends_with_an_answer() {
        let (start, mut silence) = (Instant::now(), Silence::NONE);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!silence.is_over(at(1_000)));
        let mut replaced_at = Vec::new();
        for second in 0..=200 {
            if silence.is_over(at(second)) {
                replaced_at.push(second);
            }
            silence.note(false, at(second));
        }
        assert_eq!(replaced_at, [5, 15, 35, 75, 135, 195]);
        silence.note(true, at(201));
        silence.note(false, at(202));
        assert!(!silence.is_over(at(206)) && silence.is_over(at(207)));
    }

    /// Covers F1.
    #[test]
    fn another_client_takes_the_place_of_one_that_no_broker_answers() {
        let clients = Clients::new(Settings::new("127.0.0.1:1", "t"), HeldFiles::default()).unwrap();
        let clients = Arc::new(clients);
        let describer = TopicDescriber::new(clients.clone(), "t".to_owned());
        let first = clients.admin();
        assert!(is_silence(&describer.describe(&[], false).unwrap_err()));
        assert!(Arc::ptr_eq(&first, &clients.admin()));
        describer.silence.lock().limit = Duration::ZERO;
        assert!(is_silence(&describer.describe(&[], false).unwrap_err()));
        let second = clients.admin();
        assert!(!Arc::ptr_eq(&first, &second));
        // The one that was meant is not there any more.
        clients.replace_admin(&first).unwrap();
        assert!(Arc::ptr_eq(&second, &clients.admin()));
    }
}

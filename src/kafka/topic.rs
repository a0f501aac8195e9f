//! Watches the topic: queries it once a second, and decides whether this process may serve it.
//!
//! librdkafka does not notice that a topic was deleted and created again, and notices a new partition count late. So
//! the id and the count are queried from a broker and remembered. A change of either is final for the process. A wrong
//! policy, an unexpected count at start, or a missing topic can be fixed while the process runs.
//!
//! Does not read records: replays report foreign records to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::{
    admin::{AdminClient, ConfigEntry},
    error::RDKafkaErrorCode as Code,
};
use tokio::sync::watch;

use super::{
    admin::{self, TopicSpec},
    client_context::Context,
    ffi::{self, DescribedTopic, NativeError},
    settings::{RECORD_OVERHEAD, Settings},
    timeouts::{
        LEADER_MAX_AGE, MAX_OTHER_BROKERS, MAX_TOPIC_AGE, METADATA_QUERY, MIN_REPLAY_LIMIT, TOPIC_QUERY,
        TOPIC_QUERY_SHORT, TOPIC_WAIT,
    },
};
use crate::{
    log::{Counts, Finding, ReadError, Severity, Topic, TopicProblem, TopicState},
    model::{Partition, PartitionCount},
    rule::{Rule, holds},
};

const NOT_QUERIED: &str = "the brokers have not answered a query yet";

/// The part of the topic's configuration that changelogd relies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// False if the brokers did not return it (not authorized, or not supported). Then the last known values or Kafka's
    /// defaults are assumed.
    pub known: bool,
    pub cleanup_policy: String,
    pub min_compaction_lag: Duration,
    pub delete_retention: Duration,
    pub max_message_bytes: usize,
    pub min_insync_replicas: i64,
    pub unclean_election: bool,
    /// Why the configuration is not known.
    pub cause: String,
}

impl TopicConfig {
    fn assumed(cause: String) -> Self {
        Self {
            known: false,
            cleanup_policy: "compact".to_owned(),
            min_compaction_lag: Duration::ZERO,
            delete_retention: Duration::from_secs(86_400),
            max_message_bytes: 1_048_588,
            min_insync_replicas: 1,
            unclean_election: false,
            cause,
        }
    }

    fn read(entries: &[ConfigEntry]) -> Self {
        let value = |name: &str| entries.iter().find(|e| e.name == name).and_then(|e| e.value.clone());
        let number = |name: &str, default: i64| value(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let millis = |name: &str, default| Duration::from_millis(u64::try_from(number(name, default)).unwrap_or(0));
        Self {
            known: true,
            cleanup_policy: value("cleanup.policy").unwrap_or_default(),
            min_compaction_lag: millis("min.compaction.lag.ms", 0),
            delete_retention: millis("delete.retention.ms", 86_400_000),
            max_message_bytes: usize::try_from(number("max.message.bytes", 1_048_588)).unwrap_or(0),
            min_insync_replicas: number("min.insync.replicas", 1),
            unclean_election: value("unclean.leader.election.enable").is_some_and(|v| v == "true"),
            cause: String::new(),
        }
    }

    /// The largest value that fits together with the longest key and headers.
    pub fn max_value_bytes(&self) -> usize {
        self.max_message_bytes.saturating_sub(RECORD_OVERHEAD).max(1)
    }

    fn findings(&self, replicas: usize) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |severity, code, message: String| findings.push(Finding { severity, code, message });
        if replicas >= 3 && self.min_insync_replicas < 2 {
            let message = "min.insync.replicas is 1: acks=all is then the leader's word alone; set it to 2";
            found(Severity::Warning, "MIN_INSYNC_REPLICAS", message.to_owned());
        }
        if self.unclean_election {
            let message = "unclean.leader.election.enable is true: acknowledged records can be lost with a leader";
            found(Severity::Warning, "UNCLEAN_ELECTION", message.to_owned());
        }
        if self.delete_retention / 2 < MIN_REPLAY_LIMIT {
            let message = format!(
                "delete.retention.ms is {}: a load that takes longer than half of that is ended, because deletions \
                 may be removed during it",
                self.delete_retention.as_millis()
            );
            found(Severity::Warning, "SHORT_DELETE_RETENTION", message);
        }
        if self.min_compaction_lag.is_zero() {
            let message = "min.compaction.lag.ms is 0: a load under heavy writing may have to read its end again";
            found(Severity::Info, "NO_COMPACTION_LAG", message.to_owned());
        }
        findings
    }
}

/// What the queries have found so far.
#[derive(Debug, Default)]
struct TopicObservations {
    /// When the query was sent that the current state is from.
    queried_at: Option<Instant>,
    /// When its answer came.
    answered_at: Option<Instant>,
    config: Option<TopicConfig>,
    described: Option<DescribedTopic>,
    /// When the query was sent that the leaders are from.
    leaders_as_of: Option<Instant>,
    /// By partition: how often its leader differed from the one before.
    leader_changes: BTreeMap<i32, u64>,
    /// By partition: foreign and misplaced records of the last replay of the whole partition, and of what was followed
    /// since.
    foreign_counts: BTreeMap<i32, (u64, u64)>,
}

impl TopicObservations {
    fn describe(&mut self, described: DescribedTopic) {
        let before = self.described.iter().flat_map(|d| &d.partitions);
        let leaders: BTreeMap<i32, i32> = before.map(|p| (p.partition, p.leader)).collect();
        for partition in &described.partitions {
            if leaders.get(&partition.partition).is_some_and(|leader| *leader != partition.leader) {
                *self.leader_changes.entry(partition.partition).or_default() += 1;
            }
        }
        self.described = Some(described);
    }
}

/// The leader of a partition, and when it was queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderObservation {
    /// -1 = none, or not known.
    broker: i32,
    /// How often the leader has changed.
    changes: u64,
    as_of: Option<Instant>,
    /// No broker could be reached at that time.
    unreachable: bool,
}

impl LeaderObservation {
    /// Whether an election is known to have happened between this observation and `now`.
    pub fn differs_from(&self, now: &Self) -> bool {
        (self.broker, self.changes) != (now.broker, now.changes)
    }

    /// Whether an election may have happened between this observation and `now`. If the queries of the topic show that
    /// the brokers were unreachable all the time, they have taken no write. An election does not matter then.
    pub fn may_have_changed(&self, now: &Self) -> bool {
        let recent = now.as_of.is_some_and(|as_of| as_of.elapsed() <= LEADER_MAX_AGE);
        let never_reached = self.unreachable && self.as_of == now.as_of;
        self.differs_from(now) || !(recent || never_reached)
    }
}

/// Watches one topic.
pub struct TopicWatcher {
    settings: Settings,
    admin: Arc<AdminClient<Context>>,
    state: watch::Sender<TopicState>,
    /// The topic id and partition count that this process serves. Set once.
    served_identity: OnceLock<(String, PartitionCount)>,
    observations: Mutex<TopicObservations>,
    /// One query at a time.
    query_lock: tokio::sync::Mutex<()>,
    /// The cluster has no controller, so topic ids can't be queried.
    no_controller: Arc<AtomicBool>,
    /// The broker that answered last; -1 = the controller.
    last_responder: Arc<AtomicI32>,
    /// No broker answered in the short time, so the link is slow and brokers get the long one.
    use_long_timeout: Arc<AtomicBool>,
}

impl TopicWatcher {
    pub fn new(settings: Settings, admin: Arc<AdminClient<Context>>) -> Self {
        let state = TopicState::Unreachable { cause: NOT_QUERIED.to_owned(), topic: None };
        Self {
            settings,
            admin,
            state: watch::Sender::new(state),
            served_identity: OnceLock::new(),
            observations: Mutex::default(),
            query_lock: tokio::sync::Mutex::default(),
            no_controller: Arc::default(),
            last_responder: Arc::new(AtomicI32::new(-1)),
            use_long_timeout: Arc::default(),
        }
    }

    pub fn state(&self) -> watch::Receiver<TopicState> {
        self.state.subscribe()
    }

    /// Queries the topic and its configuration each second. Does not return: its owner drops it.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(MAX_TOPIC_AGE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.refresh(Instant::now()).await;
            if self.is_final() || matches!(&*self.state.borrow(), TopicState::Unreachable { .. }) {
                continue;
            }
            // Not in `refresh`, because a load should not wait for it.
            if self.refresh_config().await {
                self.refresh(Instant::now()).await;
            }
        }
    }

    /// The topic, from a query sent at most [`MAX_TOPIC_AGE`] ago. Waits at most [`TOPIC_WAIT`], because a caller must
    /// be answered within five seconds.
    pub async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        let fresh = self.observations().queried_at.filter(|queried_at| queried_at.elapsed() <= MAX_TOPIC_AGE);
        self.fetch(fresh.unwrap_or_else(Instant::now)).await
    }

    /// The topic, from a query sent at `after` or later. An earlier query may have been answered before `after`, too.
    pub async fn fetch(&self, after: Instant) -> Result<Arc<Topic>, ReadError> {
        if tokio::time::timeout(TOPIC_WAIT, self.refresh(after)).await.is_err() {
            let cause = format!("brokers {}: no answer within {} s", self.settings.brokers, TOPIC_WAIT.as_secs());
            return Err(ReadError::Unreachable { cause });
        }
        match &*self.state.borrow() {
            TopicState::Ready(topic) => Ok(topic.clone()),
            TopicState::Unreachable { cause, .. } => Err(ReadError::Unreachable { cause: cause.clone() }),
            TopicState::Invalid(problem) => Err(problem.clone().into()),
            // Only a store on disk has this state.
            TopicState::Failed(failure) => Err(ReadError::Unreachable { cause: failure.to_string() }),
        }
    }

    /// The configuration, as last queried.
    pub fn config(&self) -> TopicConfig {
        let observations = self.observations();
        observations.config.clone().unwrap_or_else(|| TopicConfig::assumed("not answered yet".to_owned()))
    }

    /// The partitions' leaders and replicas, as last queried.
    pub fn described(&self) -> Option<DescribedTopic> {
        self.observations().described.clone()
    }

    /// A partition's leader, as last queried.
    pub fn leader(&self, partition: i32) -> LeaderObservation {
        let observations = self.observations();
        let described = observations.described.iter().flat_map(|d| &d.partitions).find(|p| p.partition == partition);
        let unreachable = matches!(&*self.state.borrow(), TopicState::Unreachable { .. });
        let changes = observations.leader_changes.get(&partition).copied().unwrap_or_default();
        LeaderObservation {
            broker: described.map_or(-1, |p| p.leader),
            changes,
            as_of: observations.leaders_as_of,
            unreachable,
        }
    }

    /// If too few replicas of a partition are in sync to take a write: how many are, and how many must be. As last
    /// queried.
    pub fn too_few_in_sync(&self, partition: i32) -> Option<(usize, i64)> {
        let observations = self.observations();
        let min = observations.config.as_ref()?.min_insync_replicas;
        let in_sync = observations.described.as_ref()?.partitions.iter().find(|p| p.partition == partition)?.isr.len();
        ((in_sync as i64) < min).then_some((in_sync, min))
    }

    /// Adds what a replay found in a partition. Counts of a whole partition replace the earlier ones.
    pub fn add_foreign_counts(&self, partition: Partition, counts: Counts, whole_partition: bool) {
        let mut observations = self.observations();
        let number = partition.number();
        if whole_partition {
            observations.foreign_counts.insert(number, (counts.skipped, counts.misplaced));
        } else if counts.skipped + counts.misplaced > 0 {
            let (skipped, misplaced) = observations.foreign_counts.entry(number).or_default();
            *skipped += counts.skipped;
            *misplaced += counts.misplaced;
        }
    }

    fn observations(&self) -> MutexGuard<'_, TopicObservations> {
        self.observations.lock()
    }

    /// A changed id or partition count is final for this process.
    fn is_final(&self) -> bool {
        matches!(
            &*self.state.borrow(),
            TopicState::Invalid(
                TopicProblem::Recreated { .. } | TopicProblem::PartitionCountChanged { final_: true, .. }
            )
        )
    }

    /// Queries the brokers, unless a query was sent at `after` or later. Callers that wait while a query runs share the
    /// next one, which starts after all of them have arrived. If the running query finds no broker, they share that
    /// result.
    async fn refresh(&self, after: Instant) {
        let arrived_at = Instant::now();
        let is_current = || {
            let observations = self.observations();
            let failed_meanwhile = observations.answered_at.is_some_and(|at| at >= arrived_at)
                && matches!(&*self.state.borrow(), TopicState::Unreachable { .. });
            failed_meanwhile || observations.queried_at.is_some_and(|queried_at| queried_at >= after) || self.is_final()
        };
        if is_current() {
            return;
        }
        let _guard = self.query_lock.lock().await;
        if is_current() {
            return;
        }
        let queried_at = Instant::now();
        let next = self.query().await;
        let described = matches!(next, TopicState::Ready(_));
        self.state.send_if_modified(|state| {
            let changed = *state != next;
            if changed {
                // The text of a lost connection varies between attempts, but losing it is one change of state.
                let still_unreachable =
                    matches!((&*state, &next), (TopicState::Unreachable { .. }, TopicState::Unreachable { .. }));
                if !still_unreachable
                    || matches!(&*state, TopicState::Unreachable { cause, .. } if cause == NOT_QUERIED)
                {
                    log_transition(&next, &self.settings.topic);
                }
                *state = next;
            }
            changed
        });
        // Set after the state, because a caller that sees a query sent late enough takes the state as its answer.
        let mut observations = self.observations();
        (observations.queried_at, observations.answered_at) = (Some(queried_at), Some(Instant::now()));
        if described {
            observations.leaders_as_of = Some(queried_at);
        }
    }

    async fn query(&self) -> TopicState {
        let described = {
            let (admin, topic) = (self.admin.clone(), self.settings.topic.clone());
            // A process that has served a topic id does not go on without one.
            let may_lack_id = self.served_identity.get().is_none_or(|(id, _)| id.is_empty());
            let no_controller = self.no_controller.clone();
            let (brokers, last_responder, use_long_timeout) =
                (self.brokers(), self.last_responder.clone(), self.use_long_timeout.clone());
            tokio::task::spawn_blocking(move || {
                // Log lines wait on this client's main queue until it is polled.
                ffi::poll_logs(&admin);
                if !no_controller.load(Relaxed) {
                    let described =
                        describe_by_any_broker(&admin, &topic, &brokers, &last_responder, &use_long_timeout);
                    let timed_out = described.as_ref().is_err_and(|e| e.code == Code::OperationTimedOut);
                    if !(timed_out && may_lack_id) {
                        return described;
                    }
                    let Some(from_metadata) = ffi::describe_from_metadata(&admin, &topic, METADATA_QUERY) else {
                        return described;
                    };
                    no_controller.store(true, Relaxed);
                    return from_metadata;
                }
                ffi::describe_from_metadata(&admin, &topic, METADATA_QUERY).unwrap_or_else(|| {
                    no_controller.store(false, Relaxed);
                    ffi::describe_topic(&admin, &topic, None, TOPIC_QUERY)
                })
            })
            .await
        };
        match described {
            Ok(Ok(described)) => self.evaluate(described).await,
            Ok(Err(error)) => self.evaluate_error(&error).await,
            Err(error) => self.unreachable(error.to_string()),
        }
    }

    /// Brokers that may be queried in addition to the controller.
    fn brokers(&self) -> Vec<i32> {
        let observations = self.observations();
        let replicas = observations.described.iter().flat_map(|d| &d.partitions).flat_map(|p| &p.replicas);
        let brokers: std::collections::BTreeSet<i32> = replicas.copied().collect();
        brokers.into_iter().take(MAX_OTHER_BROKERS).collect()
    }

    async fn evaluate(&self, described: DescribedTopic) -> TopicState {
        let name = self.settings.topic.clone();
        let actual = described.partitions.len();
        let Some(count) = PartitionCount::new(actual as i64) else {
            return self.unreachable(format!("topic {name:?} is described without partitions"));
        };
        if let Some((id, served_count)) = self.served_identity.get() {
            if !id.is_empty() && *id != described.id && holds(Rule::RecreatedTopicIsError) {
                return TopicState::Invalid(TopicProblem::Recreated {
                    topic: name,
                    was: id.clone(),
                    now: described.id,
                });
            }
            if *served_count != count && holds(Rule::GrownTopicIsError) {
                let (expected, actual) = (served_count.get(), count.get());
                return TopicState::Invalid(TopicProblem::PartitionCountChanged {
                    topic: name,
                    expected,
                    actual,
                    final_: true,
                });
            }
        } else if let Some(expected) =
            self.settings.expected_partitions.filter(|e| *e != count && holds(Rule::GrownTopicIsError))
        {
            let (expected, actual) = (expected.get(), count.get());
            return TopicState::Invalid(TopicProblem::PartitionCountChanged {
                topic: name,
                expected,
                actual,
                final_: false,
            });
        }
        let config = self.known_config().await;
        let id = described.id.clone();
        self.observations().describe(described);
        if config.cleanup_policy != "compact" {
            return TopicState::Invalid(TopicProblem::NotCompacted { topic: name, policy: config.cleanup_policy });
        }
        let _ = self.served_identity.set((id.clone(), count));
        // The id that was served first, in case the cluster returns an id only now.
        let id = self.served_identity.get().map_or(id, |(served_id, _)| served_id.clone());
        TopicState::Ready(Arc::new(Topic {
            name,
            id,
            partition_count: count,
            max_value_bytes: Some(config.max_value_bytes()),
            delete_retention: config.delete_retention,
        }))
    }

    async fn evaluate_error(&self, error: &NativeError) -> TopicState {
        let topic = &self.settings.topic;
        match error.code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId => {
                // A served topic that is deleted is not created again, because its records would be missing without an
                // error.
                if self.settings.create_topic && self.served_identity.get().is_none() {
                    let spec = TopicSpec::new(self.settings.expected_partitions);
                    match admin::create(&self.admin, topic, &spec).await {
                        Ok(created) => tracing::info!(topic, "{created}"),
                        Err(error) => tracing::warn!(topic, %error, "the topic could not be created"),
                    }
                }
                TopicState::Invalid(TopicProblem::NotFound { topic: topic.clone() })
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                let what = format!("describe topic {topic:?}");
                TopicState::Invalid(TopicProblem::NotAuthorized { what, cause: error.text.clone() })
            }
            _ => {
                ffi::poll_logs(&self.admin);
                // An admin call's error says only that it timed out. The connection's failure names the cause.
                let failure = self.admin.inner().context().take_last_failure();
                let cause = failure.or_else(|| self.last_cause()).unwrap_or_else(|| error.to_string());
                self.unreachable(format!("brokers {}: {cause}", self.settings.brokers))
            }
        }
    }

    /// The cause of the current state, so that a query without a cause is no change of state.
    fn last_cause(&self) -> Option<String> {
        match &*self.state.borrow() {
            TopicState::Unreachable { cause, .. } => {
                cause.strip_prefix(&format!("brokers {}: ", self.settings.brokers)).map(str::to_owned)
            }
            _ => None,
        }
    }

    fn unreachable(&self, cause: String) -> TopicState {
        let topic = match &*self.state.borrow() {
            TopicState::Ready(topic) => Some(topic.clone()),
            TopicState::Unreachable { topic, .. } => topic.clone(),
            TopicState::Invalid(_) | TopicState::Failed(_) => None,
        };
        TopicState::Unreachable { cause, topic }
    }

    /// The configuration, queried only if it never was.
    async fn known_config(&self) -> TopicConfig {
        if self.observations().config.is_none() {
            self.refresh_config().await;
        }
        self.config()
    }

    /// Queries the configuration. Returns whether the topic's state depends on what changed.
    async fn refresh_config(&self) -> bool {
        let read = admin::read_config(&self.admin, &self.settings.topic).await;
        let mut observations = self.observations();
        let config = match (read, &observations.config) {
            (Ok(entries), _) => TopicConfig::read(&entries),
            // The last known values stay: brokers that don't answer do not make a wrong policy right.
            (Err(cause), Some(last)) => TopicConfig { known: false, cause, ..last.clone() },
            (Err(cause), None) => TopicConfig::assumed(cause),
        };
        let relevant = |c: &TopicConfig| (c.cleanup_policy.clone(), c.max_message_bytes, c.delete_retention);
        let changed = observations.config.as_ref().is_none_or(|last| relevant(last) != relevant(&config));
        observations.config = Some(config);
        changed
    }

    /// The findings about the topic, its state included.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |severity, code, message: String| findings.push(Finding { severity, code, message });
        match &*self.state.borrow() {
            TopicState::Ready(_) => {}
            TopicState::Unreachable { cause, .. } => found(Severity::Error, "BROKERS_UNREACHABLE", cause.clone()),
            TopicState::Invalid(problem) => {
                found(Severity::Error, problem.reason(), problem.to_string());
            }
            TopicState::Failed(failure) => found(Severity::Error, "STORE_READ_ONLY", failure.to_string()),
        }
        if self.settings.expected_partitions.is_none() {
            let message = "no partition count is expected: set --partitions, so that a topic that grew, and so \
                           re-homes workspaces, is refused and not loaded from the wrong partitions";
            found(Severity::Warning, "PARTITIONS_NOT_EXPECTED", message.to_owned());
        }
        if self.served_identity.get().is_some_and(|(id, _)| id.is_empty()) {
            let message = "the cluster has no controller that returns topic ids: a topic that is deleted and created \
                           again can't be noticed";
            found(Severity::Warning, "TOPIC_ID_UNKNOWN", message.to_owned());
        }
        let observations = self.observations();
        let (skipped, misplaced) =
            observations.foreign_counts.values().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
        let at = |of: fn(&(u64, u64)) -> u64| {
            let partitions =
                observations.foreign_counts.iter().filter(|(_, counts)| of(counts) > 0).map(|(p, _)| p.to_string());
            partitions.collect::<Vec<_>>().join(", ")
        };
        if skipped > 0 {
            let message = format!(
                "{skipped} records without a key, or with one outside the grammar, were skipped in partitions {}: \
                 another writer uses this topic",
                at(|counts| counts.0)
            );
            found(Severity::Warning, "FOREIGN_RECORDS", message);
        }
        if misplaced > 0 {
            let message = format!(
                "{misplaced} records of workspaces that belong to other partitions were skipped in partitions {}: \
                 a writer uses another partitioner, or the topic had another partition count",
                at(|counts| counts.1)
            );
            found(Severity::Warning, "MISPLACED_RECORDS", message);
        }
        let (Some(config), Some(described)) = (&observations.config, &observations.described) else { return findings };
        if !config.known {
            let message = format!(
                "the topic's configuration can't be read ({}); the last known values or Kafka's defaults are assumed",
                config.cause
            );
            found(Severity::Warning, "TOPIC_CONFIG_UNKNOWN", message);
            return findings;
        }
        let replicas = described.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or_default();
        findings.extend(config.findings(replicas));
        findings
    }
}

/// Describes the topic by the broker that answered last, or by the others if that one does not answer. So a frozen
/// broker does not block loads from healthy leaders. If none answers in the short time, the next query waits longer for
/// its first broker.
fn describe_by_any_broker(
    admin: &AdminClient<Context>,
    topic: &str,
    brokers: &[i32],
    last_responder: &AtomicI32,
    use_long_timeout: &AtomicBool,
) -> Result<DescribedTopic, NativeError> {
    let (several, started_at) = (brokers.len() > 1, Instant::now());
    let timeout = if several && !use_long_timeout.load(Relaxed) { TOPIC_QUERY_SHORT } else { TOPIC_QUERY };
    let query = |broker: i32| {
        let described = ffi::describe_topic(admin, topic, (broker >= 0).then_some(broker), timeout);
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

/// Logs one line for a change of state.
fn log_transition(state: &TopicState, topic: &str) {
    match state {
        TopicState::Ready(t) => {
            tracing::info!(topic, id = t.id, partitions = t.partition_count.get(), "the topic is served");
        }
        TopicState::Unreachable { cause, .. } => tracing::warn!(topic, cause, "the brokers can't be reached"),
        TopicState::Invalid(problem) => tracing::error!(topic, %problem, "the topic is not served"),
        TopicState::Failed(failure) => tracing::error!(topic, %failure, "the topic is not served"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers C54, R28.
    #[test]
    fn a_timed_out_write_is_not_written_only_if_the_leader_cannot_have_changed() {
        let now = Instant::now();
        let old = now.checked_sub(Duration::from_secs(10)).unwrap();
        let leader =
            |broker, as_of, unreachable| LeaderObservation { broker, changes: 0, as_of: Some(as_of), unreachable };
        assert!(!leader(1, old, false).may_have_changed(&leader(1, now, false)));
        assert!(leader(1, old, false).may_have_changed(&leader(2, now, false)));
        // No broker has answered since, so a leader that is gone may have rejected it.
        assert!(leader(1, old, false).may_have_changed(&leader(1, old, true)));
        // It was queued while no broker could be reached, and none has been reached since.
        assert!(!leader(1, old, true).may_have_changed(&leader(1, old, true)));
        // The leader changes and changes back.
        let mut observations = TopicObservations::default();
        let described = |leader| DescribedTopic {
            id: String::new(),
            partitions: vec![ffi::DescribedPartition { partition: 0, leader, replicas: vec![1, 2], isr: vec![1, 2] }],
        };
        for (leader, changes) in [(1, 0), (1, 0), (2, 1), (1, 2)] {
            observations.describe(described(leader));
            assert_eq!(observations.leader_changes.get(&0).copied().unwrap_or_default(), changes);
        }
        assert!(leader(1, now, false).may_have_changed(&LeaderObservation { changes: 2, ..leader(1, now, false) }));
    }

    /// Covers R12.
    #[test]
    fn settings_that_endanger_a_promise_are_findings() {
        let good = TopicConfig {
            min_insync_replicas: 2,
            min_compaction_lag: Duration::from_secs(60),
            ..TopicConfig::assumed(String::new())
        };
        let found = |replicas: usize, change: fn(&mut TopicConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.findings(replicas).iter().map(|f| f.code).collect::<Vec<_>>()
        };
        assert_eq!(found(3, |_| {}), [""; 0]);
        assert_eq!(found(3, |c| c.min_insync_replicas = 1), ["MIN_INSYNC_REPLICAS"]);
        assert_eq!(found(2, |c| c.min_insync_replicas = 1), [""; 0], "two copies must live with one of them lost");
        assert_eq!(found(3, |c| c.unclean_election = true), ["UNCLEAN_ELECTION"]);
        assert_eq!(found(3, |c| c.min_compaction_lag = Duration::ZERO), ["NO_COMPACTION_LAG"]);
        assert_eq!(found(3, |c| c.delete_retention = Duration::from_secs(599)), ["SHORT_DELETE_RETENTION"]);
        assert_eq!(found(3, |c| c.delete_retention = Duration::from_secs(600)), [""; 0]);
    }

    /// Covers C13, B9.
    #[test]
    fn a_topic_leaves_room_for_the_longest_key_and_headers() {
        let limit = |max_message_bytes| {
            TopicConfig { max_message_bytes, ..TopicConfig::assumed(String::new()) }.max_value_bytes()
        };
        assert_eq!(limit(500_000), 500_000 - RECORD_OVERHEAD);
        assert_eq!(limit(100), 1, "a topic that takes no record of ours");
    }

    /// Covers R12.
    #[test]
    fn the_topic_configuration_is_read_as_kafka_writes_it() {
        let entry = |name: &str, value: &str| ConfigEntry {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            source: rdkafka::admin::ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        let config = TopicConfig::read(&[
            entry("cleanup.policy", "compact,delete"),
            entry("min.compaction.lag.ms", "60000"),
            entry("delete.retention.ms", "1000"),
            entry("max.message.bytes", "2000000"),
            entry("min.insync.replicas", "2"),
            entry("unclean.leader.election.enable", "true"),
        ]);
        let expected = TopicConfig {
            known: true,
            cleanup_policy: "compact,delete".to_owned(),
            min_compaction_lag: Duration::from_secs(60),
            delete_retention: Duration::from_secs(1),
            max_message_bytes: 2_000_000,
            min_insync_replicas: 2,
            unclean_election: true,
            cause: String::new(),
        };
        assert_eq!(config, expected);
    }
}

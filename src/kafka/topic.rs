//! Topic care: what the topic is, asked once a second, and whether it is the one that this process may serve.
//!
//! librdkafka alone does not notice that a topic was deleted and created again, and notices growth late: the id and the
//! count are asked from a broker, remembered, and a change of either is final for the process. A policy, an expected count
//! or a missing topic can be mended under it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::sync::watch;

use super::{
    admin::TopicSpec,
    context::Context,
    native::{self, DescribedTopic, NativeError},
    settings::{RECORD_OVERHEAD, Settings},
};
use crate::{
    log::{Counts, Finding, ReadError, Severity, Topic, TopicProblem, TopicState},
    model::{Partition, PartitionCount},
    rule::{Rule, holds},
};

/// How old an answer about the topic may be that is shared, from the moment that it was asked for; and how often it is.
const FRESH: Duration = Duration::from_secs(1);
/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(2);
/// How old what is known of leaders may be to be leant on: it is asked for each second.
const RECENT: Duration = Duration::from_secs(3);
/// How long one of several brokers may take, before another is asked.
const ASK_ONE: Duration = Duration::from_millis(800);
/// How many are asked beside the one that passes for the controller.
const MORE_BROKERS: usize = 3;
/// How long it may take on a cluster without a controller.
const ASK_PLAIN: Duration = Duration::from_secs(1);
/// How long a caller waits for all that is asked.
const WAIT: Duration = Duration::from_secs(4);
/// Loads slower than half of delete.retention.ms are ended; what leaves them less than this is warned of.
const LEAST_REPLAY_BOUND: Duration = Duration::from_secs(300);

const NOT_ASKED: &str = "the brokers have not been asked yet";

/// What of the topic's configuration is leant on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// False: the brokers do not say (not authorized, or not supported), and Kafka's defaults are assumed.
    pub known: bool,
    pub cleanup_policy: String,
    pub min_compaction_lag: Duration,
    pub delete_retention: Duration,
    pub max_message_bytes: usize,
    pub min_insync_replicas: i64,
    pub unclean_election: bool,
    /// Why it is not known.
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

    /// The largest value beside the longest key and headers.
    pub fn max_value_bytes(&self) -> usize {
        self.max_message_bytes.saturating_sub(RECORD_OVERHEAD).max(1)
    }

    /// What is noticed about it.
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
        if self.delete_retention / 2 < LEAST_REPLAY_BOUND {
            let message = format!(
                "delete.retention.ms is {}: a load that takes longer than half of that is ended, because deletions may vanish \
                 from under it",
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

/// What was last heard.
#[derive(Debug, Default)]
struct Heard {
    /// When the question was sent to which the state is the answer.
    asked: Option<Instant>,
    /// When that answer came.
    answered: Option<Instant>,
    config: Option<TopicConfig>,
    described: Option<DescribedTopic>,
    /// When the question was sent that was last answered with the partitions' leaders.
    leaders_at: Option<Instant>,
    /// How often a partition's leader was seen to be another than before.
    leader_changes: BTreeMap<i32, u64>,
    /// Foreign and misplaced records, by partition: those of the last replay from its beginning, and what was followed.
    met: BTreeMap<i32, (u64, u64)>,
}

impl Heard {
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

/// Who led a partition, and when that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// -1 = none, or not known.
    broker: i32,
    /// How often it was seen to be another than before.
    changes: u64,
    as_of: Option<Instant>,
    /// No broker could be reached when that was looked up.
    unreachable: bool,
}

impl Leader {
    /// An election is known to lie between this and what is known now.
    pub fn is_another(&self, now: &Self) -> bool {
        (self.broker, self.changes) != (now.broker, now.changes)
    }

    /// Whether an election may lie between this and what is known now. Brokers that could not be reached all the while, as far as
    /// the questions about the topic tell, have taken no write, whoever led.
    pub fn may_have_changed(&self, now: &Self) -> bool {
        let recent = now.as_of.is_some_and(|as_of| as_of.elapsed() <= RECENT);
        let never_reached = self.unreachable && self.as_of == now.as_of;
        self.is_another(now) || !(recent || never_reached)
    }
}

/// The topic under care.
pub struct TopicCare {
    settings: Settings,
    admin: Arc<AdminClient<Context>>,
    state: watch::Sender<TopicState>,
    /// The identity that this process serves; set once.
    served: OnceLock<(String, PartitionCount)>,
    heard: Mutex<Heard>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
    /// The cluster has no controller: topic ids can't be asked for.
    no_controller: Arc<AtomicBool>,
    /// The broker that told of the topic last; -1 = the one that passes for the controller.
    answers: Arc<AtomicI32>,
    /// No broker told in the time that one of several is given: the link is slow, and they are given more.
    slow: Arc<AtomicBool>,
}

impl TopicCare {
    pub fn new(settings: Settings, admin: Arc<AdminClient<Context>>) -> Self {
        let state = TopicState::Unreachable { cause: NOT_ASKED.to_owned(), topic: None };
        Self {
            settings,
            admin,
            state: watch::Sender::new(state),
            served: OnceLock::new(),
            heard: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            no_controller: Arc::default(),
            answers: Arc::new(AtomicI32::new(-1)),
            slow: Arc::default(),
        }
    }

    pub fn state(&self) -> watch::Receiver<TopicState> {
        self.state.subscribe()
    }

    /// Looks at the topic and its configuration each second, for ever; the owner drops it.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(FRESH);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.refresh(Instant::now()).await;
            if self.is_final() || matches!(&*self.state.borrow(), TopicState::Unreachable { .. }) {
                continue;
            }
            // Here and not in `refresh`: a load should not wait for it.
            if self.refresh_config().await {
                self.refresh(Instant::now()).await;
            }
        }
    }

    /// The topic, from a question asked at most a second ago. Waits a few seconds at most: who asks must be told within five.
    pub async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        let fresh = self.heard().asked.filter(|asked| asked.elapsed() <= FRESH);
        self.confirm(fresh.unwrap_or_else(Instant::now)).await
    }

    /// The topic, from a question asked at `after` or later: one asked before may have been answered before, too.
    pub async fn confirm(&self, after: Instant) -> Result<Arc<Topic>, ReadError> {
        if tokio::time::timeout(WAIT, self.refresh(after)).await.is_err() {
            let cause = format!("brokers {}: no answer within {} s", self.settings.brokers, WAIT.as_secs());
            return Err(ReadError::Unreachable { cause });
        }
        match &*self.state.borrow() {
            TopicState::Ready(topic) => Ok(topic.clone()),
            TopicState::Unreachable { cause, .. } => Err(ReadError::Unreachable { cause: cause.clone() }),
            TopicState::Invalid(problem) => Err(problem.clone().into()),
            // A store on disk does; not a topic.
            TopicState::Failed(failure) => Err(ReadError::Unreachable { cause: failure.to_string() }),
        }
    }

    /// The configuration, as last heard.
    pub fn config(&self) -> TopicConfig {
        let heard = self.heard();
        heard.config.clone().unwrap_or_else(|| TopicConfig::assumed("not asked yet".to_owned()))
    }

    /// The partitions' leaders and replicas, as last heard.
    pub fn described(&self) -> Option<DescribedTopic> {
        self.heard().described.clone()
    }

    /// A partition's leader, as last heard.
    pub fn leader(&self, partition: i32) -> Leader {
        let heard = self.heard();
        let described = heard.described.iter().flat_map(|d| &d.partitions).find(|p| p.partition == partition);
        let unreachable = matches!(&*self.state.borrow(), TopicState::Unreachable { .. });
        let changes = heard.leader_changes.get(&partition).copied().unwrap_or_default();
        Leader { broker: described.map_or(-1, |p| p.leader), changes, as_of: heard.leaders_at, unreachable }
    }

    /// How many replicas of a partition are in sync, and how many must be, if those are too few to take a write; as last heard.
    pub fn too_few_in_sync(&self, partition: i32) -> Option<(usize, i64)> {
        let heard = self.heard();
        let min = heard.config.as_ref()?.min_insync_replicas;
        let in_sync = heard.described.as_ref()?.partitions.iter().find(|p| p.partition == partition)?.isr.len();
        ((in_sync as i64) < min).then_some((in_sync, min))
    }

    /// Told what a replay met in a partition; `whole` if that is all that the partition holds.
    pub fn met(&self, partition: Partition, counts: Counts, whole: bool) {
        let mut heard = self.heard();
        let number = partition.number();
        if whole {
            heard.met.insert(number, (counts.skipped, counts.misplaced));
        } else if counts.skipped + counts.misplaced > 0 {
            let (skipped, misplaced) = heard.met.entry(number).or_default();
            *skipped += counts.skipped;
            *misplaced += counts.misplaced;
        }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id or a count that has changed stays changed.
    fn is_final(&self) -> bool {
        matches!(
            &*self.state.borrow(),
            TopicState::Invalid(
                TopicProblem::Recreated { .. } | TopicProblem::PartitionCountChanged { final_: true, .. }
            )
        )
    }

    /// Asks the brokers, unless somebody has done so at `after` or later. Those who wait while a question is under way share
    /// the next one, which begins after all of them have come; or this one, if it finds nobody to answer.
    async fn refresh(&self, after: Instant) {
        let came = Instant::now();
        let answered = || {
            let heard = self.heard();
            let in_vain = heard.answered.is_some_and(|at| at >= came)
                && matches!(&*self.state.borrow(), TopicState::Unreachable { .. });
            in_vain || heard.asked.is_some_and(|asked| asked >= after) || self.is_final()
        };
        if answered() {
            return;
        }
        let _turn = self.asking.lock().await;
        if answered() {
            return;
        }
        let asked = Instant::now();
        let next = self.ask().await;
        let described = matches!(next, TopicState::Ready(_));
        self.state.send_if_modified(|state| {
            let changed = *state != next;
            if changed {
                // The words of a lost connection vary from try to try; that it is lost is one change.
                let again =
                    matches!((&*state, &next), (TopicState::Unreachable { .. }, TopicState::Unreachable { .. }));
                if !again || matches!(&*state, TopicState::Unreachable { cause, .. } if cause == NOT_ASKED) {
                    tell(&next, &self.settings.topic);
                }
                *state = next;
            }
            changed
        });
        // Only now: who sees that the question was asked late enough takes the state for its answer.
        let mut heard = self.heard();
        (heard.asked, heard.answered) = (Some(asked), Some(Instant::now()));
        if described {
            heard.leaders_at = Some(asked);
        }
    }

    async fn ask(&self) -> TopicState {
        let described = {
            let (admin, topic) = (self.admin.clone(), self.settings.topic.clone());
            // A process that has served an id does not go on without one.
            let may_do_without = self.served.get().is_none_or(|(id, _)| id.is_empty());
            let no_controller = self.no_controller.clone();
            let (brokers, answers, slow) = (self.brokers(), self.answers.clone(), self.slow.clone());
            tokio::task::spawn_blocking(move || {
                // Log lines wait on this client's main queue until somebody serves it.
                native::serve(&admin);
                if !no_controller.load(Relaxed) {
                    let described = described_by_any(&admin, &topic, &brokers, &answers, &slow);
                    let silent = described.as_ref().is_err_and(|e| e.code == Code::OperationTimedOut);
                    if !(silent && may_do_without) {
                        return described;
                    }
                    let Some(plain) = native::topic_without_controller(&admin, &topic, ASK_PLAIN) else {
                        return described;
                    };
                    no_controller.store(true, Relaxed);
                    return plain;
                }
                native::topic_without_controller(&admin, &topic, ASK_PLAIN).unwrap_or_else(|| {
                    no_controller.store(false, Relaxed);
                    native::describe_topic(&admin, &topic, None, ASK)
                })
            })
            .await
        };
        match described {
            Ok(Ok(described)) => self.judge(described).await,
            Ok(Err(error)) => self.failed(&error).await,
            Err(error) => self.unreachable(error.to_string()),
        }
    }

    /// Some brokers that may be asked.
    fn brokers(&self) -> Vec<i32> {
        let heard = self.heard();
        let replicas = heard.described.iter().flat_map(|d| &d.partitions).flat_map(|p| &p.replicas);
        let brokers: std::collections::BTreeSet<i32> = replicas.copied().collect();
        brokers.into_iter().take(MORE_BROKERS).collect()
    }

    async fn judge(&self, described: DescribedTopic) -> TopicState {
        let name = self.settings.topic.clone();
        let actual = described.partitions.len();
        let Some(count) = PartitionCount::new(actual as i64) else {
            return self.unreachable(format!("topic {name:?} is described without partitions"));
        };
        if let Some((id, served)) = self.served.get() {
            if !id.is_empty() && *id != described.id && holds(Rule::R15) {
                return TopicState::Invalid(TopicProblem::Recreated {
                    topic: name,
                    was: id.clone(),
                    now: described.id,
                });
            }
            if *served != count && holds(Rule::R16) {
                let (expected, actual) = (served.get(), count.get());
                return TopicState::Invalid(TopicProblem::PartitionCountChanged {
                    topic: name,
                    expected,
                    actual,
                    final_: true,
                });
            }
        } else if let Some(expected) = self.settings.expected_partitions.filter(|e| *e != count && holds(Rule::R16)) {
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
        self.heard().describe(described);
        if config.cleanup_policy != "compact" {
            return TopicState::Invalid(TopicProblem::NotCompacted { topic: name, policy: config.cleanup_policy });
        }
        let _ = self.served.set((id.clone(), count));
        // The first one that was served, should the cluster only now say more.
        let id = self.served.get().map_or(id, |(served, _)| served.clone());
        TopicState::Ready(Arc::new(Topic {
            name,
            id,
            partition_count: count,
            max_value_bytes: Some(config.max_value_bytes()),
            delete_retention: config.delete_retention,
        }))
    }

    async fn failed(&self, error: &NativeError) -> TopicState {
        let topic = &self.settings.topic;
        match error.code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId => {
                // What was served and is gone is not created anew: its records would be missed silently.
                if self.settings.create_topic && self.served.get().is_none() {
                    let spec = TopicSpec::new(self.settings.expected_partitions);
                    match super::admin::create(&self.admin, topic, &spec).await {
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
                native::serve(&self.admin);
                // An admin call says only that it timed out: what the connection met is the better answer.
                let met = self.admin.inner().context().take_last_failure();
                let cause = met.or_else(|| self.last_cause()).unwrap_or_else(|| error.to_string());
                self.unreachable(format!("brokers {}: {cause}", self.settings.brokers))
            }
        }
    }

    /// What was said before goes on being so: one line a change of state, and not one a second.
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

    /// The configuration, asked for only if it never was.
    async fn known_config(&self) -> TopicConfig {
        if self.heard().config.is_none() {
            self.refresh_config().await;
        }
        self.config()
    }

    /// Asks for the configuration. True if what is told of the topic changes with it.
    async fn refresh_config(&self) -> bool {
        let read = read_config(&self.admin, &self.settings.topic).await;
        let mut heard = self.heard();
        let config = match (read, &heard.config) {
            (Ok(entries), _) => TopicConfig::read(&entries),
            // What was known is not forgotten: a wrong policy is not mended by brokers that don't answer.
            (Err(cause), Some(last)) => TopicConfig { known: false, cause, ..last.clone() },
            (Err(cause), None) => TopicConfig::assumed(cause),
        };
        let told = |c: &TopicConfig| (c.cleanup_policy.clone(), c.max_message_bytes, c.delete_retention);
        let changed = heard.config.as_ref().is_none_or(|last| told(last) != told(&config));
        heard.config = Some(config);
        changed
    }

    /// What is noticed about the topic besides its state.
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
            let message = "no partition count is expected: set --partitions, so that a topic that grew, and so re-homes \
                           workspaces, is refused and not loaded from the wrong partitions";
            found(Severity::Warning, "PARTITIONS_NOT_EXPECTED", message.to_owned());
        }
        if self.served.get().is_some_and(|(id, _)| id.is_empty()) {
            let message = "the cluster has no controller that tells topic ids: a topic that is deleted and created again \
                           can't be noticed";
            found(Severity::Warning, "TOPIC_ID_UNKNOWN", message.to_owned());
        }
        let heard = self.heard();
        let (skipped, misplaced) = heard.met.values().fold((0, 0), |sum, met| (sum.0 + met.0, sum.1 + met.1));
        let at = |of: fn(&(u64, u64)) -> u64| {
            let partitions = heard.met.iter().filter(|(_, met)| of(met) > 0).map(|(p, _)| p.to_string());
            partitions.collect::<Vec<_>>().join(", ")
        };
        if skipped > 0 {
            let message = format!(
                "{skipped} records without a key, or with one outside the grammar, were met and passed over in partitions {}: \
                 somebody else writes to this topic",
                at(|met| met.0)
            );
            found(Severity::Warning, "FOREIGN_RECORDS", message);
        }
        if misplaced > 0 {
            let message = format!(
                "{misplaced} records of workspaces that belong to other partitions were met and passed over in partitions {}: \
                 a writer uses another partitioner, or the topic had another partition count",
                at(|met| met.1)
            );
            found(Severity::Warning, "MISPLACED_RECORDS", message);
        }
        let (Some(config), Some(described)) = (&heard.config, &heard.described) else { return findings };
        if !config.known {
            let message = format!(
                "the topic's configuration can't be read ({}); what was last known or is Kafka's default is taken",
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

/// The topic as the broker tells it that told it last, or, if that one says nothing, the next one: a broker that is frozen
/// must not keep loads from leaders that are well. `answers` is who told it last; -1 = who passes for the controller. Where all
/// say nothing in the little time that one of several has, the next question waits longer for the first.
fn described_by_any(
    admin: &AdminClient<Context>,
    topic: &str,
    brokers: &[i32],
    answers: &AtomicI32,
    slow: &AtomicBool,
) -> Result<DescribedTopic, NativeError> {
    let (several, began) = (brokers.len() > 1, Instant::now());
    let timeout = if several && !slow.load(Relaxed) { ASK_ONE } else { ASK };
    let ask = |broker: i32| {
        let told = native::describe_topic(admin, topic, (broker >= 0).then_some(broker), timeout);
        let silent = told.as_ref().is_err_and(|e| {
            matches!(e.code, Code::OperationTimedOut | Code::BrokerTransportFailure | Code::RequestTimedOut)
        });
        if !silent {
            answers.store(broker, Relaxed);
        }
        (told, silent)
    };
    let last = answers.load(Relaxed);
    let (first, silent) = ask(last);
    if silent && several {
        for broker in [-1].into_iter().chain(brokers.iter().copied()).filter(|broker| *broker != last) {
            if slow.load(Relaxed) && began.elapsed() >= ASK {
                break;
            }
            let (told, silent) = ask(broker);
            if !silent {
                return told;
            }
        }
        // In turn, as the one may be frozen, or all of them slow.
        slow.store(!slow.load(Relaxed), Relaxed);
        let all: Vec<i32> = [-1].into_iter().chain(brokers.iter().copied()).collect();
        let next = all.iter().position(|broker| *broker == last).map_or(0, |at| (at + 1) % all.len());
        answers.store(all[next], Relaxed);
    } else if began.elapsed() < ASK_ONE {
        slow.store(false, Relaxed);
    }
    first
}

/// One line a change.
fn tell(state: &TopicState, topic: &str) {
    match state {
        TopicState::Ready(t) => {
            tracing::info!(topic, id = t.id, partitions = t.partition_count.get(), "the topic is served");
        }
        TopicState::Unreachable { cause, .. } => tracing::warn!(topic, cause, "the brokers can't be reached"),
        TopicState::Invalid(problem) => tracing::error!(topic, %problem, "the topic is not served"),
        TopicState::Failed(failure) => tracing::error!(topic, %failure, "the topic is not served"),
    }
}

/// The topic's configuration entries.
pub async fn read_config(admin: &AdminClient<Context>, topic: &str) -> Result<Vec<ConfigEntry>, String> {
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let resource = ResourceSpecifier::Topic(topic);
    // The wrapper's own timeout is librdkafka's; a second bound guards against an answer that never comes.
    let asked = tokio::time::timeout(2 * ASK, admin.describe_configs(&[resource], &options)).await;
    match asked {
        Err(_) => Err("no answer in time".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(mut results)) => match results.pop() {
            Some(Ok(resource)) => Ok(resource.entries),
            Some(Err(code)) => Err(code.to_string()),
            None => Err("the answer is empty".to_owned()),
        },
    }
}

/// Creates a topic; another process that was faster is no error.
pub async fn create_topic(
    admin: &AdminClient<Context>,
    topic: &str,
    partitions: i32,
    replicas: i32,
    configs: &[(String, String)],
) -> Result<bool, KafkaError> {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    for (name, value) in configs {
        new = new.set(name, value);
    }
    let wait = Duration::from_secs(10);
    let options = AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait));
    let results = admin.create_topics([&new], &options).await?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        None => Err(KafkaError::AdminOpCreation("the answer is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r28_a_write_that_timed_out_is_called_unwritten_only_if_no_election_can_lie_between() {
        let now = Instant::now();
        let old = now.checked_sub(Duration::from_secs(10)).unwrap();
        let leader = |broker, as_of, unreachable| Leader { broker, changes: 0, as_of: Some(as_of), unreachable };
        assert!(!leader(1, old, false).may_have_changed(&leader(1, now, false)));
        assert!(leader(1, old, false).may_have_changed(&leader(2, now, false)));
        // Nobody has been heard since: it may have been refused by a leader that has gone.
        assert!(leader(1, old, false).may_have_changed(&leader(1, old, true)));
        // It was queued when nobody could be reached, and nobody has been since.
        assert!(!leader(1, old, true).may_have_changed(&leader(1, old, true)));
        // There and back.
        let mut heard = Heard::default();
        let described = |leader| DescribedTopic {
            id: String::new(),
            partitions: vec![native::DescribedPartition {
                partition: 0,
                leader,
                replicas: vec![1, 2],
                isr: vec![1, 2],
            }],
        };
        for (leader, changes) in [(1, 0), (1, 0), (2, 1), (1, 2)] {
            heard.describe(described(leader));
            assert_eq!(heard.leader_changes.get(&0).copied().unwrap_or_default(), changes);
        }
        assert!(leader(1, now, false).may_have_changed(&Leader { changes: 2, ..leader(1, now, false) }));
    }

    #[test]
    fn r12_what_endangers_the_promises_without_breaking_them_is_a_finding() {
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

    #[test]
    fn r12_the_configuration_is_read_as_kafka_writes_it() {
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

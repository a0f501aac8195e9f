//! Queries the topic once a second, and on demand, and publishes its state.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use changelog_core::{
    blocking::run_blocking,
    log::{Counts, Finding, ReadError, Topic, TopicProblem, TopicState},
    model::Partition,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::{
    config::TopicConfig,
    describe::TopicDescriber,
    evaluate::{self, Evaluation, ServedIdentity},
    findings::{self, ForeignCounts},
    leaders::{LeaderHistory, LeaderObservation},
};
use crate::{
    admin::{self, TopicSpec},
    clients::Clients,
    ffi::{self, DescribedTopic, NativeError},
    settings::Settings,
    timeouts::{MAX_TOPIC_AGE, TOKEN_WAIT, TOPIC_WAIT},
    token::TokenError,
};

const NOT_QUERIED: &str = "the brokers have not answered a query yet";

/// What the queries have found so far.
#[derive(Debug, Default)]
struct TopicObservations {
    /// When the query was sent that the current state is from.
    queried_at: Option<Instant>,
    /// When its answer came.
    answered_at: Option<Instant>,
    config: Option<TopicConfig>,
    leaders: LeaderHistory,
    foreign: ForeignCounts,
    /// Why the broker rejected the timestamp of a record, if it has accepted none since.
    rejected_timestamp: Option<String>,
    /// The last query found no broker. The state may say so because of the token alone.
    unreachable: bool,
}

/// Watches one topic.
pub struct TopicWatcher {
    settings: Settings,
    clients: Arc<Clients>,
    describer: Arc<TopicDescriber>,
    state: watch::Sender<TopicState>,
    /// Set once.
    served_identity: OnceLock<ServedIdentity>,
    observations: Mutex<TopicObservations>,
    /// Whether `observations` have a rejected timestamp.
    timestamps_are_rejected: AtomicBool,
    /// That of the configuration in `observations`.
    max_message_bytes: watch::Sender<usize>,
    /// One query at a time.
    query_lock: tokio::sync::Mutex<()>,
}

impl TopicWatcher {
    pub fn new(settings: Settings, clients: Arc<Clients>) -> Self {
        let state = TopicState::Unreachable { cause: NOT_QUERIED.to_owned(), topic: None };
        Self {
            describer: Arc::new(TopicDescriber::new(clients.clone(), settings.topic.clone())),
            settings,
            clients,
            state: watch::Sender::new(state),
            served_identity: OnceLock::new(),
            observations: Mutex::default(),
            timestamps_are_rejected: AtomicBool::default(),
            max_message_bytes: watch::Sender::default(),
            query_lock: tokio::sync::Mutex::default(),
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
            if self.is_final() || self.is_unreachable() {
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
        let refreshed = async {
            // No load can be made without a token, so a query is not waited for.
            if !self.is_final() {
                self.token().await?;
            }
            self.refresh(after).await;
            Ok(())
        };
        let cause = match tokio::time::timeout(TOPIC_WAIT, refreshed).await {
            Ok(refreshed) => refreshed.err().map(|failure| no_token(&failure)),
            Err(_) => Some(format!("brokers {}: no answer within {} s", self.settings.brokers, TOPIC_WAIT.as_secs())),
        };
        if let Some(cause) = cause {
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

    /// The topic's max.message.bytes, and every change of it; 0 before the first query.
    pub fn max_message_bytes(&self) -> watch::Receiver<usize> {
        self.max_message_bytes.subscribe()
    }

    /// The partitions' leaders and replicas, as last queried.
    pub fn described(&self) -> Option<DescribedTopic> {
        self.observations().leaders.described().cloned()
    }

    /// A partition's leader, as last queried.
    pub fn leader(&self, partition: i32) -> LeaderObservation {
        let observations = self.observations();
        observations.leaders.leader(partition, observations.unreachable)
    }

    /// If too few replicas of a partition are in sync to take a write: how many are, and how many must be. As last
    /// queried.
    pub fn too_few_in_sync(&self, partition: i32) -> Option<(usize, i64)> {
        let observations = self.observations();
        let min = observations.config.as_ref()?.min_insync_replicas;
        let in_sync = observations.leaders.in_sync(partition)?;
        ((in_sync as i64) < min).then_some((in_sync, min))
    }

    /// Adds what a replay found in a partition. Counts of a whole partition replace the earlier ones.
    pub fn add_foreign_counts(&self, partition: Partition, counts: Counts, whole_partition: bool) {
        self.observations().foreign.add(partition, counts, whole_partition);
    }

    /// A broker rejected the timestamp of a record.
    pub fn timestamp_rejected(&self, cause: &str) {
        self.observations().rejected_timestamp = Some(cause.to_owned());
        self.timestamps_are_rejected.store(true, Relaxed);
    }

    /// A broker accepted the timestamp of a record.
    pub fn timestamp_accepted(&self) {
        // Each write comes here, so the lock is taken only if there is something to forget.
        if self.timestamps_are_rejected.load(Relaxed) && self.timestamps_are_rejected.swap(false, Relaxed) {
            self.observations().rejected_timestamp = None;
        }
    }

    /// The findings about the topic, its state included.
    pub fn findings(&self) -> Vec<Finding> {
        let state = self.state.borrow().clone();
        let observations = self.observations();
        let TopicObservations { foreign, config, leaders, rejected_timestamp, .. } = &*observations;
        let served = self.served_identity.get();
        let mut found = findings::findings(&self.settings, &state, served, foreign, config.as_ref(), leaders);
        found.extend(rejected_timestamp.as_deref().map(findings::clock_skew));
        found
    }

    fn observations(&self) -> MutexGuard<'_, TopicObservations> {
        self.observations.lock()
    }

    fn is_final(&self) -> bool {
        evaluate::is_final(&self.state.borrow())
    }

    fn is_unreachable(&self) -> bool {
        matches!(&*self.state.borrow(), TopicState::Unreachable { .. })
    }

    /// Queries the brokers, unless a query was sent at `after` or later. Callers that wait while a query runs share the
    /// next one, which starts after all of them have arrived. If the running query finds no broker, they share that
    /// result.
    async fn refresh(&self, after: Instant) {
        let arrived_at = Instant::now();
        let is_current = || {
            let observations = self.observations();
            let failed_meanwhile = observations.answered_at.is_some_and(|at| at >= arrived_at) && self.is_unreachable();
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
        let (queried, no_token) = match self.token().await {
            Ok(()) => (self.query().await, None),
            Err(failure) => {
                let no_token = self.without_token(&failure);
                // Brokers may keep connections after the token has expired. Writes succeed over these, so the leaders
                // must be known. If no client ever had a token, none is connected, and a query would only time out.
                let had_one = self.clients.tokens().is_some_and(|tokens| tokens.had_one());
                (if had_one { self.query().await } else { no_token.clone() }, Some(no_token))
            }
        };
        let (described, unreachable) =
            (matches!(queried, TopicState::Ready(_)), matches!(queried, TopicState::Unreachable { .. }));
        let next = no_token.filter(|_| described || unreachable).unwrap_or(queried);
        // Set before the state, because a write that is accepted in that state must know it.
        self.observations().unreachable = unreachable;
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
            observations.leaders.set_age(queried_at);
        }
    }

    /// Waits for a token, if clients need one.
    async fn token(&self) -> Result<(), TokenError> {
        match self.clients.tokens() {
            Some(tokens) => tokens.wait_for_current(TOKEN_WAIT).await.map(drop),
            None => Ok(()),
        }
    }

    /// The state of a topic that no new client can read.
    fn without_token(&self, failure: &TokenError) -> TopicState {
        let last = self.state.borrow().clone();
        let evaluation = Evaluation { settings: &self.settings, served: self.served_identity.get(), last: &last };
        evaluation.unreachable(no_token(failure))
    }

    async fn query(&self) -> TopicState {
        // A process that has served a topic id does not go on without one.
        let may_lack_id = self.served_identity.get().is_none_or(|served| served.id.is_empty());
        let (describer, brokers) = (self.describer.clone(), self.observations().leaders.brokers());
        let described = run_blocking(move || describer.describe(&brokers, may_lack_id)).await;
        let last = self.state.borrow().clone();
        let served = self.served_identity.get();
        let evaluation = Evaluation { settings: &self.settings, served, last: &last };
        match described {
            Ok(Ok(described)) => self.evaluate(described, &evaluation).await,
            Ok(Err(error)) => {
                if let Some(problem) = self.create_missing_topic(&error).await {
                    return TopicState::Invalid(problem);
                }
                evaluation.evaluate_error(&error, || {
                    let admin = self.clients.admin();
                    ffi::poll_logs(&admin);
                    admin.inner().context().take_last_failure()
                })
            }
            Err(error) => evaluation.unreachable(error.to_string()),
        }
    }

    async fn evaluate(&self, described: DescribedTopic, evaluation: &Evaluation<'_>) -> TopicState {
        let partition_count = match evaluation.check_identity(&described) {
            Ok(partition_count) => partition_count,
            Err(state) => return state,
        };
        let config = self.known_config().await;
        let state = evaluation.evaluate(&described.id, partition_count, &config);
        self.observations().leaders.describe(described);
        if let TopicState::Ready(topic) = &state {
            let _ = self.served_identity.set(ServedIdentity { id: topic.id.clone(), partition_count });
        }
        state
    }

    /// With --create-topic, creates the topic if the error says that it does not exist. Returns why it was not created.
    /// A served topic that is deleted is not created again, because its records would be missing without an error.
    async fn create_missing_topic(&self, error: &NativeError) -> Option<TopicProblem> {
        let replication_factor = self.settings.create_topic?;
        if !evaluate::is_missing(error) || self.served_identity.get().is_some() {
            return None;
        }
        let spec = TopicSpec {
            replication_factor: Some(replication_factor),
            ..TopicSpec::new(self.settings.expected_partitions)
        };
        let (admin, topic) = (self.clients.admin(), self.settings.topic.clone());
        let created = run_blocking(move || admin::create(&admin, &topic, &spec)).await;
        let topic = self.settings.topic.clone();
        let cause = match created {
            Ok(Ok(created)) => {
                tracing::info!(topic, "{created}");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Some(TopicProblem::NotCreated { topic, cause })
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
        let answer = admin::read_config(&self.clients.admin(), &self.settings.topic).await;
        let mut observations = self.observations();
        let last = observations.config.as_ref();
        let config = TopicConfig::after_query(answer, last);
        let changed = last.is_none_or(|last| !config.gives_same_state(last));
        let max_message_bytes = config.max_message_bytes;
        observations.config = Some(config);
        drop(observations);
        self.max_message_bytes
            .send_if_modified(|bytes| std::mem::replace(bytes, max_message_bytes) != max_message_bytes);
        changed
    }
}

fn no_token(failure: &TokenError) -> String {
    format!("no token for the brokers: {failure}")
}

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

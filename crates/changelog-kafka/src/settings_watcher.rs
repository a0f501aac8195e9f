//! Notices that the properties file changed, or a file that a property names, and puts what it says into effect.
//!
//! Files are looked at, because not every volume reports changes. A file may be read while it is written, and a new
//! certificate may be there before its key. So settings are replaced only if they can be used, else they are read again
//! until they can. Meanwhile the settings from before stay in effect, with the contents that their files had.
//!
//! Promises: settings that are wrong, or that the brokers reject while they accept those in effect, replace nothing and
//! are a finding. Does not: replace producers, which the pool does, or the clients of running replays.

use std::sync::Arc;

use changelog_core::{
    blocking::run_blocking,
    log::{Finding, Severity, TopicState},
};
use parking_lot::Mutex;
use rdkafka::{metadata::MetadataTopic, types::RDKafkaRespErr};
use tokio::{sync::Notify, time::sleep};

use crate::{
    clients::{Admin, Clients},
    ffi,
    metrics::Metrics,
    settings::{Loaded, Settings, WatchedFiles},
    timeouts::{FILE_CHECK_INTERVAL, SETTINGS_PROBE},
    topic::TopicWatcher,
};

fn is_refusal(error: RDKafkaRespErr) -> bool {
    error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
}

struct Seen {
    files: WatchedFiles,
    /// The files are to be read again, also if they do not change.
    again: bool,
}

/// Watches the files that the settings are from.
pub struct SettingsWatcher {
    clients: Arc<Clients>,
    watcher: Arc<TopicWatcher>,
    metrics: Metrics,
    seen: Mutex<Seen>,
    /// Why changed settings are not in effect.
    failure: Mutex<Option<String>>,
    /// Notified when producers are to be replaced.
    replaced: Arc<Notify>,
}

impl SettingsWatcher {
    /// `files` are those of the settings in effect.
    pub fn new(
        clients: Arc<Clients>,
        watcher: Arc<TopicWatcher>,
        metrics: Metrics,
        files: WatchedFiles,
        replaced: Arc<Notify>,
    ) -> Self {
        let seen = Mutex::new(Seen { files, again: false });
        Self { clients, watcher, metrics, seen, failure: Mutex::default(), replaced }
    }

    /// Looks at the files from time to time. Returns only if there are none: its owner drops it.
    pub async fn watch(self: Arc<Self>) {
        if self.seen.lock().files.is_empty() {
            return;
        }
        loop {
            sleep(FILE_CHECK_INTERVAL).await;
            // A volume that does not answer holds one thread, because the next look waits for this one.
            let this = self.clone();
            if let Err(error) = run_blocking(move || this.check()).await {
                tracing::warn!(%error, "the properties file could not be looked at");
            }
        }
    }

    /// Puts changed settings into effect. Blocks.
    pub fn check(&self) {
        let mut seen = self.seen.lock();
        if !seen.again && !seen.files.have_changed() {
            return;
        }
        let in_effect = self.clients.settings();
        match Loaded::again(&in_effect) {
            Err(error) => {
                seen.again = true;
                self.fail(error.to_string());
            }
            // What was read may be from before or after the change, so it is read again.
            Ok(loaded) if loaded.files.have_changed() => seen.again = true,
            Ok(loaded) => {
                let files = loaded.files.clone();
                match self.put_into_effect(&in_effect, loaded) {
                    Ok(()) => *seen = Seen { files, again: false },
                    Err(cause) => {
                        seen.again = true;
                        self.fail(cause);
                    }
                }
            }
        }
    }

    fn put_into_effect(&self, in_effect: &Settings, loaded: Loaded) -> Result<(), String> {
        let Loaded { settings, held, .. } = loaded;
        let is_same = in_effect.has_same_properties(&settings) && self.clients.held().has_same_contents(&held);
        if is_same {
            if self.failure.lock().take().is_some() {
                tracing::info!("the properties are again those in effect");
            }
            return Ok(());
        }
        // The task that gets tokens runs only if the log was started with a source of them.
        if settings.token().is_ok_and(|token| token.is_some()) != self.clients.tokens().is_some() {
            return Err("a change to or from SASL OAUTHBEARER with a token source takes effect at a restart".to_owned());
        }
        let admin =
            self.clients.admin_with(&settings, &held).map_err(|error| format!("no client can be made: {error}"))?;
        self.probe(&admin, &settings.topic)?;
        self.clients.replace(settings, held, admin);
        *self.failure.lock() = None;
        self.metrics.settings_replaced.inc();
        tracing::info!("the properties changed: clients are replaced");
        self.replaced.notify_one();
        Ok(())
    }

    /// Fails if no broker answers the new client, or refuses it the topic, though one answers the client in effect. The
    /// new password may not be the brokers' password yet, or never.
    fn probe(&self, admin: &Admin, topic: &str) -> Result<(), String> {
        let answer = admin.inner().fetch_metadata(Some(topic), SETTINGS_PROBE);
        let state = self.watcher.state();
        let error = match answer {
            Ok(metadata) => {
                let refused = metadata.topics().iter().filter_map(MetadataTopic::error).any(is_refusal);
                let is_served = matches!(&*state.borrow(), TopicState::Ready(_));
                let refusal = || Err(format!("with them the brokers give no right to topic {topic:?}"));
                return if refused && is_served { refusal() } else { Ok(()) };
            }
            Err(error) => error,
        };
        if matches!(&*state.borrow(), TopicState::Unreachable { .. }) {
            return Ok(());
        }
        ffi::poll_logs(admin);
        let cause = admin.inner().context().take_last_failure().unwrap_or_else(|| error.to_string());
        Err(format!("with them no broker answers: {cause}"))
    }

    fn fail(&self, cause: String) {
        let mut failure = self.failure.lock();
        // Each further attempt has a text of its own.
        if failure.is_none() {
            tracing::warn!(cause, "the properties changed and can't be used: those from before stay in effect");
        }
        *failure = Some(cause);
    }

    pub fn finding(&self) -> Option<Finding> {
        let failure = self.failure.lock();
        let message = |cause: &String| {
            format!("the properties changed and can't be used, those from before stay in effect: {cause}")
        };
        let finding = |message| Finding { severity: Severity::Warning, code: "SETTINGS_NOT_REPLACED", message };
        failure.as_ref().map(message).map(finding)
    }
}

//! Notices that the properties file changed, or a file that a property names, and puts what it says into effect.
//!
//! Files are looked at, because not every volume reports changes. A file may be read while it is written, and a new
//! certificate may be there before its key. So settings are replaced only if they can be used, else they are read again
//! until they can. Meanwhile the settings from before stay in effect, with the contents that their files had.
//!
//! Promises: settings that are wrong, or that the brokers reject while they accept those in effect, replace nothing and
//! are a finding. Rejected ones are tried again with longer and longer pauses, because each try is a failed login. Does
//! not: replace producers, which the pool does, or the clients of running replays.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use changelog_core::{
    blocking::run_blocking,
    log::{Finding, Severity, TopicState},
};
use parking_lot::Mutex;
use rdkafka::{metadata::MetadataTopic, types::RDKafkaRespErr};
use tokio::{runtime::Handle, sync::Notify, time::sleep};

use crate::{
    client_context::is_rejection,
    clients::{ClientSettings, Clients},
    ffi,
    metrics::Metrics,
    settings::{Loaded, Settings, TokenSettings, WatchedFiles},
    timeouts::{FILE_CHECK_INTERVAL, MAX_SETTINGS_RETRY_DELAY, SETTINGS_PROBE, SETTINGS_WAIT, TOKEN_REQUEST},
    token::{self, Token},
    topic::TopicWatcher,
};

fn is_refusal(error: RDKafkaRespErr) -> bool {
    error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
}

struct Seen {
    files: WatchedFiles,
    /// The files are to be read again, also if they do not change.
    again: bool,
    /// What the brokers did not take at the last try.
    refused: Option<Refused>,
}

/// Files with which no broker was reached, and when they are tried again.
struct Refused {
    files: WatchedFiles,
    pause: Duration,
    until: Instant,
}

/// Why settings are not put into effect.
enum Refusal {
    /// No broker was asked.
    Ours(String),
    /// The brokers, or the identity provider, do not take them.
    OfBrokers(String),
}

impl Refused {
    /// A longer pause for the same files.
    fn again(files: WatchedFiles, before: Option<Self>) -> Self {
        let longer = before.filter(|before| before.files == files).map(|before| before.pause * 2);
        let pause = longer.unwrap_or(FILE_CHECK_INTERVAL).min(MAX_SETTINGS_RETRY_DELAY);
        Self { files, pause, until: Instant::now() + pause }
    }
}

fn no_client(error: &dyn Display) -> Refusal {
    Refusal::Ours(format!("no client can be made: {error}"))
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
    /// The log is closed, so nothing is tried any more.
    closed: Arc<AtomicBool>,
    /// The threads that look at files have none of their own.
    runtime: Handle,
}

impl SettingsWatcher {
    /// `files` are those of the settings in effect. Must be called on a tokio runtime.
    pub fn new(
        clients: Arc<Clients>,
        watcher: Arc<TopicWatcher>,
        metrics: Metrics,
        files: WatchedFiles,
        replaced: Arc<Notify>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        let seen = Mutex::new(Seen { files, again: false, refused: None });
        let runtime = Handle::current();
        Self { clients, watcher, metrics, seen, failure: Mutex::default(), replaced, closed, runtime }
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
        let waits = |refused: &Refused| Instant::now() < refused.until && !refused.files.have_changed();
        if seen.refused.as_ref().is_some_and(waits) {
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
                    Ok(()) => *seen = Seen { files, again: false, refused: None },
                    Err(Refusal::Ours(cause)) => {
                        seen.again = true;
                        self.fail(cause);
                    }
                    Err(Refusal::OfBrokers(cause)) => {
                        seen.again = true;
                        seen.refused = Some(Refused::again(files, seen.refused.take()));
                        self.fail(cause);
                    }
                }
            }
        }
    }

    fn put_into_effect(&self, in_effect: &Settings, loaded: Loaded) -> Result<(), Refusal> {
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
            let cause = "a change to or from SASL OAUTHBEARER with a token source takes effect at a restart";
            return Err(Refusal::Ours(cause.to_owned()));
        }
        // Such a file is being written. Brokers without authentication would take its settings.
        if in_effect.has_properties_in_file() && !settings.has_properties_in_file() {
            return Err(Refusal::Ours("the properties file has no property any more".to_owned()));
        }
        let token = self.token_of(in_effect, &settings)?;
        let topic = settings.topic.clone();
        let expirations = settings.expirations();
        let new = ClientSettings::new(settings, held);
        self.probe(&new, &topic, token.as_ref().map(|(_, token)| token))?;
        self.clients.replace(new, token).map_err(|error| no_client(&error))?;
        *self.failure.lock() = None;
        self.metrics.settings_replaced.inc();
        self.metrics.set_expirations(&expirations);
        tracing::info!("the properties changed: clients are replaced");
        self.replaced.notify_one();
        Ok(())
    }

    /// A token that is got with the new settings, if they get it in another way than those in effect. The token in use
    /// says nothing about them. Blocks.
    fn token_of(&self, in_effect: &Settings, settings: &Settings) -> Result<Option<(TokenSettings, Token)>, Refusal> {
        let (Ok(before), Ok(Some(new))) = (in_effect.token(), settings.token()) else { return Ok(None) };
        if before.as_ref() == Some(&new) {
            return Ok(None);
        }
        let got = self.runtime.block_on(token::fetch(&new, TOKEN_REQUEST));
        match got {
            Ok(token) => Ok(Some((new, token))),
            Err(error) => Err(Refusal::OfBrokers(format!("with them there is no token for the brokers: {error}"))),
        }
    }

    /// Fails if no broker answers a client with these settings, or refuses it the topic, though one answers the client
    /// in effect. The new password may not be the brokers' password yet, or never.
    fn probe(&self, settings: &ClientSettings, topic: &str, token: Option<&Token>) -> Result<(), Refusal> {
        let client = self.clients.probe(settings, token).map_err(|error| no_client(&error))?;
        let state = self.watcher.state();
        let (until, mut failure) = (Instant::now() + SETTINGS_WAIT, None);
        loop {
            let error = match client.inner().fetch_metadata(Some(topic), SETTINGS_PROBE) {
                Ok(metadata) => {
                    let is_refused = metadata.topics().iter().filter_map(MetadataTopic::error).any(is_refusal);
                    let is_served = matches!(&*state.borrow(), TopicState::Ready(_));
                    let refusal =
                        || Refusal::OfBrokers(format!("with them the brokers give no right to topic {topic:?}"));
                    return if is_refused && is_served { Err(refusal()) } else { Ok(()) };
                }
                Err(error) => error,
            };
            if matches!(&*state.borrow(), TopicState::Unreachable { .. }) {
                return Ok(());
            }
            ffi::poll_logs(&client);
            failure = client.inner().context().take_last_failure().or(failure);
            let is_over = Instant::now() >= until || self.closed.load(Ordering::Acquire);
            if is_over || failure.as_deref().is_some_and(is_rejection) {
                let cause = failure.unwrap_or_else(|| error.to_string());
                return Err(Refusal::OfBrokers(format!("with them no broker answers: {cause}")));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R54.
    #[test]
    fn the_pause_after_a_rejected_login_grows_until_the_files_change() {
        let mut refused = Refused::again(WatchedFiles::default(), None);
        let mut all = refused.pause;
        for _ in 0..20 {
            let longer = Refused::again(WatchedFiles::default(), Some(refused));
            all += longer.pause;
            refused = longer;
        }
        assert_eq!(refused.pause, MAX_SETTINGS_RETRY_DELAY);
        assert!(all > Duration::from_secs(3_600), "21 failed logins take more than an hour: {all:?}");
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("properties");
        std::fs::write(&file, "client.id=a").unwrap();
        let mut settings = Settings::new("127.0.0.1:1", "t");
        settings.properties_file = Some(crate::settings::PropertiesFile::read(&file).unwrap());
        let others = Loaded::new(settings).unwrap().files;
        assert_eq!(Refused::again(others, Some(refused)).pause, FILE_CHECK_INTERVAL);
    }
}

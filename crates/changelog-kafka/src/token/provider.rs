//! Gets the token, and renews it before it expires.
//!
//! Promises that one request at a time is sent, however many clients there are. After a failure the last token is kept,
//! and the next attempt comes after a bounded time. Does not decide what a token is: see [`super::value`].

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use changelog_core::blocking::{BlockingError, run_blocking};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    file, oidc,
    shared::Tokens,
    value::{Token, TokenError, shown_time},
};
use crate::{
    clients::Clients,
    metrics::Metrics,
    settings::{Fingerprint, TokenSettings, TokenSource},
    timeouts::{
        MAX_TOKEN_RETRY_DELAY, MIN_TOKEN_RETRY_DELAY, TOKEN_CHECK_INTERVAL, TOKEN_RENEWAL_PERCENT, TOKEN_REQUEST,
    },
};

/// Where tokens come from.
pub trait Source: Send + Sync {
    fn get(&self) -> impl Future<Output = Result<Token, TokenError>> + Send;

    /// Whether something has changed since the last token was got, so that another one may be there.
    fn has_changed(&self) -> impl Future<Output = bool> + Send;

    /// The last token is from these settings, and `get` did not get it.
    fn replaced(&self, settings: TokenSettings);

    /// The wall clock, by which tokens expire.
    fn now(&self) -> SystemTime;
}

/// The source that the settings in effect name. They may be replaced while the process runs.
pub struct SettingsSource {
    clients: Arc<Clients>,
    /// What the last token was got with, and its file as it was then.
    last: Mutex<Option<(TokenSettings, Option<Fingerprint>)>>,
}

impl SettingsSource {
    pub fn new(clients: Arc<Clients>) -> Self {
        Self { clients, last: Mutex::default() }
    }

    fn in_effect(&self) -> Result<TokenSettings, TokenError> {
        let none = || TokenError("the settings name no source of a token".to_owned());
        self.clients.settings().token().map_err(|e| TokenError(e.to_string()))?.ok_or_else(none)
    }

    async fn fingerprint(settings: &TokenSettings) -> Result<Option<Fingerprint>, BlockingError> {
        let TokenSource::File(path) = &settings.source else { return Ok(None) };
        let path = path.clone();
        run_blocking(move || Fingerprint::of(&path)).await.map(Some)
    }
}

impl Source for SettingsSource {
    async fn get(&self) -> Result<Token, TokenError> {
        let settings = self.in_effect()?;
        // Taken before the file is read, so that a change meanwhile is noticed.
        let fingerprint = Self::fingerprint(&settings).await.map_err(|e| TokenError(e.to_string()))?;
        *self.last.lock() = Some((settings.clone(), fingerprint));
        fetch(&settings, TOKEN_REQUEST).await
    }

    async fn has_changed(&self) -> bool {
        let last = self.last.lock().clone();
        let (Some((last, fingerprint)), Ok(settings)) = (last, self.in_effect()) else { return true };
        last != settings || Self::fingerprint(&settings).await.is_ok_and(|now| now != fingerprint)
    }

    fn replaced(&self, settings: TokenSettings) {
        // A file is read once more, because it is not known how it was when its token was read.
        *self.last.lock() = Some((settings, None));
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Gets one token with these settings, which need not be those in effect. No client gets it. `limit` is for the request
/// to an identity provider. A file is waited for, so that a volume that does not answer holds one thread only.
pub async fn fetch(settings: &TokenSettings, limit: Duration) -> Result<Token, TokenError> {
    let token = match &settings.source {
        TokenSource::File(path) => {
            let path = path.clone();
            let read = run_blocking(move || file::read(&path, SystemTime::now())).await;
            read.map_err(|e| TokenError(e.to_string()))?
        }
        TokenSource::Oidc(oidc) => oidc::request(oidc, limit, SystemTime::now).await,
    };
    token.map(|token| token.with_extensions(settings.extensions.clone()))
}

/// Renews the token of a process.
pub struct Provider<S> {
    tokens: Arc<Tokens>,
    source: S,
    metrics: Metrics,
}

impl Provider<SettingsSource> {
    /// `None` if the clients need no token.
    pub fn new(clients: &Arc<Clients>, metrics: Metrics) -> Option<Self> {
        let tokens = clients.tokens()?.clone();
        Some(Self { tokens, source: SettingsSource::new(clients.clone()), metrics })
    }
}

/// Gets one token for clients that live for a short time. Does nothing if they need none.
pub async fn get_once(clients: &Arc<Clients>) -> Result<(), TokenError> {
    match Provider::new(clients, Metrics::default()) {
        Some(provider) => provider.get(provider.tokens.generation()).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Why a wait has ended.
#[derive(Debug, PartialEq, Eq)]
enum Wake {
    /// A token is to be got.
    Due,
    /// Another token is in the place of the last one: [`Tokens::replace`].
    Replaced,
}

impl<S: Source> Provider<S> {
    /// Gets the first token, and renews it. Does not return: its owner drops it.
    pub async fn run(self) {
        let mut failures = 0;
        loop {
            let mut generation = self.tokens.generation();
            let mut delay = match self.get(generation).await {
                Ok(expires_at) => {
                    if failures > 0 {
                        tracing::info!("there is a token for the brokers again");
                    }
                    failures = 0;
                    expires_at.map(|at| renewal_delay(at, self.source.now()))
                }
                Err(failure) => {
                    if failures == 0 {
                        self.warn(&failure);
                    }
                    failures += 1;
                    Some(retry_delay(failures))
                }
            };
            while self.wait(delay, generation).await == Wake::Replaced {
                generation = self.tokens.generation();
                delay = self.take_replacement();
                failures = 0;
            }
        }
    }

    /// Gets a token, and gives it to all clients. Returns when it expires.
    async fn get(&self, generation: u64) -> Result<Option<SystemTime>, TokenError> {
        self.metrics.token_requests.inc();
        let token = match self.source.get().await {
            Ok(token) => token,
            Err(failure) => {
                self.metrics.token_failures.inc();
                self.tokens.failed(generation, failure.clone());
                return Err(failure);
            }
        };
        let (expires_at, tokens) = (token.expires_at(), self.tokens.clone());
        tracing::debug!(expires_at = expires_at.map(shown_time), "there is a new token for the brokers");
        run_blocking(move || tokens.renew(generation, token)).await.map_err(|e| TokenError(e.to_string()))?;
        Ok(expires_at)
    }

    /// Renews the token that is there now, with its settings. Returns the time until then.
    fn take_replacement(&self) -> Option<Duration> {
        if let Some(settings) = self.tokens.replaced_settings() {
            self.source.replaced(settings);
        }
        let now = self.source.now();
        match self.tokens.current_at(now) {
            Ok(token) => token.expires_at().map(|at| renewal_delay(at, now)),
            // It has expired already.
            Err(_) => Some(Duration::ZERO),
        }
    }

    fn warn(&self, failure: &TokenError) {
        match self.tokens.current_at(self.source.now()) {
            Ok(token) => {
                let expires_at = token.expires_at().map(shown_time);
                tracing::warn!(%failure, expires_at, "the token for the brokers can't be renewed yet");
            }
            Err(_) => tracing::warn!(%failure, "there is no token for the brokers"),
        }
    }

    /// Waits until a token is to be got again: after this time, or when the source has changed.
    async fn wait(&self, delay: Option<Duration>, generation: u64) -> Wake {
        let (waited_since, wall_since) = (Instant::now(), self.source.now());
        loop {
            if self.tokens.generation() != generation {
                return Wake::Replaced;
            }
            // The monotonic clock stands still while the machine is suspended, and the wall clock may be set back.
            let by_wall = self.source.now().duration_since(wall_since).unwrap_or_default();
            let waited = waited_since.elapsed().max(by_wall);
            let left = delay.map(|delay| delay.saturating_sub(waited));
            if left.is_some_and(|left| left.is_zero()) {
                return Wake::Due;
            }
            sleep(left.unwrap_or(TOKEN_CHECK_INTERVAL).min(TOKEN_CHECK_INTERVAL)).await;
            // The settings of a token that was replaced have changed, too, and are no reason to get another one.
            if self.tokens.generation() == generation && self.source.has_changed().await {
                return Wake::Due;
            }
        }
    }
}

/// A part of what is left of the token's life, but never so short that the source is asked in a busy loop.
fn renewal_delay(expires_at: SystemTime, now: SystemTime) -> Duration {
    let life = expires_at.duration_since(now).unwrap_or_default();
    (life * TOKEN_RENEWAL_PERCENT / 100).max(MIN_TOKEN_RETRY_DELAY)
}

/// Doubles with each failure in a row, up to a limit.
fn retry_delay(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    MIN_TOKEN_RETRY_DELAY.saturating_mul(factor).min(MAX_TOKEN_RETRY_DELAY)
}

#[cfg(test)]
mod tests;

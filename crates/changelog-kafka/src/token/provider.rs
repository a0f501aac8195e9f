//! Gets the token, and renews it before it expires.
//!
//! Promises that one request at a time is sent, however many clients there are. After a failure the last token is kept,
//! and the next attempt comes after a bounded time. Does not decide what a token is: see [`super::value`].

use std::{
    future::Future,
    path::Path,
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
    settings::{Fingerprint, Settings, TokenSettings, TokenSource},
    timeouts::{MAX_TOKEN_RETRY_DELAY, MIN_TOKEN_RETRY_DELAY, TOKEN_CHECK_INTERVAL, TOKEN_RENEWAL_PERCENT},
};

/// Where tokens come from.
pub trait Source: Send + Sync {
    fn get(&self) -> impl Future<Output = Result<Token, TokenError>> + Send;

    /// Whether something has changed since the last call of `get`, so that another token may be there.
    fn has_changed(&self) -> impl Future<Output = bool> + Send;

    /// The wall clock, by which tokens expire.
    fn now(&self) -> SystemTime;
}

/// The source that the settings in effect name. They may be replaced while the process runs.
pub struct SettingsSource {
    clients: Arc<Clients>,
    /// What the last token was got with.
    last: Mutex<Option<(Arc<Settings>, Option<Fingerprint>)>>,
}

impl SettingsSource {
    pub fn new(clients: Arc<Clients>) -> Self {
        Self { clients, last: Mutex::default() }
    }

    async fn fingerprint(path: &Path) -> Result<Fingerprint, BlockingError> {
        let path = path.to_owned();
        run_blocking(move || Fingerprint::of(&path)).await
    }
}

fn token_settings(settings: &Settings) -> Result<TokenSettings, TokenError> {
    let none = || TokenError("the settings name no source of a token".to_owned());
    settings.token().map_err(|e| TokenError(e.to_string()))?.ok_or_else(none)
}

impl Source for SettingsSource {
    async fn get(&self) -> Result<Token, TokenError> {
        let settings = self.clients.settings();
        let TokenSettings { source, extensions } = token_settings(&settings)?;
        let failed = |e: BlockingError| TokenError(e.to_string());
        let token = match source {
            TokenSource::File(path) => {
                // Taken before the file is read, so that a change meanwhile is noticed.
                let fingerprint = Self::fingerprint(&path).await.map_err(failed)?;
                *self.last.lock() = Some((settings, Some(fingerprint)));
                let now = self.now();
                run_blocking(move || file::read(&path, now)).await.map_err(failed)?
            }
            TokenSource::Oidc(oidc) => {
                *self.last.lock() = Some((settings, None));
                oidc::request(&oidc, || self.now()).await
            }
        };
        token.map(|token| token.with_extensions(extensions))
    }

    async fn has_changed(&self) -> bool {
        let settings = self.clients.settings();
        let Some((last, fingerprint)) = self.last.lock().clone() else { return true };
        if !Arc::ptr_eq(&last, &settings) {
            return true;
        }
        match token_settings(&settings).map(|token| token.source) {
            Ok(TokenSource::File(path)) => Self::fingerprint(&path).await.is_ok_and(|now| Some(now) != fingerprint),
            _ => false,
        }
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
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
        Some(provider) => provider.get().await.map(|_| ()),
        None => Ok(()),
    }
}

impl<S: Source> Provider<S> {
    /// Gets the first token, and renews it. Does not return: its owner drops it.
    pub async fn run(self) {
        let mut failures = 0;
        loop {
            let delay = match self.get().await {
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
            self.wait(delay).await;
        }
    }

    /// Gets a token, and gives it to all clients. Returns when it expires.
    async fn get(&self) -> Result<Option<SystemTime>, TokenError> {
        self.metrics.token_requests.inc();
        let token = match self.source.get().await {
            Ok(token) => token,
            Err(failure) => {
                self.metrics.token_failures.inc();
                self.tokens.failed(failure.clone());
                return Err(failure);
            }
        };
        let (expires_at, tokens) = (token.expires_at(), self.tokens.clone());
        tracing::debug!(expires_at = expires_at.map(shown_time), "there is a new token for the brokers");
        run_blocking(move || tokens.renew(token)).await.map_err(|e| TokenError(e.to_string()))?;
        Ok(expires_at)
    }

    fn warn(&self, failure: &TokenError) {
        match self.tokens.token().filter(|token| !token.has_expired(self.source.now())) {
            Some(token) => {
                let expires_at = token.expires_at().map(shown_time);
                tracing::warn!(%failure, expires_at, "the token for the brokers can't be renewed yet");
            }
            None => tracing::warn!(%failure, "there is no token for the brokers"),
        }
    }

    /// Waits until a token is to be got again: after this time, or when the source has changed.
    async fn wait(&self, delay: Option<Duration>) {
        let (waited_since, wall_since) = (Instant::now(), self.source.now());
        loop {
            // The monotonic clock stands still while the machine is suspended, and the wall clock may be set back.
            let by_wall = self.source.now().duration_since(wall_since).unwrap_or_default();
            let waited = waited_since.elapsed().max(by_wall);
            let left = delay.map(|delay| delay.saturating_sub(waited));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            sleep(left.unwrap_or(TOKEN_CHECK_INTERVAL).min(TOKEN_CHECK_INTERVAL)).await;
            if self.source.has_changed().await {
                return;
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

//! A token, and which texts may be one.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::jwt::{self, Claims};
use crate::timeouts::MAX_TOKEN_BYTES;

/// A token for the brokers.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: String,
    /// The subject of the token, for messages of librdkafka only.
    principal: String,
    /// `None` if the token does not say so.
    expires_at: Option<SystemTime>,
    extensions: Vec<(String, String)>,
}

/// Without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token, in words. Has neither a token nor a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub String);

impl Token {
    /// It expires at the `exp` of a JWT, or after `life` if that is earlier. If the clock of this machine is behind
    /// that of the provider, a JWT ends before its `exp` by this clock.
    pub fn parse(text: &str, life: Option<Duration>, now: SystemTime) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(format!("has more than {MAX_TOKEN_BYTES} bytes"));
        }
        // librdkafka refuses other characters with a text that has the token.
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("has white space or other characters that a token can't have".to_owned());
        }
        let claims = jwt::claims(text)?;
        let (expires_at, subject) = claims.map_or((None, None), |Claims { expires_at, subject }| (expires_at, subject));
        let end_of_life = life.and_then(|life| now.checked_add(life));
        let expires_at = expires_at.into_iter().chain(end_of_life).min();
        if let Some(at) = expires_at.filter(|at| *at <= now) {
            return Err(format!("has expired at {}, by the clock of this machine", shown_time(at)));
        }
        let principal = subject.unwrap_or_else(|| "unknown".to_owned());
        Ok(Self { value: text.to_owned(), principal, expires_at, extensions: Vec::new() })
    }

    /// Sets the expiry, unless the token has one.
    #[must_use]
    pub fn or_expiring_at(mut self, at: SystemTime) -> Self {
        self.expires_at.get_or_insert(at);
        self
    }

    #[must_use]
    pub fn with_extensions(mut self, extensions: Vec<(String, String)>) -> Self {
        self.extensions = extensions;
        self
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    pub fn principal(&self) -> &str {
        &self.principal
    }

    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    pub fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A time in UTC, to the second.
pub fn shown_time(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let shown = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    shown.map_or_else(|| "a time that can't be shown".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests;

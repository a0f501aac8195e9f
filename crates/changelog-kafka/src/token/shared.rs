//! The token that all clients share.
//!
//! Promises that each client that lives has the last token: a new one before its first connection, the others as soon
//! as the token is renewed. A token that has expired is none, because librdkafka refuses it. Does not get a token.

use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::value::{Token, TokenError, shown_time};
use crate::{ffi::TokenTarget, settings::TokenSettings};

/// The last token, and why there is no newer one.
#[derive(Debug, Clone, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// Why the last attempt failed.
    failure: Option<TokenError>,
    /// How often a token of other settings was put in the place of the last one.
    generation: u64,
    /// The settings of the last such token.
    settings: Option<TokenSettings>,
}

impl State {
    fn current(&self, now: SystemTime) -> Result<Arc<Token>, TokenError> {
        let expired = match &self.token {
            Some(token) if !token.has_expired(now) => return Ok(token.clone()),
            Some(token) => token.expires_at(),
            None => None,
        };
        let failure = self.failure.as_ref().map_or("its source has not answered yet", |failure| &failure.0);
        let expired = expired.map(|at| format!("; the last one has expired at {}", shown_time(at)));
        Err(TokenError(format!("{failure}{}", expired.unwrap_or_default())))
    }
}

/// The token of a process, and the clients that have it.
#[derive(Default)]
pub struct Tokens {
    state: watch::Sender<State>,
    clients: Mutex<Vec<Weak<dyn TokenTarget>>>,
    /// Held until all clients have a token, so that an earlier one never comes after a later one.
    giving: Mutex<()>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// The token, if it has not expired by the clock of this machine. Otherwise the error names the file or the
    /// provider's host with the reason of the last failure, and when the last token expired. Does not wait or block.
    ///
    /// Call it before a client is made, and return the error if there is one. A client without a token connects to no
    /// broker, and reports nothing. So its caller would wait in vain, and not know why.
    pub fn current(&self) -> Result<Arc<Token>, TokenError> {
        self.current_at(SystemTime::now())
    }

    pub(super) fn current_at(&self, now: SystemTime) -> Result<Arc<Token>, TokenError> {
        self.state.borrow().current(now)
    }

    /// [`Tokens::current`], as soon as there is a token or a reason for its absence. Waits at most for this time.
    pub async fn wait_for_current(&self, wait: Duration) -> Result<Arc<Token>, TokenError> {
        let mut state = self.state.subscribe();
        let is_known = |state: &State| state.failure.is_some() || state.current(SystemTime::now()).is_ok();
        // If the time is up, the state says that nothing is known.
        let _ = timeout(wait, state.wait_for(is_known)).await;
        self.current()
    }

    /// Whether there was a token, which may have expired. Clients that had it may still be connected.
    pub fn had_one(&self) -> bool {
        self.state.borrow().token.is_some()
    }

    /// Gives a new client the token, and each later one. Without a token, librdkafka connects to no broker until it
    /// has one.
    pub fn adopt<T: TokenTarget + 'static>(&self, client: &Arc<T>) {
        // The lock is held until the client has the token. Otherwise it could get a later one before this one.
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client) as Weak<dyn TokenTarget>);
        if let Ok(token) = self.current() {
            set(&**client, &token);
        }
    }

    /// Changes with each [`Tokens::replace`].
    pub fn generation(&self) -> u64 {
        self.state.borrow().generation
    }

    /// The settings of the last [`Tokens::replace`].
    pub fn replaced_settings(&self) -> Option<TokenSettings> {
        self.state.borrow().settings.clone()
    }

    /// Gives all clients this token. Does nothing if the generation is another one now: the token was asked for with
    /// settings that have been replaced since. Blocks: a client whose owner leaves meanwhile is dropped here.
    pub fn renew(&self, generation: u64, token: Token) {
        self.give(token, |state| state.generation == generation);
    }

    /// Gives all clients a token that was got with other settings ([`super::fetch`]). It is renewed with those from now
    /// on, without another request before it is due. Blocks, as [`Tokens::renew`] does.
    ///
    /// Call it after the settings are in effect. Before that, the next token would be asked for with the old ones.
    pub fn replace(&self, settings: TokenSettings, token: Token) {
        self.give(token, |state| {
            state.generation += 1;
            state.settings = Some(settings);
            true
        });
    }

    /// Keeps the last token, because it may still be valid. Does nothing if the generation is another one now.
    pub fn failed(&self, generation: u64, failure: TokenError) {
        self.state.send_if_modified(|state| {
            let is_current = state.generation == generation;
            if is_current {
                state.failure = Some(failure);
            }
            is_current
        });
    }

    fn give(&self, token: Token, is_taken: impl FnOnce(&mut State) -> bool) {
        let _giving = self.giving.lock();
        let token = Arc::new(token);
        let is_taken = self.state.send_if_modified(|state| {
            let is_taken = is_taken(state);
            if is_taken {
                (state.token, state.failure) = (Some(token.clone()), None);
            }
            is_taken
        });
        if is_taken {
            let clients: Vec<_> = self.clients.lock().iter().filter_map(Weak::upgrade).collect();
            for client in clients {
                set(&*client, &token);
            }
        }
    }
}

fn set(client: &dyn TokenTarget, token: &Token) {
    if let Err(error) = client.set_token(token) {
        // The token has expired meanwhile, or settings without OAUTHBEARER are in effect now.
        tracing::debug!(error, "a client did not take the token");
    }
}

#[cfg(test)]
mod tests;

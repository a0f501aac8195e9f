//! The token that all clients share.
//!
//! Promises that each client that lives has the last token: a new one before its first connection, the others as soon
//! as the token is renewed. Does not get a token.

use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::value::{Token, TokenError};
use crate::ffi::TokenTarget;

/// The last token, and why there is no newer one.
#[derive(Debug, Clone, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// Why the last attempt failed.
    failure: Option<TokenError>,
}

/// The token of a process, and the clients that have it.
#[derive(Default)]
pub struct Tokens {
    state: watch::Sender<State>,
    clients: Mutex<Vec<Weak<dyn TokenTarget>>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Gives a new client the token, and each later one. Without a token, librdkafka connects to no broker until it
    /// has one.
    pub fn adopt<T: TokenTarget + 'static>(&self, client: &Arc<T>) {
        // The lock is held until the client has the token. Otherwise it could get a later one before this one.
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client) as Weak<dyn TokenTarget>);
        if let Some(token) = self.token() {
            set(&**client, &token);
        }
    }

    pub fn token(&self) -> Option<Arc<Token>> {
        self.state.borrow().token.clone()
    }

    /// Waits until there is a token, or a reason for its absence. Waits at most for this time. A token that has expired
    /// is one, because brokers decide on it.
    pub async fn wait_for_first(&self, wait: Duration) -> Result<(), TokenError> {
        let mut state = self.state.subscribe();
        let known = timeout(wait, state.wait_for(|state| state.token.is_some() || state.failure.is_some())).await;
        match known.as_ref().map(|state| state.as_deref()) {
            Ok(Ok(State { token: None, failure: Some(failure) })) => Err(failure.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(TokenError("its source has not answered yet".to_owned())),
        }
    }

    /// Why the brokers may reject the token: it has expired, or there is none.
    pub fn failure(&self, now: SystemTime) -> Option<TokenError> {
        let state = self.state.borrow();
        let is_valid = state.token.as_ref().is_some_and(|token| !token.has_expired(now));
        state.failure.clone().filter(|_| !is_valid)
    }

    /// Gives all clients this token. Blocks: a client whose owner leaves meanwhile is dropped here.
    pub fn renew(&self, token: Token) {
        let token = Arc::new(token);
        self.state.send_replace(State { token: Some(token.clone()), failure: None });
        let clients: Vec<_> = self.clients.lock().iter().filter_map(Weak::upgrade).collect();
        for client in clients {
            set(&*client, &token);
        }
    }

    /// Keeps the last token, because it may still be valid.
    pub fn failed(&self, failure: TokenError) {
        self.state.send_modify(|state| state.failure = Some(failure));
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

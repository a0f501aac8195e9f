//! The token of SASL OAUTHBEARER.

use std::{
    ffi::{CString, c_char},
    time::{Duration, SystemTime},
};

use rdkafka::{
    admin::AdminClient,
    bindings as c,
    error::RDKafkaErrorCode,
    producer::{Producer as _, ProducerContext, ThreadedProducer},
};

use crate::{client_context::Context, timeouts::ASSUMED_TOKEN_LIFE, token::Token};

/// A client that authenticates by a token.
pub trait TokenTarget: Send + Sync {
    /// Sets the token for the next connection or authentication. The error never has the token.
    fn set_token(&self, token: &Token) -> Result<(), String>;
}

impl TokenTarget for AdminClient<Context> {
    fn set_token(&self, token: &Token) -> Result<(), String> {
        // Safety: the client is alive.
        unsafe { set_token(self.inner().native_ptr(), token) }
    }
}

impl<C: ProducerContext + 'static> TokenTarget for ThreadedProducer<C> {
    fn set_token(&self, token: &Token) -> Result<(), String> {
        // Safety: the client is alive.
        unsafe { set_token(self.client().native_ptr(), token) }
    }
}

/// # Safety
///
/// The client is alive.
pub(super) unsafe fn set_token(client: *mut c::rd_kafka_t, token: &Token) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "a part of the token contains NUL".to_owned());
    let (value, principal) = (text(token.value())?, text(token.principal())?);
    let extensions = token.extensions().iter().flat_map(|(name, value)| [name, value]).map(|part| text(part));
    let extensions = extensions.collect::<Result<Vec<_>, _>>()?;
    let mut extensions: Vec<_> = extensions.iter().map(|part| part.as_ptr()).collect();
    // librdkafka takes no token without an expiry. It asks for a new one then, and nothing answers.
    let expires_at = token.expires_at().unwrap_or_else(|| SystemTime::now() + ASSUMED_TOKEN_LIFE);
    let millis = expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
    let millis = i64::try_from(millis).unwrap_or(i64::MAX).min(i64::MAX / 1_000);
    let mut error = [0 as c_char; 512];
    // Safety: the texts outlive the call, which copies them. The list has as many pointers as its length says.
    let code = unsafe {
        c::rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            millis,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            error.as_mut_ptr(),
            error.len(),
        )
    };
    match code {
        c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        // The text may have the token.
        code => Err(RDKafkaErrorCode::from(code).to_string()),
    }
}

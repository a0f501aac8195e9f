//! A token of an identity provider, for client credentials (RFC 6749, section 4.4).
//!
//! Promises that an error names the provider's host and has its words, without the secret. Requests have the form of
//! librdkafka's, with one difference: a scope is encoded.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use changelog_core::model::Printable;
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    https::{self, Answer, Step},
    value::{Token, TokenError},
};
use crate::{settings::OidcSettings, timeouts::ASSUMED_TOKEN_LIFE};

/// RFC 3986: what is not encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The longest text of a provider in an error.
const MAX_WORDS: usize = 300;
const REDACTED: &str = "[redacted]";

/// Asks for a token once. `limit` is for all of it.
pub async fn request(
    settings: &OidcSettings,
    limit: Duration,
    now: impl Fn() -> SystemTime,
) -> Result<Token, TokenError> {
    let host = settings.endpoint.name();
    let failed = |reason: String| TokenError(format!("identity provider {host}: {reason}"));
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &settings.scope {
        form.push_str(&format!("&scope={}", utf8_percent_encode(scope, ENCODED)));
    }
    let step = Step::default();
    let answer = https::post(&settings.endpoint, &settings.trusted, headers(settings).map_err(failed)?, form, &step);
    let answer = match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|reason| failed(settings.without_secret(&reason)))?,
        Err(_) => return Err(failed(format!("no answer within {} s: could not {}", limit.as_secs_f64(), step.name()))),
    };
    settings.token(&answer, now()).map_err(failed)
}

/// Client id and secret go as they are, as librdkafka and Java's clients send them by default. RFC 6749 would have them
/// encoded, which differs only for values with special characters.
fn headers(settings: &OidcSettings) -> Result<HeaderMap, String> {
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", settings.client_id, settings.client_secret));
    let mut authorization = HeaderValue::try_from(format!("Basic {credentials}")).map_err(|e| e.to_string())?;
    authorization.set_sensitive(true);
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let json = HeaderValue::from_static("application/json");
    Ok([(AUTHORIZATION, authorization), (CONTENT_TYPE, form), (ACCEPT, json)].into_iter().collect())
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    /// Seconds. Some providers give them as text.
    expires_in: Option<Value>,
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Denied {
    error: String,
    error_description: Option<String>,
}

impl OidcSettings {
    fn token(&self, answer: &Answer, now: SystemTime) -> Result<Token, String> {
        if answer.status.is_redirection() {
            let status = answer.status;
            return Err(format!("HTTP {status}: a redirect is not followed, because the client secret would go there"));
        }
        if answer.status != StatusCode::OK {
            return Err(self.denied(answer));
        }
        // serde's errors may have a part of the answer, and so of the token.
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.body) else {
            return Err("the answer is no JSON".to_owned());
        };
        let Ok(granted) = Granted::deserialize(answer) else {
            return Err("the answer has no access_token".to_owned());
        };
        if let Some(kind) = granted.token_type.filter(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(format!("the token's type is {}, not Bearer", self.without_secret(&kind)));
        }
        let life = granted.expires_in.as_ref().and_then(seconds);
        let token = Token::parse(&granted.access_token, life, now).map_err(|reason| format!("the token {reason}"))?;
        Ok(token.or_expiring_at(now + ASSUMED_TOKEN_LIFE))
    }

    fn denied(&self, answer: &Answer) -> String {
        let status = answer.status;
        let Ok(Denied { error, error_description }) = serde_json::from_slice(&answer.body) else {
            return format!("HTTP {status}");
        };
        let description = error_description.map(|words| format!(": {words}")).unwrap_or_default();
        format!("HTTP {status}: {}", self.without_secret(&format!("{error}{description}")))
    }

    /// A foreign text that may be shown: without the secret, in any of the forms in which it was sent, and cut.
    fn without_secret(&self, text: &str) -> String {
        let encoded = utf8_percent_encode(&self.client_secret, ENCODED).to_string();
        let credentials = BASE64_STANDARD.encode(format!("{}:{}", self.client_id, self.client_secret));
        let secrets = [&*credentials, &*encoded, &*self.client_secret];
        let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED));
        let cut: String = text.chars().take(MAX_WORDS).collect();
        let more = if cut.len() < text.len() { "…" } else { "" };
        format!("{}{more}", Printable(&cut))
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    /// More than any token lives, so that no sum overflows.
    const MAX: f64 = 10.0 * 366.0 * 86_400.0;
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX)))
}

#[cfg(test)]
mod tests;

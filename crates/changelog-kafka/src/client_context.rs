//! The context of librdkafka's clients: its log lines become ours.
//!
//! Promises that no log line goes to standard error past the log filter. Does not report errors: calls return them.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::{ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};

/// The context of admin clients and consumers. Producers have `DeliveryContext`.
#[derive(Debug, Default)]
pub struct Context {
    last_failure: Mutex<Option<(Instant, String)>>,
    throttled_until: Mutex<Option<Instant>>,
}

impl Context {
    /// Writes a log line of this client, and keeps the text of a failed connection.
    pub fn log_line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            *self.last_failure.lock() = Some((Instant::now(), format!("{message}{}", hint(message))));
        }
        log_line(level, facility, message);
    }

    /// A broker delays its answers to this client for this time.
    pub fn throttled(&self, time: Duration) {
        tracing::debug!(target: "librdkafka", ms = time.as_millis(), "a broker throttles this client");
        let until = Instant::now().checked_add(time);
        let mut throttled_until = self.throttled_until.lock();
        *throttled_until = until.max(*throttled_until);
    }

    pub fn throttled_until(&self) -> Option<Instant> {
        *self.throttled_until.lock()
    }

    /// Takes the text of the last failed connection. An admin call's own error says only that it timed out.
    pub fn take_last_failure(&self) -> Option<String> {
        self.last_failure.lock().take().map(|(_, text)| text)
    }

    /// The text of the last failed connection, if it failed at this time or later.
    pub fn failure_since(&self, time: Instant) -> Option<String> {
        self.last_failure.lock().as_ref().filter(|(at, _)| *at >= time).map(|(_, text)| text.clone())
    }
}

/// Whether librdkafka's text of a failed connection says that a broker was reached, and that the login to it failed: by
/// TLS, by SASL, or because the broker closed the connection before its first answer. A broker that does not answer is
/// none.
pub fn is_rejection(message: &str) -> bool {
    const LOGIN: [&str; 4] =
        ["in state SSL_HANDSHAKE", "in state APIVERSION_QUERY", "in state AUTH_", "in state REAUTH"];
    LOGIN.iter().any(|state| message.contains(state)) && !message.contains("imed out")
}

/// What librdkafka's text of a failed connection leaves out.
fn hint(message: &str) -> &'static str {
    // The text is the same for every certificate that librdkafka rejects, and it names only one cause.
    if message.contains("certificate verify failed") {
        return "; else the broker's certificate has expired, or is for another name";
    }
    // The name of a thread, then that of the broker: host:port/id. One that is contacted first has the id `bootstrap`.
    let text = message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, text)| text);
    let id = text.split(": ").next().and_then(|name| name.rsplit_once('/')).map(|(_, id)| id);
    let causes = ["Connect to", "resolve", "Connection setup timed out", "ApiVersionRequest failed: Local: Timed out"];
    let unreachable = causes.iter().any(|cause| text.contains(cause));
    if unreachable && id.is_some_and(|id| id.parse::<u32>().is_ok()) {
        return "; the brokers gave this address (advertised.listeners)";
    }
    ""
}

pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // Lost connections are logged at debug: librdkafka repeats them while a broker is unreachable. The topic's state
    // logs the loss once, with the cause.
    if matches!(facility, "FAIL" | "ERROR") {
        tracing::debug!(target: "librdkafka", facility, "{message}");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log_line(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

// Nothing subscribes and nothing commits, so rebalances and commits have no callbacks.
impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R53, R54.
    #[test]
    fn a_rejected_login_is_told_from_a_broker_that_is_not_reached() {
        let rejected = [
            "sasl_ssl://b:9092/1: SASL authentication error: Authentication failed (after 12ms in state AUTH_REQ)",
            "ssl://b:9093/2: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker \
             certificate could not be verified (after 5ms in state SSL_HANDSHAKE)",
            "ssl://b:9093/2: SSL_read failed: error:0A000415:SSL routines::sslv3 alert certificate expired (after 3ms \
             in state APIVERSION_QUERY)",
            "b:9092/bootstrap: Disconnected while requesting ApiVersion: might be caused by incorrect \
             security.protocol configuration (after 0ms in state APIVERSION_QUERY)",
            "sasl://b:9092/1: SASL REAUTHENTICATION failed: token expired (after 900ms in state REAUTH)",
            "sasl://b:9092/1: SaslHandshake failed: Unsupported SASL mechanism (after 1ms in state AUTH_HANDSHAKE)",
        ];
        for text in rejected {
            assert!(is_rejection(text), "{text}");
        }
        let others = [
            "b:9092/1: Connect to ipv4#10.0.0.5:9092 failed: Connection refused (after 0ms in state CONNECT)",
            "b:9092/1: Disconnected (after 5000ms in state UP)",
            "b:9092/1: Connection setup timed out in state SSL_HANDSHAKE (after 30001ms in state SSL_HANDSHAKE)",
            "b:9092/1: ApiVersionRequest failed: Local: Timed out (after 10002ms in state APIVERSION_QUERY)",
            "b:9092/1: Failed to resolve 'b:9092': Name or service not known (after 2ms in state CONNECT)",
            "1 request(s) timed out: disconnect (after 60000ms in state UP)",
        ];
        for text in others {
            assert!(!is_rejection(text), "{text}");
        }
    }

    /// Covers R7.
    #[test]
    fn only_a_failure_of_this_time_is_a_cause() {
        let context = Context::default();
        let begun = Instant::now();
        assert_eq!(context.failure_since(begun), None);
        context.log_line(RDKafkaLogLevel::Error, "FAIL", "b:9092/1: Disconnected (after 5ms in state UP)");
        assert!(context.failure_since(begun).is_some_and(|text| text.contains("Disconnected")));
        assert_eq!(context.failure_since(Instant::now() + Duration::from_millis(1)), None);
        assert!(context.failure_since(begun).is_some(), "it stays");
    }

    /// Covers R51.
    #[test]
    fn an_address_that_the_brokers_gave_is_told_from_one_of_ours() {
        let given = [
            "[thrd:kafka-0:9092/1]: kafka-0:9092/1: Failed to resolve 'kafka-0:9092': Name or service not known",
            "sasl_ssl://10.0.0.5:9092/12: Connect to ipv4#10.0.0.5:9092 failed: Connection refused (after 0ms)",
            "10.0.0.5:9092/1: Connection setup timed out in state CONNECT (after 30001ms in state CONNECT)",
        ];
        for text in given {
            assert!(hint(text).contains("advertised.listeners"), "{text}");
        }
        let others = [
            "[thrd:10.0.0.5:9092/bootstrap]: 10.0.0.5:9092/bootstrap: Connect to ipv4#10.0.0.5:9092 failed",
            "10.0.0.5:9092/1: Disconnected (after 5ms in state UP)",
            "no name",
        ];
        for text in others {
            assert_eq!(hint(text), "", "{text}");
        }
    }
}

//! The context of librdkafka's clients: its log lines become ours.
//!
//! Promises that no log line goes to standard error past the log filter. Does not report errors: calls return them.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::{ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};

/// The context of admin clients and consumers. Producers have `DeliveryContext`.
#[derive(Debug, Default)]
pub struct Context {
    last_failure: Mutex<Option<String>>,
    throttled_until: Mutex<Option<Instant>>,
}

impl Context {
    /// Writes a log line of this client, and keeps the text of a failed connection.
    pub fn log_line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            *self.last_failure.lock() = Some(format!("{message}{}", hint(message)));
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
        self.last_failure.lock().take()
    }
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

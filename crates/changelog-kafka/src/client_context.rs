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
            // librdkafka's text is the same for every certificate that it rejects, and it names only one cause.
            let hint = if message.contains("certificate verify failed") {
                "; else the broker's certificate has expired, or is for another name"
            } else {
                ""
            };
            *self.last_failure.lock() = Some(format!("{message}{hint}"));
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

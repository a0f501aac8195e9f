//! What librdkafka tells besides answers: its log lines become ours.

use std::sync::{Mutex, PoisonError};

use rdkafka::{ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};

/// The context of every client but producers.
#[derive(Debug, Default)]
pub struct Context {
    last_failure: Mutex<Option<String>>,
}

impl Context {
    /// One of librdkafka's log lines, of this client.
    pub fn line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            // librdkafka says the same of every certificate that it refuses, and thinks of one cause only.
            let hint = if message.contains("certificate verify failed") {
                "; else the broker's certificate has expired, or is for another name"
            } else {
                ""
            };
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{message}{hint}"));
        }
        log_line(level, facility, message);
    }

    /// Why a broker could last not be talked to: an admin call says only that it timed out.
    pub fn take_last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One of librdkafka's log lines.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // Lost connections, over and over while a broker is gone: the topic's state says it once, with the cause.
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
        self.line(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

// Nothing subscribes and nothing commits: there is nothing to be told of.
impl ConsumerContext for Context {}

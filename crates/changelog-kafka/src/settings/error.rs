//! What is wrong with a property.

use super::secrets::{shown_name, shown_text, shown_value};

/// A librdkafka property that is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kafka property {name}{shown}: {reason}")]
pub struct PropertyError {
    name: String,
    shown: String,
    reason: String,
}

impl PropertyError {
    /// For a setting of ours, which is no secret. Its value is left out if properties stand there.
    pub fn of_setting(name: &str, value: &str, reason: impl Into<String>) -> Self {
        let shown = shown_text(value).map(|value| format!(": {value:?}")).unwrap_or_default();
        Self { name: name.to_owned(), shown, reason: reason.into() }
    }

    /// For a client that can't be created.
    pub fn of_client(text: &str) -> Self {
        Self { name: "settings".to_owned(), shown: String::new(), reason: text.to_owned() }
    }

    /// `value` is left out if it is secret.
    pub fn new(name: &str, value: Option<&str>, reason: impl Into<String>) -> Self {
        let shown = value.and_then(|value| shown_value(name, value));
        let shown = shown.map(|value| format!(": {value:?}")).unwrap_or_default();
        Self {
            name: shown_name(name).unwrap_or("with a name that is not shown").to_owned(),
            shown,
            reason: reason.into(),
        }
    }
}

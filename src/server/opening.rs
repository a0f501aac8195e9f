//! What the ports serve while the store is opened, and from then on.

use std::sync::{Arc, OnceLock};

use changelog_core::changelog::Changelog;
use parking_lot::Mutex;

use super::Api;

/// The store, as the ports see it.
#[derive(Debug, Default)]
pub struct Opening {
    open: OnceLock<Opened>,
    progress: Mutex<Option<String>>,
}

/// What there is once the store is open.
#[derive(Debug)]
pub struct Opened {
    pub api: Api,
    pub changelog: Changelog,
}

impl Opening {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How far the opening is; `None` if that is not known.
    pub fn set_progress(&self, progress: Option<String>) {
        *self.progress.lock() = progress;
    }

    fn progress(&self) -> Option<String> {
        self.progress.lock().clone()
    }

    /// From now on the API is served. Has no effect if it is served already.
    pub fn opened(&self, open: Opened) {
        let _ = self.open.set(open);
    }

    /// What there is; before, a text that says how far the opening is.
    pub fn get(&self) -> Result<&Opened, String> {
        let not_open = || match self.progress() {
            Some(progress) => format!("the store is being opened: {progress}"),
            None => "the store is being opened".to_owned(),
        };
        self.open.get().ok_or_else(not_open)
    }
}

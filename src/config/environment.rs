//! Environment variables: where they come from, and their names.

use std::{collections::HashMap, hash::BuildHasher};

/// Environment variables: of the process, or of a test.
pub trait Environment {
    /// The value, if set.
    fn get(&self, name: &str) -> Option<String>;
    /// The value without the white space around it, if that is not empty. A mounted secret often ends in a newline, and
    /// deployments unset a variable by making it empty.
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }
    /// All names that are set.
    fn names(&self) -> Vec<String>;
}

/// The environment of the process. Values that are not UTF-8 are ignored.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl<S: BuildHasher> Environment for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// The variable of a flag.
pub fn variable(long: &str) -> String {
    format!("CHANGELOGD_{}", long.to_uppercase().replace('-', "_"))
}

//! Environment variables: where they come from, and their names.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    hash::BuildHasher,
    os::unix::ffi::OsStrExt,
};

/// Environment variables: of the process, or of a test.
pub trait Environment {
    /// The value, if set. It need not be UTF-8, because it may be a path.
    fn get(&self, name: &str) -> Option<OsString>;
    /// The value without the white space around it, if that is not empty. A mounted secret often ends in a newline, and
    /// deployments unset a variable by making it empty.
    fn value(&self, name: &str) -> Option<OsString> {
        let value = self.get(name)?;
        let trimmed = trimmed(&value);
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }
    /// All names that are set.
    fn names(&self) -> Vec<String>;
}

/// The environment of the process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl<S: BuildHasher> Environment for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<OsString> {
        HashMap::get(self, name).map(Into::into)
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// A value without the white space around it.
pub(super) fn trimmed(value: &OsStr) -> &OsStr {
    match value.to_str() {
        Some(text) => OsStr::new(text.trim()),
        None => OsStr::from_bytes(value.as_bytes().trim_ascii()),
    }
}

/// The variable of a flag.
pub fn variable(long: &str) -> String {
    format!("CHANGELOGD_{}", long.to_uppercase().replace('-', "_"))
}

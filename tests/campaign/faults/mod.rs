//! The faults, in the order of the report.

mod control;
mod down;

use std::{collections::BTreeMap, fmt};

use super::fault::Fault;

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![Box::new(control::Control), Box::new(down::Writes), Box::new(down::Loads)]
}

/// How often each answer was given.
#[derive(Debug, Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn add(&mut self, answer: &str) {
        *self.0.entry(answer.to_owned()).or_default() += 1;
    }

    fn count(&self, answer: &str) -> u64 {
        self.0.get(answer).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(answer, count)| format!("{answer} × {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

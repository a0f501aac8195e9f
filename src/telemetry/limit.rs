//! Log lines that can come thousands of times a second: the first few of each kind, and then one line with the number
//! of the others.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;

/// Counting starts again after this time.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Counts the lines of each kind.
#[derive(Debug)]
pub struct LogLimit<K> {
    /// Lines of one kind that are written in a period.
    max_lines: u64,
    lines: Mutex<HashMap<K, u64>>,
}

impl<K: Eq + Hash> LogLimit<K> {
    pub fn new(max_lines: u64) -> Self {
        Self { max_lines, lines: Mutex::default() }
    }

    /// Whether to write a line of this kind. There must be few kinds, because each is kept until the period ends.
    pub fn admits(&self, kind: K) -> bool {
        let mut lines = self.lines.lock();
        let count = lines.entry(kind).or_default();
        *count += 1;
        *count <= self.max_lines
    }

    /// Ends a period. Returns each kind with lines that were not written, and their number.
    pub fn end_period(&self) -> Vec<(K, u64)> {
        let lines = std::mem::take(&mut *self.lines.lock());
        lines.into_iter().filter(|(_, n)| *n > self.max_lines).map(|(kind, n)| (kind, n - self.max_lines)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R42.
    #[test]
    fn the_first_lines_of_each_kind_are_written_and_the_others_counted() {
        let limit = LogLimit::new(5);
        for (count, written) in [(0, 0), (1, 1), (5, 5), (6, 5), (20_000, 5)] {
            assert_eq!((0..count).filter(|_| limit.admits("a")).count(), written, "{count}");
            assert!(limit.admits("b"), "another kind");
            let left_out = limit.end_period();
            assert_eq!(left_out, if count > 5 { vec![("a", count - 5)] } else { Vec::new() });
        }
        assert_eq!(limit.end_period(), []);
    }
}

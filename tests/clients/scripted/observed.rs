//! What the server has seen of each workspace.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::pin,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tonic::metadata::MetadataMap;

/// The oldest workspace is forgotten when there are more. All packages and scenarios together have a few hundred.
const MOST_WORKSPACES: usize = 1_000;

/// The JSON that `Get` of `/observed/calls` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    calls: u64,
    timeout_ms: i64,
    cancelled: bool,
    messages: u64,
    most_mutations: usize,
    most_bytes: usize,
    #[serde(skip)]
    of_method: HashMap<&'static str, u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            calls: 0,
            timeout_ms: NO_TIMEOUT,
            cancelled: false,
            messages: 0,
            most_mutations: 0,
            most_bytes: 0,
            of_method: HashMap::new(),
        }
    }
}

const NO_TIMEOUT: i64 = -1;

#[derive(Default)]
pub struct Observed {
    /// The counts of each workspace, the oldest first.
    counts: Mutex<VecDeque<(String, Counts)>>,
    cancelled: Notify,
}

impl Observed {
    /// Counts a call. Returns how many of this method there were, with this one.
    pub fn call(&self, workspace: &str, method: &'static str, metadata: &MetadataMap) -> u64 {
        self.change(workspace, |counts| {
            counts.calls += 1;
            counts.timeout_ms = timeout_ms(metadata).unwrap_or(NO_TIMEOUT);
            let of_method = counts.of_method.entry(method).or_default();
            *of_method += 1;
            *of_method
        })
    }

    /// Counts a message of a `Write` stream.
    pub fn message(&self, workspace: &str, mutations: usize, bytes: usize) {
        self.change(workspace, |counts| {
            counts.messages += 1;
            counts.most_mutations = counts.most_mutations.max(mutations);
            counts.most_bytes = counts.most_bytes.max(bytes);
        });
    }

    /// A part of a call that does not end. That it is dropped means that the call was cancelled.
    pub fn no_end<T>(self: Arc<Self>, workspace: String) -> impl Future<Output = T> + Send {
        let call = Unended { observed: self, workspace };
        async move {
            let _call = call;
            pending().await
        }
    }

    pub fn of(&self, workspace: &str) -> Counts {
        let all = self.counts.lock();
        let found = all.iter().find(|(name, _)| name == workspace);
        found.map_or_else(Counts::default, |(_, counts)| counts.clone())
    }

    /// Waits until a call of this workspace that does not end was cancelled.
    pub async fn cancelled(&self, workspace: &str) {
        loop {
            let mut cancelled = pin!(self.cancelled.notified());
            // A cancellation from here on is noticed.
            cancelled.as_mut().enable();
            if self.of(workspace).cancelled {
                return;
            }
            cancelled.await;
        }
    }

    fn change<T>(&self, workspace: &str, change: impl FnOnce(&mut Counts) -> T) -> T {
        let mut all = self.counts.lock();
        let at = all.iter().position(|(name, _)| name == workspace).unwrap_or_else(|| {
            if all.len() == MOST_WORKSPACES {
                all.pop_front();
            }
            all.push_back((workspace.to_owned(), Counts::default()));
            all.len() - 1
        });
        change(&mut all[at].1)
    }
}

struct Unended {
    observed: Arc<Observed>,
    workspace: String,
}

impl Drop for Unended {
    fn drop(&mut self) {
        self.observed.change(&self.workspace, |counts| counts.cancelled = true);
        self.observed.cancelled.notify_waiters();
    }
}

/// The header `grpc-timeout`: a number and its unit.
pub fn timeout_ms(metadata: &MetadataMap) -> Option<i64> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok()?;
    match unit {
        "H" => Some(number.saturating_mul(3_600_000)),
        "M" => Some(number.saturating_mul(60_000)),
        "S" => Some(number.saturating_mul(1_000)),
        "m" => Some(number),
        "u" => Some(number / 1_000),
        "n" => Some(number / 1_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_read_in_each_unit() {
        let units = [("2H", 7_200_000), ("3M", 180_000), ("5S", 5_000), ("4990m", 4_990)];
        for (text, expected) in units.into_iter().chain([("4990123u", 4_990), ("4990123456n", 4_990)]) {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(timeout_ms(&metadata), Some(expected), "{text}");
        }
        assert_eq!(timeout_ms(&MetadataMap::new()), None);
    }

    #[test]
    fn counts_are_kept_by_workspace_and_method() {
        let observed = Observed::default();
        let call = |workspace, method| observed.call(workspace, method, &MetadataMap::new());
        assert_eq!([call("a", "Set"), call("a", "Get"), call("a", "Set"), call("b", "Set")], [1, 1, 2, 1]);
        observed.message("b", 3, 70);
        observed.message("b", 2, 90);
        let json = |workspace| serde_json::to_value(observed.of(workspace)).unwrap();
        let expected = serde_json::json!({
            "calls": 3, "timeoutMs": -1, "cancelled": false, "messages": 0, "mostMutations": 0, "mostBytes": 0,
        });
        assert_eq!(json("a"), expected);
        let expected = serde_json::json!({
            "calls": 1, "timeoutMs": -1, "cancelled": false, "messages": 2, "mostMutations": 3, "mostBytes": 90,
        });
        assert_eq!(json("b"), expected);
        assert_eq!(observed.of("never seen"), Counts::default());
    }

    #[test]
    fn the_oldest_workspace_is_forgotten() {
        let observed = Observed::default();
        for i in 0..=MOST_WORKSPACES {
            observed.message(&i.to_string(), 1, 1);
        }
        assert_eq!(observed.counts.lock().len(), MOST_WORKSPACES);
        assert_eq!((observed.of("0").messages, observed.of("1").messages), (0, 1));
    }
}

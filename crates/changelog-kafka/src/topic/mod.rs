//! The topic: a watcher queries it once a second, and decides whether this process may serve it.
//!
//! librdkafka does not notice that a topic was deleted and created again, and notices a new partition count late. So
//! the id and the count are queried from a broker and remembered. A change of either is final for the process. A wrong
//! policy, an unexpected count at start, or a missing topic can be fixed while the process runs.
//!
//! Does not read records: replays report foreign records to it.

mod config;
mod describe;
mod evaluate;
mod findings;
mod leaders;
mod watcher;

pub use leaders::LeaderObservation;
pub use watcher::TopicWatcher;

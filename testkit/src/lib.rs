//! What tests, the fault campaign and the benchmarks share: a real Apache Kafka ([`Broker`], [`Cluster`], [`guarded`]),
//! Java's own client to compare with ([`Oracle`]), Kafka's tools ([`kafka_tool`]), network faults ([`Proxy`]), inputs
//! of fuzz targets ([`fuzz`]), the code blocks of documents ([`markdown`]), and small things.
//!
//! ```ignore
//! let broker = changelogd_testkit::shared_broker();
//! let oracle = changelogd_testkit::shared_oracle();
//! let topic = changelogd_testkit::unique_topic("orders");
//! oracle.create(broker.bootstrap(), &topic, 10, 1, &[("cleanup.policy", "compact")])?;
//! ```
//!
//! Calls of brokers and of the oracle block. A test on a current-thread runtime that needs its other tasks meanwhile
//! wraps them in `spawn_blocking`. No broker outlives its test process, however that ends.
//!
//! Does not: know anything of changelogd.

mod broker;
mod cluster;
mod files;
pub mod fuzz;
pub mod guarded;
pub mod identity_provider;
mod java;
mod kafka_tools;
mod keytool;
pub mod markdown;
pub mod mutual_tls;
mod older;
pub mod oracle;
mod process;
mod proxy;
mod random;
mod run_dir;
mod settled;
mod signals;
mod skipped;
mod watched;

pub use broker::{Broker, shared_broker, unique_topic};
pub use cluster::{BROKERS, Cluster};
pub use files::{remove_tree, workspace_root};
pub use java::{OLDER_KAFKA, expected_kafka, fetch_older};
pub use kafka_tools::kafka_tool;
pub use older::{OlderBrokers, Release};
pub use oracle::{Isolation, Oracle, OracleError, shared_oracle};
pub use process::binary_under_test;
pub use proxy::{Mode, Proxy};
pub use random::Random;
pub use settled::settled;
pub use signals::stopped;
pub use skipped::{SKIPPED, skipped, skipped_test};
pub use watched::{SnapshotFacts, Watched, Written};

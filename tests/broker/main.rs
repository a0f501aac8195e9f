//! Tests that need a real Apache Kafka or other tools: Java's client, kcat, npm data, grpcurl, buf, jq.

// Pedantic lints are for what ships. Tests say what they measured.
#![allow(clippy::pedantic, clippy::print_stdout)]

mod alerts;
mod authorization;
mod cities;
mod clients;
mod console;
#[path = "../contract/mod.rs"]
mod contract;
mod cookbook;
mod end_offset;
mod exact;
mod given_addresses;
mod kafka_tools;
mod kit;
mod log;
mod log_truncation;
mod metrics;
mod oauth;
mod older_brokers;
mod oracle;
mod producers;
mod prometheus;
mod promql;
mod quotas;
mod readme;
mod replaced_credentials;
mod servers;
mod topic_care;
mod topic_command;
mod topic_identity;
mod topic_limits;
mod watch_outages;
mod watches;

contract!(broker, crate::servers::real, durable, foreign);
contract!(broker_over_the_wire, crate::servers::real_process, durable, foreign);
contract!(broker_like_2_1, crate::older_brokers::like_kafka_2_1, durable);

/// Printed once, so that the output of a run names the broker that it used.
/// Covers R36.
#[test]
fn the_broker_is_a_real_apache_kafka() {
    let version = changelogd_testkit::shared_broker().version();
    println!("broker: Apache Kafka {version}");
    let expected = changelogd_testkit::expected_kafka();
    assert!(version.starts_with(&expected), "{version}, expected is {expected}");
}

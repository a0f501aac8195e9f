//! Safe functions over the parts of librdkafka's C API that rust-rdkafka does not wrap. All unsafe code of the program
//! is here.
//!
//! - ListOffsets with an isolation level for each request.
//! - DescribeTopics with topic ids, and what a broker says about a topic that it does not create or alter.
//! - Polling that keeps the offset of an end-of-partition event, and header names that are not UTF-8.
//! - The persistence status of a failed write.
//! - Throttle times of fetches.
//! - The token of SASL OAUTHBEARER.
//!
//! Does not retry, and does not decide what an error means.

#![allow(unsafe_code)]

mod admin;
mod consumer;
mod logs;
mod message;
mod native;
mod produce;
#[cfg(test)]
mod properties;
mod token;
mod topics;

pub use admin::{
    DescribedPartition, DescribedTopic, FromMetadata, OffsetSpec, PartitionOffset, describe_from_metadata,
    describe_topic, given_addresses, list_offsets,
};
pub use consumer::{Consumer, set_leader_epoch};
pub use logs::{poll_logs, redirect_logs};
pub use native::NativeError;
pub use produce::{Persistence, persistence};
#[cfg(test)]
pub use produce::{inject_fatal_error, produce_with_header};
#[cfg(test)]
pub use properties::documented_properties;
pub use token::TokenTarget;
pub use topics::{alter_topic, broker_count, create_topic};

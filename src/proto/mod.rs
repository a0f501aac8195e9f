//! The generated API.

use std::ops::RangeInclusive;

/// Implements a trait with its defaults for the messages that have no lists, and of which a write keeps nothing.
/// Answers are decoded by clients. A mutation is decoded with its message.
macro_rules! for_other_messages {
    ($implemented:ident) => {
        for_other_messages!($implemented:
            Mutation, GetRequest, FlushRequest, DescribeRequest, WatchRequest,
            SetResponse, DeleteResponse, WriteResponse, LoadWorkspaceResponse, StreamAllResponse,
            GetResponse, FlushResponse, DescribeResponse, WatchResponse);
    };
    ($implemented:ident: $($message:ident),*) => { $(impl $implemented for v1::$message {})* };
}

mod codec;
mod encoded_value;
mod entry_batch;
mod error;
mod list_limits;
mod shared_bytes;
#[cfg(test)]
pub mod testing;

use tonic::Code;

/// `google.rpc.ErrorInfo.domain` of our errors.
pub const DOMAIN: &str = "changelogd";

/// The package `changelog.v1`, which `proto/changelog.proto` documents.
pub mod changelog {
    #[allow(clippy::all, clippy::pedantic)]
    pub mod v1 {
        pub use crate::proto::EntryBatch;
        tonic::include_proto!("changelog.v1");
    }
}

pub use changelog::v1;
pub use codec::{Codec, Decoded};
pub use encoded_value::{EncodedValue, value_fields};
pub use entry_batch::{EntryBatch, EntryBatchEncoder};
pub use list_limits::Lists;
pub use shared_bytes::SharedBytes;

/// The seconds of the years 1 to 9999. Protobuf allows no others, and clients fail to read a message that has some.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A timestamp from milliseconds since 1970. `None` if protobuf does not allow it: other writers of a topic can give
/// their records any number, such as microseconds.
pub fn timestamp(millis: i64) -> Option<prost_types::Timestamp> {
    let seconds = millis.div_euclid(1000);
    let nanos = (millis.rem_euclid(1000) * 1_000_000) as i32;
    TIMESTAMP_SECONDS.contains(&seconds).then_some(prost_types::Timestamp { seconds, nanos })
}

/// The compiled descriptors, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("changelog");

/// A status code as the gRPC specification writes it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

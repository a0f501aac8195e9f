//! The status in the headers or trailers of a response.
//!
//! Promises: each error that a client receives has our ErrorInfo, also one that the gRPC library makes. Each client
//! reads the same text of a message.
//! Does not: change the code or the text of a status that is ours.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, uri::PathAndQuery};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{request_head::Rpc, request_memory::MAX_PROBE_BYTES};
use crate::{
    proto::DOMAIN,
    service::{
        CallStats, bad_argument, encoding_unsupported, fault_of_write, internal_fault, message_too_large, name_unknown,
        not_framed, not_implemented, unknown_method,
    },
};

/// Bytes of `grpc-message` that are percent-encoded, besides those outside ASCII (gRPC over HTTP/2, Percent-Encoded).
/// Node's library doesn't decode `?`, `#` and others if they are encoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// What the status of a call needs to know of its request.
#[derive(Debug)]
pub struct StatusHeaders {
    rpc: Rpc,
    path: Option<PathAndQuery>,
    encoding: Option<HeaderValue>,
    max_request_bytes: u64,
    stats: Arc<CallStats>,
}

impl StatusHeaders {
    /// `max_request_bytes` is that of the API.
    pub fn new<B>(rpc: Rpc, request: &Request<B>, max_request_bytes: u64, stats: &Arc<CallStats>) -> Self {
        let path = request.uri().path_and_query().cloned();
        let encoding = request.headers().get(ENCODING).cloned();
        let max_request_bytes = if rpc.ours { max_request_bytes } else { MAX_PROBE_BYTES as u64 };
        Self { rpc, path, encoding, max_request_bytes, stats: stats.clone() }
    }

    /// Returns the status in the headers, if they have one. Adds what is missing in the status of an error.
    pub fn complete(&self, headers: &mut HeaderMap) -> Option<Status> {
        let mut status = Status::from_header_map(headers)?;
        // A call is cancelled by its client, which receives no status.
        if matches!(status.code(), Code::Ok | Code::Cancelled) {
            return Some(status);
        }
        if status.get_error_details().error_info().is_none_or(|info| info.domain != DOMAIN) {
            status = self.of_library(&status);
            // Fails only for bytes that no message has once it is encoded.
            let _ = status.add_header(headers);
        }
        encode_message(headers, &status);
        Some(status)
    }

    /// The same status with our reason.
    fn of_library(&self, status: &Status) -> Status {
        let (rpc, text) = (self.rpc.name, status.message());
        match status.code() {
            Code::OutOfRange => message_too_large(rpc, self.max_request_bytes, self.stats.too_large_message()),
            // The decompressed message is larger. Nothing else of the library has this code.
            Code::ResourceExhausted => message_too_large(rpc, self.max_request_bytes, None),
            Code::Unimplemented => match status.metadata().get(ACCEPT_ENCODING) {
                Some(accepted) => {
                    let encoding = self.encoding.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()));
                    encoding_unsupported(&encoding.unwrap_or_default(), accepted.to_str().unwrap_or_default())
                }
                None => unknown_method(self.path.as_ref().map_or(rpc, PathAndQuery::path)),
            },
            Code::Internal => not_framed(rpc, text),
            Code::NotFound => of_reflection(text),
            Code::InvalidArgument => bad_argument("message_request", text),
            _ => fault(self.rpc),
        }
    }
}

/// What reflection does not find. Its text has the name as the client sent it.
fn of_reflection(text: &str) -> Status {
    // The API has none.
    if text == "extensions are not supported" {
        return not_implemented("reflection: extensions are not supported");
    }
    let named = |kind: &str| text.strip_prefix(kind)?.strip_prefix(" '")?.strip_suffix("' not found");
    match (named("symbol"), named("file")) {
        (Some(symbol), _) => name_unknown("reflection has no symbol", symbol),
        (_, Some(file)) => name_unknown("reflection has no file", file),
        _ => name_unknown("reflection does not find this:", text),
    }
}

/// The status of a call that panicked.
pub fn fault(rpc: Rpc) -> Status {
    match rpc.name {
        "Set" | "Delete" => fault_of_write(rpc.name),
        _ => internal_fault(rpc.name),
    }
}

/// Replaces the library's encoding of the message.
pub fn encode_message(headers: &mut HeaderMap, status: &Status) {
    let encoded = utf8_percent_encode(status.message(), ENCODED).to_string();
    // Header values must not begin or end with white space (RFC 9113, 8.2.1).
    let start = encoded.len() - encoded.trim_start_matches(' ').len();
    let inner = encoded.trim_matches(' ');
    let end = encoded.len() - start - inner.len();
    let value = ["%20".repeat(start).as_str(), inner, "%20".repeat(end).as_str()].concat();
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(Status::GRPC_MESSAGE, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(message: &str) -> String {
        let mut headers = HeaderMap::new();
        encode_message(&mut headers, &Status::new(Code::Internal, message));
        headers[Status::GRPC_MESSAGE].to_str().unwrap().to_owned()
    }

    /// Covers C78.
    #[test]
    fn only_the_bytes_that_the_specification_names_are_encoded() {
        for (message, on_the_wire) in [
            ("was \"/t/i\" meant?", "was \"/t/i\" meant?"),
            ("a#b; {c} <d> `e` ~", "a#b; {c} <d> `e` ~"),
            ("100 % of %3F", "100 %25 of %253F"),
            ("a\nb\tc\u{7f}", "a%0Ab%09c%7F"),
            ("caf\u{e9}…", "caf%C3%A9%E2%80%A6"),
            (" a b  ", "%20a b%20%20"),
            ("  ", "%20%20"),
            ("", ""),
        ] {
            assert_eq!(encoded(message), on_the_wire);
        }
    }

    proptest! {
        /// Covers C78.
        #[test]
        fn each_message_survives_its_encoding(message in "\\PC{0,40}|[ -~]{0,40}|(?s).{0,40}") {
            let on_the_wire = encoded(&message);
            prop_assert!(on_the_wire.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "{on_the_wire}");
            prop_assert_eq!(on_the_wire.trim(), &on_the_wire);
            let decoded = percent_encoding::percent_decode_str(&on_the_wire).decode_utf8().unwrap();
            prop_assert_eq!(decoded, message);
        }
    }
}

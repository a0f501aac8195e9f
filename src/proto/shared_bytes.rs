//! Values and headers that are parts of their message's buffer. They keep the whole buffer in memory.
//!
//! Promise: what the queue of the log holds takes at most a quarter more than what is counted for it. A small value of
//! a large message is copied. The rest of the message may be other mutations, or fields that nobody knows.

use bytes::Bytes;

use super::v1;

/// A part that has at least four fifths of its message is not copied.
fn copy_if_small(part: &mut Bytes, message_bytes: usize) {
    if message_bytes - message_bytes / 5 > part.len() {
        *part = Bytes::copy_from_slice(part);
    }
}

/// A message, after it was decoded.
pub trait SharedBytes {
    /// Copies what a write keeps, unless it is nearly all of the message.
    fn copy_small_parts(&mut self, _message_bytes: usize) {}
}

fn copy_headers(headers: &mut [v1::Header], message_bytes: usize) {
    for value in headers.iter_mut().filter_map(|header| header.value.as_mut()) {
        copy_if_small(value, message_bytes);
    }
}

impl SharedBytes for v1::SetRequest {
    fn copy_small_parts(&mut self, message_bytes: usize) {
        if let Some(v1::set_request::Value::Raw(raw)) = &mut self.value {
            copy_if_small(raw, message_bytes);
        }
        copy_headers(&mut self.headers, message_bytes);
    }
}

impl SharedBytes for v1::DeleteRequest {
    fn copy_small_parts(&mut self, message_bytes: usize) {
        copy_headers(&mut self.headers, message_bytes);
    }
}

impl SharedBytes for v1::WriteRequest {
    fn copy_small_parts(&mut self, message_bytes: usize) {
        for mutation in &mut self.mutations {
            if let Some(v1::mutation::Change::Raw(raw)) = &mut mutation.change {
                copy_if_small(raw, message_bytes);
            }
            copy_headers(&mut mutation.headers, message_bytes);
        }
    }
}

macro_rules! nothing_is_kept {
    ($($message:ty),*) => { $(impl SharedBytes for $message {})* };
}

// These end with their call, whose message is counted until then. Answers are decoded by clients.
nothing_is_kept!(
    v1::Mutation,
    v1::LoadWorkspaceRequest,
    v1::StreamAllRequest,
    v1::GetRequest,
    v1::FlushRequest,
    v1::DescribeRequest,
    v1::WatchRequest,
    v1::SetResponse,
    v1::DeleteResponse,
    v1::WriteResponse,
    v1::LoadWorkspaceResponse,
    v1::StreamAllResponse,
    v1::GetResponse,
    v1::FlushResponse,
    v1::DescribeResponse,
    v1::WatchResponse
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use v1::{mutation::Change, set_request::Value};

    use super::*;

    /// Decodes as the server does. Checks what the parts keep, besides their own bytes.
    fn check<M: Message + Default + SharedBytes>(
        message: &M,
        unknown: usize,
        parts: impl Fn(&M) -> Vec<Bytes>,
    ) -> Result<(), TestCaseError> {
        let mut encoded = message.encode_to_vec();
        prost::encoding::bytes::encode(1_000, &vec![7; unknown], &mut encoded);
        let encoded = Bytes::from(encoded);
        let mut decoded = M::decode(encoded.clone()).unwrap();
        decoded.copy_small_parts(encoded.len());
        prop_assert_eq!(parts(&decoded), parts(message));
        let of_message = encoded.as_ptr_range();
        for part in parts(&decoded).into_iter().filter(|part| of_message.contains(&part.as_ptr())) {
            prop_assert!(encoded.len() <= part.len() + part.len() / 4 + 1, "{} of {}", part.len(), encoded.len());
        }
        Ok(())
    }

    proptest! {
        /// Covers S19.
        #[test]
        fn what_a_write_keeps_is_nearly_all_of_the_buffer_that_it_keeps(
            sizes in prop::collection::vec((0..3_000_usize, 0..300_usize), 1..5),
            unknown in prop_oneof![Just(0), 0..20_000_usize],
        ) {
            let bytes = |size| Bytes::from(vec![1; size]);
            let header = |size| v1::Header { key: "h".to_owned(), value: Some(bytes(size)) };
            let of_headers = |all: &[v1::Header]| all.iter().filter_map(|h| h.value.clone()).collect::<Vec<_>>();
            let headers: Vec<_> = sizes.iter().map(|(_, size)| header(*size)).collect();
            let raw = Some(Value::Raw(bytes(sizes[0].0)));
            check(&v1::SetRequest { value: raw, headers: headers.clone(), ..Default::default() }, unknown, |set| {
                let Some(Value::Raw(raw)) = &set.value else { return of_headers(&set.headers) };
                [vec![raw.clone()], of_headers(&set.headers)].concat()
            })?;
            check(&v1::DeleteRequest { headers, ..Default::default() }, unknown, |delete| of_headers(&delete.headers))?;
            let mutation = |(value, size): &(usize, usize)| v1::Mutation {
                change: Some(Change::Raw(bytes(*value))),
                headers: vec![header(*size)],
                ..Default::default()
            };
            check(&v1::WriteRequest { mutations: sizes.iter().map(mutation).collect() }, unknown, |write| {
                let parts = |m: &v1::Mutation| {
                    let Some(Change::Raw(raw)) = &m.change else { return of_headers(&m.headers) };
                    [vec![raw.clone()], of_headers(&m.headers)].concat()
                };
                write.mutations.iter().flat_map(parts).collect()
            })?;
        }
    }
}

//! Values and headers of a request share the buffer of their message, and keep it in memory.
//!
//! Promise: a queued write takes at most a quarter more than the queue of the log counts for it. If the rest of a
//! message is larger than that, they are copied. The rest may be long names, or fields that the server does not know.

use bytes::{Bytes, BytesMut};

use super::v1;

/// A message, after it was decoded.
pub trait SharedBytes {
    /// What a write keeps of it.
    fn kept(&mut self) -> impl Iterator<Item = &mut Bytes> {
        std::iter::empty()
    }

    /// Copies what a write keeps, unless it is nearly all of the message. The copies share one buffer, because they are
    /// written at about the same time, and one allocation is cheap.
    fn release_message(&mut self, message_bytes: usize) {
        let kept: usize = self.kept().map(|part| part.len()).sum();
        if kept >= message_bytes - message_bytes / 5 {
            return;
        }
        let mut copies = BytesMut::with_capacity(kept);
        for part in self.kept() {
            copies.extend_from_slice(part);
        }
        let mut copies = copies.freeze();
        for part in self.kept() {
            *part = copies.split_to(part.len());
        }
    }
}

fn values(headers: &mut [v1::Header]) -> impl Iterator<Item = &mut Bytes> {
    headers.iter_mut().filter_map(|header| header.value.as_mut())
}

impl SharedBytes for v1::SetRequest {
    fn kept(&mut self) -> impl Iterator<Item = &mut Bytes> {
        let raw = match &mut self.value {
            Some(v1::set_request::Value::Raw(raw)) => Some(raw),
            _ => None,
        };
        raw.into_iter().chain(values(&mut self.headers))
    }
}

impl SharedBytes for v1::DeleteRequest {
    fn kept(&mut self) -> impl Iterator<Item = &mut Bytes> {
        values(&mut self.headers)
    }
}

impl SharedBytes for v1::WriteRequest {
    fn kept(&mut self) -> impl Iterator<Item = &mut Bytes> {
        self.mutations.iter_mut().flat_map(|mutation| {
            let raw = match &mut mutation.change {
                Some(v1::mutation::Change::Raw(raw)) => Some(raw),
                _ => None,
            };
            raw.into_iter().chain(values(&mut mutation.headers))
        })
    }
}

// Reads end with their call, whose message is counted until then.
impl SharedBytes for v1::LoadWorkspaceRequest {}
impl SharedBytes for v1::StreamAllRequest {}
for_other_messages!(SharedBytes);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use v1::{mutation::Change, set_request::Value};

    use super::*;

    /// Decodes as the server does. Checks what the kept parts keep, besides their own bytes.
    fn check<M: Message + Default + SharedBytes>(mut message: M, unknown: usize) -> Result<(), TestCaseError> {
        let mut encoded = message.encode_to_vec();
        prost::encoding::bytes::encode(1_000, &vec![7; unknown], &mut encoded);
        let encoded = Bytes::from(encoded);
        let mut decoded = M::decode(encoded.clone()).unwrap();
        decoded.release_message(encoded.len());
        let of_message = encoded.as_ptr_range();
        let (mut kept, mut in_message, mut starts, mut ends) = (0, false, Vec::new(), Vec::new());
        for (part, sent) in decoded.kept().zip(message.kept()) {
            prop_assert_eq!(&*part, sent);
            if !part.is_empty() {
                kept += part.len();
                in_message |= of_message.contains(&part.as_ptr());
                starts.push(part.as_ptr() as usize);
                ends.push(part.as_ptr() as usize + part.len());
            }
        }
        if in_message {
            prop_assert!(encoded.len() <= kept + kept / 4 + 1, "{kept} of {}", encoded.len());
        } else if let (Some(start), Some(end)) = (starts.iter().min(), ends.iter().max()) {
            prop_assert_eq!(end - start, kept, "one buffer, with nothing else");
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
            let headers: Vec<_> = sizes.iter().map(|(_, size)| header(*size)).collect();
            let raw = Some(Value::Raw(bytes(sizes[0].0)));
            check(v1::SetRequest { value: raw, headers: headers.clone(), ..Default::default() }, unknown)?;
            check(v1::DeleteRequest { headers, ..Default::default() }, unknown)?;
            let mutation = |(value, size): &(usize, usize)| v1::Mutation {
                change: Some(Change::Raw(bytes(*value))),
                headers: vec![header(*size)],
                ..Default::default()
            };
            check(v1::WriteRequest { mutations: sizes.iter().map(mutation).collect() }, unknown)?;
        }
    }
}

//! The message `google.protobuf.Value`, as its bytes.
//!
//! Decoded to messages, a value takes many times its bytes. A request could fill the memory with them before anything
//! could count them. So a value is kept encoded, and converted step by step.

use std::fmt;

use bytes::{Buf, BufMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint, skip_field},
};
use prost_types::Value;

/// Numbers of the fields of Value, ListValue, Struct, and the entries of its map (google/protobuf/struct.proto).
pub mod value_fields {
    pub const NULL: u32 = 1;
    pub const NUMBER: u32 = 2;
    pub const STRING: u32 = 3;
    pub const BOOL: u32 = 4;
    pub const STRUCT: u32 = 5;
    pub const LIST: u32 = 6;
    pub const ELEMENTS: u32 = 1;
    pub const FIELDS: u32 = 1;
    pub const FIELD_KEY: u32 = 1;
    pub const FIELD_VALUE: u32 = 2;
}

/// An encoded `google.protobuf.Value`. Its inner messages are not checked.
#[derive(Clone, Default, PartialEq)]
pub struct EncodedValue(Vec<u8>);

impl fmt::Debug for EncodedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedValue({} bytes)", self.0.len())
    }
}

impl EncodedValue {
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Makes room for a field with so many bytes. A value in one field gets exactly that. One in many small fields must
    /// not be copied for each, nor be copied while half of it is there: so it gets room for four times as much, and for
    /// no more than `rest`, what is left of the message around it.
    fn make_room(&mut self, bytes: usize, rest: usize) {
        // With the longest key and length.
        let needed = bytes.saturating_add(20);
        if self.0.capacity() - self.0.len() < needed {
            self.0.reserve_exact(needed.max(rest.min(3 * self.0.len())));
        }
    }

    /// The value as messages.
    pub fn decode_value(&self) -> Result<Value, DecodeError> {
        Value::decode(&*self.0)
    }
}

impl From<&Value> for EncodedValue {
    fn from(value: &Value) -> Self {
        Self(value.encode_to_vec())
    }
}

impl Message for EncodedValue {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let (bytes, length) = match wire_type {
            WireType::Varint => {
                let number = decode_varint(buf)?;
                self.make_room(0, buf.remaining());
                encode_key(tag, wire_type, &mut self.0);
                encode_varint(number, &mut self.0);
                return Ok(());
            }
            WireType::SixtyFourBit => (8, None),
            WireType::ThirtyTwoBit => (4, None),
            WireType::LengthDelimited => {
                let length = decode_varint(buf)?;
                (usize::try_from(length).unwrap_or(usize::MAX), Some(length))
            }
            // A group is not known here, so it is left out.
            WireType::StartGroup | WireType::EndGroup => return skip_field(wire_type, tag, buf, ctx),
        };
        if bytes > buf.remaining() {
            // It is an error, and its text is prost's.
            return skip_field(WireType::SixtyFourBit, tag, &mut &[][..], ctx);
        }
        self.make_room(bytes, buf.remaining());
        encode_key(tag, wire_type, &mut self.0);
        if let Some(length) = length {
            encode_varint(length, &mut self.0);
        }
        self.0.put(buf.take(bytes));
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::testing::a_value;

    proptest! {
        #[test]
        fn a_decoded_value_has_the_bytes_of_its_message(value in a_value()) {
            let bytes = value.encode_to_vec();
            let decoded = EncodedValue::decode(&*bytes).unwrap();
            prop_assert_eq!(decoded.bytes(), &bytes);
            prop_assert_eq!(decoded.encode_to_vec(), bytes);
        }

        /// Covers C58.
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let decoded = EncodedValue::decode(&*bytes);
            if let (Ok(decoded), Ok(value)) = (&decoded, Value::decode(&*bytes)) {
                prop_assert_eq!(decoded.decode_value().unwrap(), value);
            }
            prop_assert!(decoded.is_ok() || Value::decode(&*bytes).is_err(), "it refuses no more");
        }
    }
}

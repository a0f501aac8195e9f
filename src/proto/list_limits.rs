//! Lists of a request that are far too long, found in its bytes before it is decoded.
//!
//! An entry of two bytes takes a hundred in memory, or more. Counted after decoding, a list has taken it already. A
//! list that is just above its limit is decoded, and then refused with the number of its entries.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::v1;

/// A list of a message.
#[derive(Debug)]
pub struct List {
    name: &'static str,
    number: u32,
    /// The limit in the documents.
    limit: usize,
    /// More are not decoded. Lists in entries of a list are counted together.
    most: usize,
    nested: Option<&'static List>,
}

/// A list that has far too many entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} has more than {most} entries, at most {limit} are allowed")]
pub struct TooMany {
    pub name: &'static str,
    pub limit: usize,
    pub most: usize,
}

/// A message of the API, and its lists.
pub trait Lists {
    const LISTS: &'static [List] = &[];
}

const HEADERS: List = List { name: "headers", number: 5, limit: 64, most: 1_000, nested: None };
const ENTITY_TYPES: List = List { name: "entity_types", number: 3, limit: 10_000, most: 20_000, nested: None };

impl Lists for v1::SetRequest {
    const LISTS: &'static [List] = &[HEADERS];
}

impl Lists for v1::DeleteRequest {
    const LISTS: &'static [List] = &[List { number: 3, ..HEADERS }];
}

impl Lists for v1::WriteRequest {
    const LISTS: &'static [List] = &[List {
        name: "mutations",
        number: 1,
        limit: 1_000,
        most: 2_000,
        nested: Some(&List { number: 7, most: 64_000, ..HEADERS }),
    }];
}

impl Lists for v1::LoadWorkspaceRequest {
    const LISTS: &'static [List] = &[List { number: 2, ..ENTITY_TYPES }];
}

impl Lists for v1::StreamAllRequest {
    const LISTS: &'static [List] = &[
        List { name: PARTITIONS, number: 1, ..ENTITY_TYPES },
        List { name: "workspace_ids", number: 2, ..ENTITY_TYPES },
        ENTITY_TYPES,
    ];
}

/// The only list of numbers.
const PARTITIONS: &str = "partitions";

for_other_messages!(Lists);

/// Counts the lists of an encoded message. What is malformed is left to the decoder.
pub fn check(message: &[u8], lists: &[List]) -> Result<(), TooMany> {
    lists.iter().try_for_each(|list| count(message, list, &mut Counts::default()))
}

/// Entries of a list, and of the lists in its entries.
#[derive(Default)]
struct Counts {
    entries: usize,
    nested: Option<Box<Counts>>,
}

fn count(message: &[u8], list: &List, counts: &mut Counts) -> Result<(), TooMany> {
    let mut rest = message;
    while !rest.is_empty() {
        let Some((number, content)) = next_field(&mut rest) else { return Ok(()) };
        if number != list.number {
            continue;
        }
        counts.entries += match content {
            // Numbers are packed: each ends with a byte below 128.
            Some(packed) if list.name == PARTITIONS => packed.iter().filter(|byte| **byte < 0x80).count(),
            _ => 1,
        };
        if counts.entries > list.most {
            return Err(TooMany { name: list.name, limit: list.limit, most: list.most });
        }
        if let (Some(nested), Some(entry)) = (list.nested, content) {
            count(entry, nested, counts.nested.get_or_insert_default())?;
        }
    }
    Ok(())
}

/// The number of the next field, and its bytes if it is length-delimited. `None` if it is malformed.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let (number, wire_type) = decode_key(rest).ok()?;
    let bytes = match wire_type {
        WireType::Varint => return decode_varint(rest).ok().map(|_| (number, None)),
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        // What is in a group is not known to the messages. Its fields are counted, too.
        WireType::StartGroup | WireType::EndGroup => return Some((0, None)),
    };
    let (content, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some((number, (wire_type == WireType::LengthDelimited).then_some(content)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn checked<M: Message + Lists>(message: &M) -> Result<(), &'static str> {
        check(&message.encode_to_vec(), M::LISTS).map_err(|too_many| too_many.name)
    }

    fn headers(count: usize) -> Vec<v1::Header> {
        vec![v1::Header::default(); count]
    }

    /// Covers S19.
    #[test]
    fn a_list_is_refused_exactly_if_it_has_far_too_many_entries() {
        for (over, expected) in [(0, None), (1, Some(()))] {
            let refused = |name| expected.map_or(Ok(()), |()| Err(name));
            let set = v1::SetRequest { headers: headers(1_000 + over), ..Default::default() };
            assert_eq!(checked(&set), refused("headers"));
            let delete = v1::DeleteRequest { headers: headers(1_000 + over), ..Default::default() };
            assert_eq!(checked(&delete), refused("headers"));
            let of = |count| v1::Mutation { headers: headers(count), ..Default::default() };
            let write = v1::WriteRequest { mutations: vec![of(32_000), of(0), of(32_000 + over)] };
            assert_eq!(checked(&write), refused("headers"), "together");
            let write = v1::WriteRequest { mutations: vec![of(1); 2_000 + over] };
            assert_eq!(checked(&write), refused("mutations"));
            let many = vec![String::new(); 20_000 + over];
            let load = v1::LoadWorkspaceRequest { entity_types: many.clone(), ..Default::default() };
            assert_eq!(checked(&load), refused("entity_types"));
            let stream = v1::StreamAllRequest { entity_types: many.clone(), ..Default::default() };
            assert_eq!(checked(&stream), refused("entity_types"));
            let stream = v1::StreamAllRequest { workspace_ids: many, ..Default::default() };
            assert_eq!(checked(&stream), refused("workspace_ids"));
            let stream = v1::StreamAllRequest { partitions: vec![-1; 20_000 + over], ..Default::default() };
            assert_eq!(checked(&stream), refused("partitions"));
            let unpacked = [8, 1].repeat(20_000 + over);
            assert_eq!(check(&unpacked, v1::StreamAllRequest::LISTS).is_err(), over > 0);
        }
    }

    proptest! {
        /// Covers S19, S15.
        #[test]
        fn what_is_decoded_has_no_list_that_is_far_too_long(
            bytes in prop::collection::vec(
                prop_oneof![Just(0x0a_u8), Just(0x2a), Just(0x3a), Just(0x1b), Just(0x1c), 0..4_u8, any::<u8>()], 0..60,
            ),
            times in 1..3_000_usize,
        ) {
            let bytes = bytes.repeat(times);
            if let (Ok(()), Ok(message)) = (check(&bytes, v1::WriteRequest::LISTS), v1::WriteRequest::decode(&*bytes)) {
                prop_assert!(message.mutations.len() <= 2_000);
                prop_assert!(message.mutations.iter().map(|m| m.headers.len()).sum::<usize>() <= 64_000);
            }
            if let (Ok(()), Ok(message)) = (check(&bytes, v1::SetRequest::LISTS), v1::SetRequest::decode(&*bytes)) {
                prop_assert!(message.headers.len() <= 1_000);
            }
        }
    }
}

//! The partition of a workspace: `(murmur2(workspace ID) & 0x7fffffff) % partitions`. Apache Kafka's Java client
//! computes the same for a record whose key is the workspace ID.

use std::{fmt, num::NonZeroU32};

/// The number of a partition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u32);

impl Partition {
    /// `None` for negative numbers, which Kafka uses for special meanings.
    pub fn new(number: i32) -> Option<Self> {
        u32::try_from(number).ok().map(Self)
    }

    /// As a number of Kafka and the API.
    pub fn number(self) -> i32 {
        self.0 as i32
    }

    /// As an index into a list of all partitions.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The partition count of a topic: at least 1, at most `i32::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionCount(NonZeroU32);

impl PartitionCount {
    /// `None` for zero, negative numbers, and what does not fit an `int32`.
    pub fn new(count: i64) -> Option<Self> {
        i32::try_from(count).ok().and_then(|c| u32::try_from(c).ok()).and_then(NonZeroU32::new).map(Self)
    }

    /// As a number of Kafka and the API.
    pub fn get(self) -> i32 {
        self.0.get() as i32
    }

    /// The partition of a workspace.
    pub fn of_workspace(self, workspace: &[u8]) -> Partition {
        Partition((murmur2(workspace) & 0x7fff_ffff) % self.0.get())
    }

    /// A partition of this topic, or `None` if out of range.
    pub fn partition(self, number: i32) -> Option<Partition> {
        Partition::new(number).filter(|p| p.0 < self.0.get())
    }

    /// All partitions, in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.0.get()).map(Partition)
    }
}

impl fmt::Display for PartitionCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// MurmurHash2, 32 bits, with the seed and the byte order of `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Apache Kafka, `UtilsTest.testMurmur2`.
    /// Covers C8, R27.
    #[test]
    fn murmur2_matches_kafkas_java_client() {
        let published: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, hash) in published {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    /// librdkafka, `rdmurmur2.c` unit test; Akka, `Murmur2Spec`.
    /// Covers C8, R27.
    #[test]
    fn murmur2_matches_librdkafka_and_akka() {
        let published: [(&str, u32); 4] =
            [("kafka", 0xd067_cf64), ("giberish123456789", 0x8f55_2b0c), ("1234", 0x9fc9_7b14), ("", 0x106e_08d9)];
        for (text, hash) in published {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
        for (text, hash) in [("1", -1_993_445_489_i32), ("12", 126_087_238), ("123", -267_702_483)] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    /// Answers of the Java tools, published in node-rdkafka 817 and 616 and node-sinek 39.
    /// Covers C8, R27, B7.
    #[test]
    fn partitions_match_kafkas_java_client() {
        let published = [
            ("fd7af248-ce5c-46a5-93d7-1c0c9005b99d", 32, 26),
            ("354afe16-939a-4ea8-8e17-8bb0840b6886", 10, 4),
            ("f562ac3b-2224-4e25-a0ab-56094e10c239", 10, 5),
            ("wu", 10, 0),
        ];
        for (key, count, partition) in published {
            let count = PartitionCount::new(count).unwrap();
            assert_eq!(count.of_workspace(key.as_bytes()).number(), partition, "{key}");
        }
    }

    #[test]
    fn partition_counts_and_numbers_out_of_range_are_refused() {
        assert!(PartitionCount::new(0).is_none() && PartitionCount::new(-1).is_none());
        assert!(PartitionCount::new(i64::from(i32::MAX) + 1).is_none());
        let ten = PartitionCount::new(10).unwrap();
        assert!(ten.partition(10).is_none() && ten.partition(-1).is_none());
        assert_eq!(ten.all().map(Partition::number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}

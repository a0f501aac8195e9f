//! Random numbers: from a seed (splitmix64), and fresh ones.

use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

/// Random numbers from a seed, the same each time.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0, less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// A number that no seed determines.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}

//! What the fuzz targets share: how many cases they run, changes of valid encodings, and files of inputs with the
//! outcome that each must have.
//!
//! Does not: know an encoding. A target says itself what must hold for each input.

use proptest::{collection::vec, prelude::*};

/// The configuration of a fuzz target: eight times the cases of other properties, so 2,048 by default. `make campaign`
/// runs a million with PROPTEST_CASES=125000. A failure is printed with its seed, and leaves no file: inputs that stay
/// interesting belong into the target's corpus.
pub fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.saturating_mul(8),
        failure_persistence: None,
        max_shrink_iters: 10_000,
        ..default
    }
}

/// Some changes of an encoding, for [`mutated`].
pub fn mutations() -> impl Strategy<Value = Vec<[u32; 3]>> {
    vec(any::<[u32; 3]>(), 1..4)
}

/// The bytes after these changes: flipped bits, cuts, repeated and removed parts, lengths that are wrong by one, and
/// parts of another encoding.
pub fn mutated(bytes: &[u8], other: &[u8], mutations: &[[u32; 3]]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for [kind, a, b] in mutations {
        let at = |number: &u32, len: usize| *number as usize % (len + 1);
        let (first, second) = (at(a, bytes.len()), at(b, bytes.len()));
        let (from, to) = (first.min(second), first.max(second));
        match kind % 9 {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(first) {
                    *byte ^= 1 << (b % 8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(first) {
                    *byte = byte.wrapping_add(if b % 2 == 0 { 1 } else { 255 });
                }
            }
            3 => bytes.truncate(first),
            4 => drop(bytes.drain(..first)),
            5 => drop(bytes.drain(from..to)),
            6 => {
                let repeated = bytes[from..to].to_vec();
                drop(bytes.splice(to..to, repeated));
            }
            7 => drop(bytes.splice(first..first, b.to_be_bytes().into_iter().take(1 + kind.count_ones() as usize % 4))),
            _ => {
                bytes.truncate(first);
                bytes.extend_from_slice(&other[at(b, other.len())..]);
            }
        }
    }
    bytes
}

/// An input of a corpus.
#[derive(Debug)]
pub struct Input {
    /// The line in the file.
    pub line: usize,
    /// The first word of the line.
    pub expected: String,
    /// The other words, in hexadecimal; `-` stands for no bytes.
    pub parts: Vec<Vec<u8>>,
}

/// The inputs of a corpus: one to a line, between comments that begin with `#`. Panics at a line of another form.
pub fn corpus(text: &str) -> Vec<Input> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let inputs: Vec<_> = lines
        .map(|(at, text)| {
            let mut words = text.split(' ');
            let expected = words.next().unwrap_or_default().to_owned();
            let parts = words.map(|word| from_hex(word).unwrap_or_else(|| panic!("line {}: {word:?}", at + 1)));
            Input { line: at + 1, expected, parts: parts.collect() }
        })
        .collect();
    assert!(!inputs.is_empty(), "a corpus without inputs");
    inputs
}

fn from_hex(word: &str) -> Option<Vec<u8>> {
    if word == "-" {
        return Some(Vec::new());
    }
    let digits = word.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    (digits.len().is_multiple_of(2) && !digits.is_empty()).then(|| pairs.collect())?
}

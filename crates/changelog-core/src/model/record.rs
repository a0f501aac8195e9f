//! Records, headers and positions.

use bytes::Bytes;

use super::partition::Partition;

/// The most headers of a record.
pub const MAX_HEADERS: usize = 64;
/// The most bytes of all header names and values of a record.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A record header. A null value differs from an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub key: String,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
}

/// Why headers are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too many.
    #[error("{got} headers, at most {MAX_HEADERS} are allowed")]
    TooMany {
        /// How many.
        got: usize,
    },
    /// Too large together.
    #[error("the headers have {got} bytes, at most {MAX_HEADER_BYTES} are allowed")]
    TooLarge {
        /// Bytes of names and values.
        got: usize,
    },
    /// A header without a name.
    #[error("header {index} has no key")]
    NoKey {
        /// Its index in the list.
        index: usize,
    },
    /// A name contains NUL. librdkafka takes names as C strings.
    #[error("the key of header {index} contains a NUL character")]
    NulInKey {
        /// Its index in the list.
        index: usize,
    },
}

/// The headers of a write, within their limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// Checks the limits.
    pub fn new(headers: Vec<Header>) -> Result<Self, HeaderError> {
        if headers.len() > MAX_HEADERS {
            return Err(HeaderError::TooMany { got: headers.len() });
        }
        for (index, header) in headers.iter().enumerate() {
            if header.key.is_empty() {
                return Err(HeaderError::NoKey { index });
            }
            if header.key.contains('\0') {
                return Err(HeaderError::NulInKey { index });
            }
        }
        let got = headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
        if got > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLarge { got });
        }
        Ok(Self(headers))
    }

    /// In order.
    pub fn as_slice(&self) -> &[Header] {
        &self.0
    }

    /// The same headers, with values that share no buffer with others.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copied = |value: &Bytes| Bytes::copy_from_slice(value);
        Self(self.0.iter().map(|h| Header { key: h.key.clone(), value: h.value.as_ref().map(copied) }).collect())
    }

    /// In order.
    pub fn into_vec(self) -> Vec<Header> {
        self.0
    }
}

/// The position of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its partition.
    pub partition: Partition,
    /// Its offset there.
    pub offset: i64,
}

/// A record that was read from a partition. Its key is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in its partition.
    pub offset: i64,
    /// The log's timestamp, in milliseconds since 1970; `None` if it has none.
    pub timestamp: Option<i64>,
    /// The full key.
    pub key: Bytes,
    /// The value; `None` is null: a tombstone.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Vec<Header>,
}

impl Record {
    /// Whether this record deletes its entity.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The bytes of memory that it takes, estimated.
    pub fn memory_size(&self) -> usize {
        const OVERHEAD: usize = 128;
        let headers: usize =
            self.headers.iter().map(|h| 64 + h.key.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
        OVERHEAD + self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &str, value: usize) -> Header {
        Header { key: key.to_owned(), value: Some(vec![b'x'; value].into()) }
    }

    /// Covers C16.
    #[test]
    fn headers_are_accepted_at_their_limits_and_refused_above_them() {
        assert!(Headers::new(vec![header("k", 1); MAX_HEADERS]).is_ok());
        assert_eq!(Headers::new(vec![header("k", 1); 65]), Err(HeaderError::TooMany { got: 65 }));
        assert!(Headers::new(vec![header("k", MAX_HEADER_BYTES - 1)]).is_ok());
        assert_eq!(Headers::new(vec![header("k", MAX_HEADER_BYTES)]), Err(HeaderError::TooLarge { got: 16_385 }));
        assert_eq!(Headers::new(vec![header("", 1)]), Err(HeaderError::NoKey { index: 0 }));
        assert_eq!(Headers::new(vec![header("a\0b", 1)]), Err(HeaderError::NulInKey { index: 0 }));
    }
}

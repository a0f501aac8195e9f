//! Keys, workspaces, partitions, values and positions.
//!
//! Promises: a value of these types is always valid; it is checked when it is made.
//! Does not: know I/O, Kafka or gRPC.

mod escape;
mod key;
mod partition;
mod record;
mod value;

pub use escape::{Escaped, Printable, PrintableJson};
pub use key::{Key, KeyError, KeyPart, KeyRef, MAX_KEY_BYTES, MAX_WORKSPACE_BYTES, WorkspaceId};
pub use partition::{Partition, PartitionCount, murmur2};
pub use record::{Header, HeaderError, Headers, MAX_HEADER_BYTES, MAX_HEADERS, Position, Record};
pub use value::{ValueError, ValueMode, ValueRules};

#![doc = include_str!("../README.md")]

mod backoff;
mod client;
mod delivered;
mod entry;
mod error;
mod key;
mod read;
mod watch;
mod writer;

/// The code generated from `proto/changelog.proto`, for what this package has no function for: see [`Client::raw`].
#[allow(clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("changelog.v1");
}

pub use client::{Client, DEFAULT_ADDRESS, Flushed};
pub use entry::{Entry, Failure};
pub use error::Error;
pub use key::{Entity, Key};
pub use proto::{Position, Snapshot};
pub use read::{Selection, StreamEvent};
pub use tonic::Code;
pub use watch::Change;
pub use writer::{Verdict, Writer};

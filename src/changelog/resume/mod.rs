//! Resuming a stream: the token that a client stores, and the checks before a stream continues from it.

mod token;

pub use token::{Cursor, Token, TokenError};

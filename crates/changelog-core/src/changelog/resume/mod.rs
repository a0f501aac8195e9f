//! Resuming a stream: the token that a client stores, and the checks before a stream continues from it.

mod scope;
mod token;

pub use scope::{Content, Scope};
pub use token::{Cursor, ResyncCause, Token, TokenError, cursors_at_start, non_empty};

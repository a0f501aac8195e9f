//! The token of SASL OAUTHBEARER: where it comes from, when it is renewed, and how all clients get it.
//!
//! Promises that a token is got once for all clients of a process, and that no error or log line has it, or the secret
//! with which it is got. Does not check a signature: the broker does.

mod file;
mod https;
mod jwt;
mod oidc;
mod provider;
mod shared;
#[cfg(test)]
mod tests;
mod value;

pub use provider::{Provider, fetch, get_once};
pub use shared::Tokens;
pub use value::{Token, TokenError};

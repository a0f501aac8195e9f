//! A token in a file, which another process writes: a projected service account token, or the output of a helper.
//!
//! Promises that a file that holds no whole token is an error in words. Does not notice changes: see
//! [`super::provider`].

use std::{fs::File, io::Read as _, path::Path, time::SystemTime};

use super::value::{Token, TokenError};
use crate::{settings::quoted_path, timeouts::MAX_TOKEN_BYTES};

/// White space around the token is no part of it.
const MAX_WHITE_SPACE: usize = 1_024;

/// The token in the file. Blocks.
pub fn read(path: &Path, now: SystemTime) -> Result<Token, TokenError> {
    let shown = quoted_path(&path.to_string_lossy());
    let bytes = read_bytes(path).map_err(|reason| TokenError(format!("token file {shown}: {reason}")))?;
    let token = match std::str::from_utf8(&bytes) {
        Ok(text) => Token::parse(text.trim(), None, now),
        Err(_) => Err("is no text".to_owned()),
    };
    token.map_err(|reason| TokenError(format!("token file {shown}: the token {reason}")))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let (mut bytes, limit) = (Vec::new(), MAX_TOKEN_BYTES + MAX_WHITE_SPACE);
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() > limit { Err(format!("has more than {MAX_TOKEN_BYTES} bytes")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;

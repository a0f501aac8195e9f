//! Keys: `{workspaceID}/{entityType}/{entityID}`. The only place with their grammar, for requests and for records.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::{fmt, str};

use bytes::Bytes;

use super::escape::{Escaped, is_invisible};
use crate::rule::{Rule, holds};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest workspace ID, in bytes.
pub const MAX_WORKSPACE_BYTES: usize = 255;

/// The part of a key, or of a request, that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    /// The first segment, which determines the partition.
    Workspace,
    /// The second segment.
    EntityType,
    /// All following segments.
    EntityId,
    /// The complete key.
    Whole,
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workspace => "workspace id",
            Self::EntityType => "entity type",
            Self::EntityId => "entity id",
            Self::Whole => "key",
        })
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A part has no characters.
    #[error("the {0} is empty")]
    Empty(KeyPart),
    /// The workspace ID is only white space and invisible characters.
    #[error("the workspace id {shown} is only white space or invisible characters")]
    BlankWorkspace {
        /// The text, escaped.
        shown: String,
    },
    /// The workspace ID is longer than [`MAX_WORKSPACE_BYTES`].
    #[error("the workspace id has {got} bytes, at most {MAX_WORKSPACE_BYTES} are allowed")]
    WorkspaceTooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// The workspace ID contains the separator, which would change its partition.
    #[error("the workspace id {shown} contains \"/\", which separates the parts of a key")]
    SlashInWorkspace {
        /// The text, escaped.
        shown: String,
    },
    /// The key is longer than [`MAX_KEY_BYTES`].
    #[error("the key has {got} bytes, at most {MAX_KEY_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// Fewer than three segments.
    #[error("the key {shown} is not of the form {{workspaceID}}/{{entityType}}/{{entityID}}")]
    Incomplete {
        /// The text, escaped.
        shown: String,
    },
    /// A doubled or trailing `/` in the entity ID.
    #[error("the entity id {shown} has an empty segment (a leading, doubled or trailing \"/\")")]
    EmptySegment {
        /// The text, escaped.
        shown: String,
    },
    /// A control character.
    #[error("the {part} contains the control character U+{code:04X}")]
    Control {
        /// The part that contains it.
        part: KeyPart,
        /// Its code point.
        code: u32,
    },
    /// The bytes are not UTF-8.
    #[error("the key is not UTF-8")]
    NotUtf8,
    /// A relative `changelog_id` without a workspace.
    #[error("the relative changelog id {shown} (leading \"/\") needs a workspace_id")]
    RelativeWithoutWorkspace {
        /// The text, escaped.
        shown: String,
    },
    /// A full key whose first segment is another workspace: most often a relative id without its leading `/`.
    #[error(
        "the changelog id {shown} is a full key of workspace {first}, not of workspace_id {workspace}; was {meant} \
         meant?"
    )]
    WorkspaceMismatch {
        /// The text, escaped.
        shown: String,
        /// Its first segment.
        first: String,
        /// The workspace of the request.
        workspace: String,
        /// The form that was probably meant.
        meant: String,
    },
}

impl KeyError {
    /// The part that is not valid. `Whole` if the parts do not fit together.
    pub fn part(&self) -> KeyPart {
        match self {
            Self::Empty(part) | Self::Control { part, .. } => *part,
            Self::BlankWorkspace { .. }
            | Self::WorkspaceTooLong { .. }
            | Self::SlashInWorkspace { .. }
            | Self::RelativeWithoutWorkspace { .. } => KeyPart::Workspace,
            Self::EmptySegment { .. } => KeyPart::EntityId,
            Self::TooLong { .. } | Self::Incomplete { .. } | Self::NotUtf8 | Self::WorkspaceMismatch { .. } => {
                KeyPart::Whole
            }
        }
    }
}

/// Whether all bytes are printable ASCII, as in most keys. Has no early return, so that the compiler can check several
/// bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| plain & (0x20..0x7f).contains(byte))
}

fn check_control(part: KeyPart, text: &str) -> Result<(), KeyError> {
    if is_plain(text.as_bytes()) {
        return Ok(());
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(KeyError::Control { part, code: c.into() }),
        None => Ok(()),
    }
}

fn check_workspace(text: &str) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty(KeyPart::Workspace));
    }
    if text.len() > MAX_WORKSPACE_BYTES {
        return Err(KeyError::WorkspaceTooLong { got: text.len() });
    }
    if text.as_bytes().contains(&b'/') {
        return Err(KeyError::SlashInWorkspace { shown: Escaped(text).to_string() });
    }
    check_control(KeyPart::Workspace, text)?;
    if text.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
        return Err(KeyError::BlankWorkspace { shown: Escaped(text).to_string() });
    }
    Ok(())
}

/// A workspace ID: 1–255 bytes of UTF-8, no `/`, no control characters, not only white space and invisible characters.
/// Compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceId(String);

impl WorkspaceId {
    /// Checks the grammar.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        check_workspace(text)?;
        Ok(Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for WorkspaceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A valid key, borrowed. A replay checks it before it copies a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    text: &'a str,
    workspace_end: usize,
    type_end: usize,
}

impl<'a> KeyRef<'a> {
    /// Checks the grammar of the key of a record.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { got: bytes.len() });
        }
        let text = str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8)?;
        let incomplete = || KeyError::Incomplete { shown: Escaped(text).to_string() };
        let mut slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let workspace_end = slashes.next().ok_or_else(incomplete)?;
        check_workspace(&text[..workspace_end])?;
        let type_end = slashes.next().ok_or_else(incomplete)?;
        let entity_type = &text[workspace_end + 1..type_end];
        if entity_type.is_empty() {
            return Err(KeyError::Empty(KeyPart::EntityType));
        }
        check_control(KeyPart::EntityType, entity_type)?;
        let entity_id = &text[type_end + 1..];
        if entity_id.is_empty() {
            return Err(KeyError::Empty(KeyPart::EntityId));
        }
        let id = entity_id.as_bytes();
        let is_empty_somewhere =
            || id.starts_with(b"/") || id.ends_with(b"/") || id.windows(2).any(|pair| pair == b"//");
        if id.contains(&b'/') && is_empty_somewhere() && holds(Rule::EmptySegmentIsRefused) {
            return Err(KeyError::EmptySegment { shown: Escaped(entity_id).to_string() });
        }
        check_control(KeyPart::EntityId, entity_id)?;
        Ok(Self { text, workspace_end, type_end })
    }

    /// The complete key.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The first segment.
    pub fn workspace(&self) -> &'a str {
        &self.text[..self.workspace_end]
    }

    /// The second segment.
    pub fn entity_type(&self) -> &'a str {
        &self.text[self.workspace_end + 1..self.type_end]
    }

    /// Everything after the second `/`.
    pub fn entity_id(&self) -> &'a str {
        &self.text[self.type_end + 1..]
    }
}

/// A valid key, owned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: Bytes,
    workspace_end: usize,
}

impl Key {
    /// Checks the grammar of a full key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let workspace_end = KeyRef::parse(text.as_bytes())?.workspace_end;
        Ok(Self { bytes: Bytes::copy_from_slice(text.as_bytes()), workspace_end })
    }

    /// The key that the two strings of a request name. An ambiguous pair is an error.
    pub fn from_request(workspace_id: &str, changelog_id: &str) -> Result<Self, KeyError> {
        if changelog_id.starts_with('/') {
            if workspace_id.is_empty() {
                return Err(KeyError::RelativeWithoutWorkspace { shown: Escaped(changelog_id).to_string() });
            }
            check_workspace(workspace_id)?;
            let text = [workspace_id, changelog_id].concat();
            let workspace_end = KeyRef::parse(text.as_bytes())?.workspace_end;
            return Ok(Self { bytes: text.into(), workspace_end });
        }
        if workspace_id.is_empty() {
            if changelog_id.is_empty() {
                return Err(KeyError::Empty(KeyPart::Whole));
            }
            return Self::parse(changelog_id);
        }
        check_workspace(workspace_id)?;
        if changelog_id.is_empty() {
            return Err(KeyError::Empty(KeyPart::Whole));
        }
        let first = changelog_id.split('/').next().unwrap_or_default();
        if first != workspace_id {
            return Err(KeyError::WorkspaceMismatch {
                shown: Escaped(changelog_id).to_string(),
                first: Escaped(first).to_string(),
                workspace: Escaped(workspace_id).to_string(),
                meant: Escaped(&format!("/{changelog_id}")).to_string(),
            });
        }
        Self::parse(changelog_id)
    }

    /// The bytes of the key of the Kafka record.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// The first segment.
    pub fn workspace(&self) -> WorkspaceId {
        WorkspaceId(self.as_str()[..self.workspace_end].to_owned())
    }

    /// The bytes whose hash determines the partition.
    pub fn workspace_bytes(&self) -> &[u8] {
        &self.bytes[..self.workspace_end]
    }
}

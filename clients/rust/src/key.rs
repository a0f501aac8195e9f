//! Keys, and entities that know theirs.

use std::{fmt, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};
use tonic::Code;

use crate::Error;

/// A key, `{workspace}/{type}/{id}`. It is only split and joined here: the server checks its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub workspace: String,
    pub entity_type: String,
    /// May contain `/`.
    pub id: String,
}

impl Key {
    pub fn new(workspace: impl Into<String>, entity_type: impl Into<String>, id: impl Into<String>) -> Self {
        Self { workspace: workspace.into(), entity_type: entity_type.into(), id: id.into() }
    }

    /// The key within its workspace, as requests name it: `/{type}/{id}`.
    pub(crate) fn changelog_id(&self) -> Result<String, Error> {
        // The server would take the rest of such a type as a part of the id.
        if self.entity_type.contains('/') {
            let text = format!("the entity type {:?} contains a slash", self.entity_type);
            return Err(Error::local(Code::InvalidArgument, text).with_reason("KEY_INVALID", "changelog_id"));
        }
        Ok(format!("/{}/{}", self.entity_type, self.id))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.workspace, self.entity_type, self.id)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(workspace), Some(entity_type), Some(id)) => Ok(Self::new(workspace, entity_type, id)),
            _ => Err(Error::local(Code::InvalidArgument, format!("the key {text:?} has no three parts"))),
        }
    }
}

/// A value that is stored as JSON and knows its key.
pub trait Entity: Serialize + DeserializeOwned {
    /// The entity type, the middle part of the keys.
    const TYPE: &'static str;

    /// Where the entity is stored. Its type is [`Self::TYPE`].
    fn key(&self) -> Key;
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_that_is_joined_is_split_into_the_same_parts() {
        for key in [Key::new("ws", "type", "a/b"), Key::new("", "", ""), Key::new("wörk", "t", "/")] {
            assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }
        assert!("ws/type".parse::<Key>().is_err());
    }

    #[test]
    fn a_type_with_a_slash_is_refused() {
        let error = Key::new("ws", "a/b", "c").changelog_id().unwrap_err();
        assert_eq!((error.reason(), error.field()), (Some("KEY_INVALID"), Some("changelog_id")));
        assert_eq!(Key::new("ws", "a", "b/c").changelog_id().unwrap(), "/a/b/c");
    }
}

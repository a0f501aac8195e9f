//! The file of properties.
//!
//! Promises that an error names flag and path, and quotes nothing of the file.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{
    fingerprint::Fingerprint,
    path::{instead_of_path, quoted_path},
    properties::parse_properties,
    value_files::Properties,
};

/// The largest file. One has some hundred lines, or a few keys and certificates.
const MAX_BYTES: u64 = 1024 * 1024;

/// A properties file that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--kafka-properties-file: {0}")]
pub struct PropertiesFileError(String);

impl PropertiesFileError {
    /// The path may be something else by mistake, such as the text of the properties.
    fn new(path: &Path, reason: &str) -> Self {
        let text = path.to_string_lossy();
        let instead = instead_of_path(&text).filter(|_| !path.exists()).map(str::to_owned);
        Self(instead.unwrap_or_else(|| format!("{}: {reason}", quoted_path(&text))))
    }
}

/// A file of librdkafka properties, and what it had when it was read.
#[derive(Clone)]
pub struct PropertiesFile {
    path: PathBuf,
    /// From before it was read, so that a later change is noticed.
    fingerprint: Fingerprint,
    properties: Properties,
}

/// Without the properties, which may be secret.
impl fmt::Debug for PropertiesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PropertiesFile({})", quoted_path(&self.path.to_string_lossy()))
    }
}

impl PropertiesFile {
    /// Reads the file. Blocks.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, PropertiesFileError> {
        let path = path.into();
        let fingerprint = Fingerprint::of(&path);
        let properties = text(&path)
            .and_then(|text| parse_properties(&text).map_err(|error| error.to_string()))
            .and_then(|properties| Properties::read(properties).map_err(|error| error.to_string()))
            .map_err(|reason| PropertiesFileError::new(&path, &reason))?;
        Ok(Self { path, fingerprint, properties })
    }

    /// Reads the file again. Blocks. A pipe can't be read again, so it keeps its properties.
    pub(crate) fn read_again(&self) -> Result<Self, PropertiesFileError> {
        if Fingerprint::of(&self.path) == Fingerprint::Other {
            if self.fingerprint == Fingerprint::Other {
                return self
                    .properties
                    .read_again()
                    .map(|properties| Self { properties, ..self.clone() })
                    .map_err(|error| PropertiesFileError::new(&self.path, &error.to_string()));
            }
            return Err(PropertiesFileError::new(&self.path, "is no regular file"));
        }
        Self::read(&self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(crate) fn properties(&self) -> &[(String, String)] {
        self.properties.values()
    }

    pub(crate) fn given(&self) -> &[(String, String)] {
        self.properties.given()
    }

    /// The files that values are from.
    pub(crate) fn value_files(&self) -> &[(PathBuf, Fingerprint)] {
        self.properties.files()
    }
}

/// The text of the file, or why it can't be read.
fn text(path: &Path) -> Result<String, String> {
    let (mut bytes, mut file) = (Vec::new(), File::open(path).map_err(|e| e.to_string())?);
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("has more than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is no text in UTF-8".to_owned())
}

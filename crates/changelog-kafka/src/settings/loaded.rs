//! Settings that were read and checked, with the files that they are from.

use std::path::PathBuf;

use super::{PropertiesFileError, PropertyError, Settings, files, fingerprint::Fingerprint, held::HeldFiles};

/// Why settings can't be read again.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The properties file.
    #[error(transparent)]
    File(#[from] PropertiesFileError),
    /// A property, or the file that it names.
    #[error(transparent)]
    Property(#[from] PropertyError),
}

/// Checked settings.
pub struct Loaded {
    pub settings: Settings,
    pub held: HeldFiles,
    /// From before the files were read.
    pub files: WatchedFiles,
}

impl Loaded {
    /// Checks settings that were read just now, and keeps what their files have. Blocks.
    pub fn new(settings: Settings) -> Result<Self, PropertyError> {
        let files = WatchedFiles::of(&settings);
        settings.check()?;
        let held = HeldFiles::read(&settings.effective())?;
        Ok(Self { settings, held, files })
    }

    /// Reads the properties file of these settings again, and the files that values are from. Blocks.
    pub fn again(before: &Settings) -> Result<Self, LoadError> {
        let file = before.properties_file.as_ref().map(super::PropertiesFile::read_again).transpose()?;
        let properties = before.properties.read_again()?;
        Ok(Self::new(Settings { properties_file: file, properties, ..before.clone() })?)
    }
}

/// Files, and the fingerprints that they had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedFiles(Vec<(PathBuf, Fingerprint)>);

impl WatchedFiles {
    /// The properties file and the files of values as they were before they were read, and the files that properties
    /// name as they are now. Blocks.
    fn of(settings: &Settings) -> Self {
        let own = settings.properties_file.as_ref().map(|file| (file.path().to_owned(), file.fingerprint().clone()));
        let effective = settings.effective();
        let named = files::named(&effective).map(|(_, path)| (path.to_owned(), Fingerprint::of(path)));
        let of_file = settings.properties_file.iter().flat_map(super::PropertiesFile::value_files);
        let values = of_file.chain(settings.properties.files()).cloned();
        Self(own.into_iter().chain(values).chain(named).collect())
    }

    /// Whether a file has another fingerprint now. Blocks.
    pub fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, before)| Fingerprint::of(path) != *before)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

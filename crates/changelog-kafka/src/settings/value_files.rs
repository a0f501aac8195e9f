//! Values that stand in files of their own, such as entries of a mounted Secret: `${directory:/path/of/directory:file}`
//! in a value is replaced by the contents of that file. Kafka's own clients read the same text with their
//! DirectoryConfigProvider (KIP-421).
//!
//! Promises that a text that would need another provider of Kafka is refused, and that no error quotes a file. Does
//! not: replace anything in what a file has.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{
    error::PropertyError,
    fingerprint::Fingerprint,
    path::{instead_of_path, quoted_path},
    pem,
};

/// A password, or some certificates.
const MAX_BYTES: u64 = 1024 * 1024;

const BEGIN: &str = "${directory:";

/// Providers of Kafka that changelogd does not have.
const OTHER_PROVIDERS: [&str; 2] = ["${file:", "${env:"];

/// Properties by name, as they were given and with the values in effect.
#[derive(Clone, Default)]
pub struct Properties {
    given: Vec<(String, String)>,
    values: Vec<(String, String)>,
    /// From before they were read.
    files: Vec<(PathBuf, Fingerprint)>,
}

impl Properties {
    /// Reads the files that values name. Blocks.
    pub fn read(given: Vec<(String, String)>) -> Result<Self, PropertyError> {
        let mut files = Vec::new();
        let value_of = |(name, value): &(String, String)| Ok((name.clone(), substituted(name, value, &mut files)?));
        let values = given.iter().map(value_of).collect::<Result<_, _>>()?;
        Ok(Self { given, values, files })
    }

    /// Reads the files again. Blocks.
    pub(crate) fn read_again(&self) -> Result<Self, PropertyError> {
        // Without files nothing changes, and values need not be those that were given.
        if self.files.is_empty() { Ok(self.clone()) } else { Self::read(self.given.clone()) }
    }

    /// Adds a property. No file is read.
    pub fn push(&mut self, property: (String, String)) {
        self.given.push(property.clone());
        self.values.push(property);
    }

    /// The values in effect, by name.
    pub fn values(&self) -> &[(String, String)] {
        &self.values
    }

    /// The values as they were given, by name. Only these may be shown, because what a file has may be a secret.
    pub(crate) fn given(&self) -> &[(String, String)] {
        &self.given
    }

    pub(crate) fn files(&self) -> &[(PathBuf, Fingerprint)] {
        &self.files
    }
}

/// Takes the values as they are. No file is read.
impl FromIterator<(String, String)> for Properties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(properties: I) -> Self {
        let values: Vec<_> = properties.into_iter().collect();
        Self { given: values.clone(), values, files: Vec::new() }
    }
}

/// The value with the contents of the files that it names.
fn substituted(name: &str, value: &str, files: &mut Vec<(PathBuf, Fingerprint)>) -> Result<String, PropertyError> {
    let wrong = |reason: String| PropertyError::new(name, None, reason);
    if value.ends_with('}') && OTHER_PROVIDERS.iter().any(|other| value.starts_with(other)) {
        return Err(wrong("names a provider of values that is not there: use ${directory:/path:file}".to_owned()));
    }
    let (mut rest, mut all) = (value, String::new());
    while let Some((before, reference)) = rest.split_once(BEGIN) {
        let parts = reference.split_once('}').and_then(|(path, rest)| Some((path.rsplit_once(':')?, rest)));
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
        let Some(((directory, file), after)) = parts.filter(|((_, file), _)| is_name(file)) else {
            return Err(wrong("must name a directory and a file in it: ${directory:/path:file}".to_owned()));
        };
        let path = Path::new(directory).join(file);
        files.push((path.clone(), Fingerprint::of(&path)));
        all.push_str(before);
        all.push_str(&contents(&path).map_err(wrong)?);
        rest = after;
    }
    all.push_str(rest);
    if rest.len() < value.len() && pem::begins(&all) {
        return pem::normalized(&all).ok_or_else(|| wrong("is no PEM".to_owned()));
    }
    Ok(all)
}

/// What the file has, without the line break at its end, which an editor or `echo` has written.
fn contents(path: &Path) -> Result<String, String> {
    let text = path.to_string_lossy();
    let wrong = |reason: String| match instead_of_path(&text) {
        Some(instead) => format!("names a file whose path {instead}"),
        None => format!("{} {reason}", quoted_path(&text)),
    };
    let unreadable = |error: std::io::Error| wrong(format!("can't be read: {error}"));
    // A pipe could block, and could not be read again.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(wrong("is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("has more than {MAX_BYTES} bytes")));
    }
    let mut value = String::from_utf8(bytes).map_err(|_| wrong("is no text in UTF-8".to_owned()))?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.contains('\0') { Err(wrong("has a NUL byte".to_owned())) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    fn read(name: &str, value: &str) -> Result<String, String> {
        let read = Properties::read(of(name, value)).map_err(|error| error.to_string())?;
        Ok(read.values()[0].1.clone())
    }

    /// Covers S12, K11.
    #[test]
    fn a_value_is_read_from_the_file_that_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        for (contents, value) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("two\n\n", "two\n"),
            ("", ""),
            ("ends in }", "ends in }"),
            ("${directory:/nowhere:file}", "${directory:/nowhere:file}"),
        ] {
            fs::write(directory.path().join("password"), contents).unwrap();
            let reference = format!("${{directory:{path}:password}}");
            assert_eq!(read("sasl.password", &reference).as_deref(), Ok(value));
            assert_eq!(read("client.id", &format!("a-{reference}-{reference}")), Ok(format!("a-{value}-{value}")));
        }
        for literal in ["s3cret", "$", "${", "${}", "${file:", "a${env:HOME}", "${directory", "{directory:/a:b}"] {
            assert_eq!(read("sasl.password", literal).as_deref(), Ok(literal));
        }
    }

    /// Covers S11, S12.
    #[test]
    fn a_value_that_names_no_file_is_refused_without_what_the_file_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let write = |name: &str, contents: &[u8]| fs::write(directory.path().join(name), contents).unwrap();
        write("binary", b"s3cret\xff");
        write("nul", b"s3cret\0");
        write("large", &vec![b'a'; 1024 * 1024 + 1]);
        write("pem", b"-----BEGIN CERTIFICATE-----\ns3cret\n");
        fs::create_dir(directory.path().join("directory")).unwrap();
        for (file, reason) in [
            ("missing", "can't be read: No such file"),
            ("binary", "is no text in UTF-8"),
            ("nul", "has a NUL byte"),
            ("large", "has more than 1048576 bytes"),
            ("directory", "is no regular file"),
            ("pem", "is no PEM"),
            ("..", "must name a directory and a file in it"),
            ("", "must name a directory and a file in it"),
            ("a/b", "must name a directory and a file in it"),
        ] {
            let error = read("sasl.password", &format!("${{directory:{path}:{file}}}")).unwrap_err();
            assert!(error.starts_with("Kafka property sasl.password: ") && error.contains(reason), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        for other in ["${directory:", "${directory:/etc}", "${directory:/etc:file", "${file:/etc/a:b}", "${env:SECRET}"]
        {
            let error = read("sasl.password", other).unwrap_err();
            assert!(error.contains("${directory:/path:file}"), "{other}: {error}");
        }
    }

    /// Covers R52, K11.
    #[test]
    fn files_of_values_are_read_again_and_their_changes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("user");
        fs::write(&file, "before").unwrap();
        let reference = format!("${{directory:{}:user}}", directory.path().display());
        let before = Properties::read(of("sasl.username", &reference)).unwrap();
        assert_eq!(before.files(), [(file.clone(), Fingerprint::of(&file))]);
        fs::write(&file, "afterwards").unwrap();
        assert_ne!(before.files()[0].1, Fingerprint::of(&file));
        assert_eq!(before.read_again().unwrap().values(), of("sasl.username", "afterwards"));
        // The name of a directory may have a colon.
        let odd = directory.path().join("a:b");
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("f"), "odd").unwrap();
        assert_eq!(read("sasl.username", &format!("${{directory:{}:f}}", odd.display())).as_deref(), Ok("odd"));
    }
}

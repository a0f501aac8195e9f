//! The files that properties name: what is wrong with them, in words.
//!
//! Promises that each error names the property, and the path unless it may be a secret. OpenSSL's own words stand
//! behind ours, unless they mislead. Does not: check names or dates of a certificate, because the broker decides on
//! those.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{
    encryption::{lacking_digest, lacking_for_key, lacking_for_keystore, missing_in_keystore},
    error::PropertyError,
    path::{instead_of_path, quoted_path},
};

/// The properties in effect, by the name that is given to librdkafka.
pub type Effective<'a> = BTreeMap<&'static str, &'a str>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Certificates,
    Key,
    RevocationList,
    Keystore,
}

const CA: &str = "ssl.ca.location";
/// That of the identity provider. librdkafka does not get it.
const HTTPS_CA: &str = "https.ca.location";

/// What each property names a file of.
const FILES: [(&str, Kind); 6] = [
    (HTTPS_CA, Kind::Certificates),
    (CA, Kind::Certificates),
    ("ssl.certificate.location", Kind::Certificates),
    ("ssl.crl.location", Kind::RevocationList),
    ("ssl.key.location", Kind::Key),
    ("ssl.keystore.location", Kind::Keystore),
];

/// What each property holds in PEM.
const PEM: [(&str, Kind); 4] = [
    ("https.ca.pem", Kind::Certificates),
    ("ssl.ca.pem", Kind::Certificates),
    ("ssl.certificate.pem", Kind::Certificates),
    ("ssl.key.pem", Kind::Key),
];

/// More than the largest bundle of certificates has. No more of a file is looked at.
const MAX_READ: u64 = 1024 * 1024;

/// What Java keystores begin with: JKS and JCEKS.
const JAVA_MAGIC: [[u8; 4]; 2] = [[0xfe, 0xed, 0xfe, 0xed], [0xce, 0xce, 0xce, 0xce]];
/// The first byte of DER: a sequence.
const DER: u8 = 0x30;

/// The files that librdkafka's properties name, and directories of certificates, with the property of each.
pub fn named<'a>(effective: &Effective<'a>) -> impl Iterator<Item = (&'static str, &'a Path)> {
    all_named(effective).filter(|(name, ..)| *name != HTTPS_CA).map(|(name, _, path)| (name, path))
}

fn is_ca(name: &str) -> bool {
    matches!(name, CA | HTTPS_CA)
}

fn all_named<'a>(effective: &Effective<'a>) -> impl Iterator<Item = (&'static str, Kind, &'a Path)> {
    FILES.into_iter().filter_map(|(name, kind)| {
        let path = *effective.get(name).filter(|path| !path.is_empty())?;
        // With `probe`, certificates are looked for where distributions keep them.
        let is_probe = is_ca(name) && path == "probe";
        (!is_probe).then_some((name, kind, Path::new(path)))
    })
}

/// Checks that the files that properties name can be read, and what files and PEM values are.
pub fn check(effective: &Effective<'_>) -> Result<(), PropertyError> {
    for (name, kind, path) in all_named(effective) {
        // A directory of certificates is also taken.
        if is_ca(name) && path.is_dir() {
            continue;
        }
        let shown = path.to_string_lossy();
        let wrong = |reason: String| Err(PropertyError::new(name, None, format!("{} {reason}", quoted_path(&shown))));
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(_) if let Some(what) = instead_of_path(&shown) => {
                return Err(PropertyError::new(name, None, format!("{what}: {}", instead_of_location(name))));
            }
            Err(Unreadable::Kind(what)) => return wrong(what.to_owned()),
            Err(Unreadable::Io(error)) => return wrong(format!("can't be read: {error}")),
        };
        if let Some(reason) = wrong_contents(kind, &bytes, effective) {
            return wrong(reason);
        }
    }
    for (name, kind) in PEM {
        let Some(value) = effective.get(name).filter(|value| !value.is_empty()) else { continue };
        if let Some(reason) = wrong_contents(kind, value.as_bytes(), effective) {
            return Err(PropertyError::new(name, None, reason));
        }
    }
    Ok(())
}

/// Which property takes what may stand in the place of this one's path.
fn instead_of_location(name: &str) -> String {
    let pem = name.replace(".location", ".pem");
    match name {
        "ssl.keystore.location" => "PEM is set by ssl.certificate.pem and ssl.key.pem".to_owned(),
        _ if PEM.iter().any(|(known, _)| *known == pem) => format!("use {pem} for PEM"),
        _ => "write it to a file".to_owned(),
    }
}

enum Unreadable {
    Kind(&'static str),
    Io(io::Error),
}

fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    // A pipe would be waited for, and could be read once only, but each client reads the file.
    let metadata = path.metadata().map_err(Unreadable::Io)?;
    if metadata.is_dir() {
        return Err(Unreadable::Kind("is a directory, not a file"));
    }
    if !metadata.is_file() {
        return Err(Unreadable::Kind("is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes)).map_err(Unreadable::Io)?;
    Ok(bytes)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What is wrong with the contents of a file or of a value, if that can be said without OpenSSL.
fn wrong_contents(kind: Kind, bytes: &[u8], effective: &Effective<'_>) -> Option<String> {
    let has = |text: &str| contains(bytes, text);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Some("is empty".to_owned());
    }
    let is_der = bytes[0] == DER;
    let is_java = JAVA_MAGIC.iter().any(|magic| bytes.starts_with(magic));
    if kind == Kind::Keystore {
        return if is_java {
            Some(
                "is a Java keystore (JKS), not PKCS#12: convert it with keytool -importkeystore -srckeystore OLD \
                 -destkeystore NEW -deststoretype PKCS12"
                    .to_owned(),
            )
        } else if has("-----BEGIN ") {
            Some("is PEM, not PKCS#12: name it with ssl.certificate.location and ssl.key.location".to_owned())
        } else if is_der {
            let needs_password = !effective.contains_key("ssl.keystore.password");
            needs_password.then(|| "needs ssl.keystore.password".to_owned())
        } else {
            Some("is no PKCS#12 keystore".to_owned())
        };
    }
    let (label, what, convert) = match kind {
        Kind::Key => ("PRIVATE KEY-----", "private key", "openssl pkey -inform DER"),
        Kind::RevocationList => ("X509 CRL-----", "revocation list", "openssl crl -inform DER"),
        _ => ("CERTIFICATE-----", "certificate", "openssl x509 -inform DER"),
    };
    if is_java {
        Some(format!("is a Java keystore, not a PEM file with a {what}"))
    } else if is_der && !has("-----BEGIN ") {
        Some(format!("is binary (DER), not PEM: convert it with {convert}, or use ssl.keystore.location for PKCS#12"))
    } else if !has(label) {
        Some(format!("has no {what} in PEM: no line -----BEGIN … {label}"))
    } else if kind == Kind::Key && has("BEGIN OPENSSH PRIVATE KEY") {
        Some("is a key in the format of OpenSSH: convert a copy of it with ssh-keygen -p -m PEM -f COPY".to_owned())
    } else if let Some(method) = Some(bytes).filter(|_| kind == Kind::Key).and_then(lacking_for_key) {
        Some(format!(
            "is encrypted with {method}, an old method that this build lacks: encrypt it again with openssl pkey \
             -provider default -provider legacy -in OLD -out NEW -aes256"
        ))
    } else {
        let needs_password = kind == Kind::Key && has("ENCRYPTED") && !effective.contains_key("ssl.key.password");
        needs_password.then(|| "is encrypted: set ssl.key.password".to_owned())
    }
}

const KEYSTORE_UNSUPPORTED: &str = "is made with a method that this build lacks";
const KEYSTORE_AGAIN: &str = "make it again with openssl pkcs12 -legacy -in OLD -nodes -out PEM and openssl pkcs12 \
                              -export -in PEM -out NEW, or name PEM with ssl.certificate.location and ssl.key.location";
const KEYSTORE_PASSWORD: &str = "is not opened by ssl.keystore.password";
const KEYSTORE_DAMAGED: &str = "is no PKCS#12 keystore, or it is damaged";
const KEY_PASSWORD: &str = "is not decrypted by ssl.key.password, or it is damaged";
const MISMATCH: &str = "is not the key of the certificate";
const OTHER_KIND: &str = "is not the key of the certificate: one is of RSA and the other of EC, or of another kind";
const NO_CERTIFICATE_SET: &str = "needs its certificate: set ssl.certificate.location or ssl.certificate.pem";
const SMALL_KEY: &str = "has a key that is too small: RSA needs 2048 bits, EC 224";
const OLD_SIGNATURE: &str = "has a certificate whose signature has an old digest, such as SHA-1 or MD5";
const NO_KEY: &str = "has no private key that can be read";
const NO_CERTIFICATE: &str = "has no certificate that can be read";

/// What librdkafka's text means: its words, the property at fault, and what is wrong. The first that fits counts.
const CAUSES: [(&[&str], &str, &str); 18] = [
    (&["Failed to parse ssl.keystore.location", "unsupported"], "ssl.keystore.location", KEYSTORE_UNSUPPORTED),
    (&["Failed to parse ssl.keystore.location", "mac verify"], "ssl.keystore.location", KEYSTORE_PASSWORD),
    (&["Failed to parse ssl.keystore.location"], "ssl.keystore.location", KEYSTORE_DAMAGED),
    (&["Error reading ssl.keystore.location"], "ssl.keystore.location", KEYSTORE_DAMAGED),
    (&["Failed to use ssl.keystore.location", "key too small"], "ssl.keystore.location", SMALL_KEY),
    (&["Failed to use ssl.keystore.location", "md too weak"], "ssl.keystore.location", OLD_SIGNATURE),
    (&["Failed to use ssl.keystore.location"], "ssl.keystore.location", "has no key with its certificate"),
    (&["ssl.key.location failed"], "ssl.key.location", NO_KEY),
    (&["ssl.key.pem failed"], "ssl.key.pem", NO_KEY),
    (&["ssl.certificate.location failed", "key too small"], "ssl.certificate.location", SMALL_KEY),
    (&["ssl.certificate.location failed", "md too weak"], "ssl.certificate.location", OLD_SIGNATURE),
    (&["ssl.certificate.pem failed", "key too small"], "ssl.certificate.pem", SMALL_KEY),
    (&["ssl.certificate.pem failed", "md too weak"], "ssl.certificate.pem", OLD_SIGNATURE),
    (&["ssl.certificate.location failed"], "ssl.certificate.location", NO_CERTIFICATE),
    (&["ssl.certificate.pem failed"], "ssl.certificate.pem", NO_CERTIFICATE),
    (&["ssl.ca.location failed"], "ssl.ca.location", NO_CERTIFICATE),
    (&["ssl.ca.pem"], "ssl.ca.pem", NO_CERTIFICATE),
    (&["ssl.crl.location failed"], "ssl.crl.location", "has no revocation list that can be read"),
];

/// The error for a client that librdkafka can't create because of a file or of PEM, if the text is about one.
pub fn explained(text: &str, effective: &Effective<'_>) -> Option<PropertyError> {
    let key = || ["ssl.key.location", "ssl.key.pem"].into_iter().find(|name| effective.contains_key(name));
    let is_mismatch = text.contains("key values mismatch") || text.contains("Private key check failed");
    let (name, what) = match key().filter(|_| is_mismatch) {
        Some(name) => (name, mismatch(text, effective)),
        None => {
            let (_, name, what) = CAUSES.iter().find(|(words, ..)| words.iter().all(|word| text.contains(word)))?;
            let is_locked = *what == NO_KEY && is_encrypted(name, effective.get(name)?);
            (*name, if is_locked { KEY_PASSWORD } else { *what })
        }
    };
    let path = effective.get(name).filter(|_| name.ends_with(".location"));
    let what = match path.and_then(|path| keystore_cause(path, what, effective)) {
        Some(cause) => cause,
        // OpenSSL's words would say the same, or they are about something else.
        None if [OTHER_KIND, NO_CERTIFICATE_SET].contains(&what) => what.to_owned(),
        None => format!("{what} ({})", words(text)),
    };
    let path = path.map(|path| format!("{} ", quoted_path(path))).unwrap_or_default();
    Some(PropertyError::new(name, None, path + &what))
}

/// Why a key and a certificate do not belong together.
fn mismatch(text: &str, effective: &Effective<'_>) -> &'static str {
    let has_certificate = effective.keys().any(|name| name.starts_with("ssl.certificate."));
    match text.contains("no certificate assigned") {
        true if has_certificate => OTHER_KIND,
        true => NO_CERTIFICATE_SET,
        false => MISMATCH,
    }
}

/// What is wrong with a keystore, where OpenSSL's words do not tell it.
fn keystore_cause(path: &str, what: &str, effective: &Effective<'_>) -> Option<String> {
    let password = *effective.get("ssl.keystore.password")?;
    let bytes = || read(Path::new(path)).ok();
    match what {
        KEYSTORE_UNSUPPORTED => {
            let method = bytes().and_then(|bytes| lacking_for_keystore(&bytes)).map(|method| format!(" ({method})"));
            Some(format!(
                "is encrypted with an old method{} that this build lacks, such as RC2, RC4 or DES, the default of \
                 OpenSSL before 3.0 and of old keytools: {KEYSTORE_AGAIN}",
                method.unwrap_or_default()
            ))
        }
        KEYSTORE_PASSWORD => {
            let digest = lacking_digest(&bytes()?)?;
            Some(format!("has a MAC with the old digest {digest}, which this build lacks: {KEYSTORE_AGAIN}"))
        }
        SMALL_KEY => missing_in_keystore(&bytes()?, password).map(ToOwned::to_owned),
        _ => None,
    }
}

fn is_encrypted(name: &str, value: &str) -> bool {
    let in_file = || read(Path::new(value)).is_ok_and(|bytes| contains(&bytes, "ENCRYPTED"));
    if name.ends_with(".location") { in_file() } else { value.contains("ENCRYPTED") }
}

/// OpenSSL's words without their number, or all of the text.
fn words(text: &str) -> String {
    let after_code = || Some(text.split_once("error:")?.1.split_once(':')?.1);
    after_code().map_or_else(|| text.to_owned(), |words| format!("OpenSSL: {}", words.replace("::", ": ")))
}

#[cfg(test)]
mod tests;

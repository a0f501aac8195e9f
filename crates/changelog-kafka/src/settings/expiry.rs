//! When the certificates that properties name expire.
//!
//! Does not: read the certificates of the system (`probe`), or a directory of them.

use std::{fs::File, io::Read as _};

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    pkcs12::Pkcs12,
    x509::X509,
};

use super::{Settings, files::Effective, pem};

/// More than the largest bundle of certificates has. No more of a file is looked at.
const MAX_READ: u64 = 1024 * 1024;

/// When the first certificate of each kind expires, in seconds since 1970. `None` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expirations {
    pub client: Option<u64>,
    pub ca: Option<u64>,
}

impl Settings {
    /// When the certificates expire that the properties name now. Blocks.
    pub(crate) fn expirations(&self) -> Expirations {
        let effective = self.effective();
        let client = first([
            of_file(&effective, "ssl.certificate.location", of_pem),
            of_value(&effective, "ssl.certificate.pem"),
            of_file(&effective, "ssl.keystore.location", |bytes| {
                of_keystore(bytes, effective.get("ssl.keystore.password").copied().unwrap_or_default())
            }),
        ]);
        let ca = first([
            of_file(&effective, "ssl.ca.location", of_pem),
            of_value(&effective, "ssl.ca.pem"),
            of_file(&effective, "https.ca.location", of_pem),
            of_value(&effective, "https.ca.pem"),
        ]);
        Expirations { client, ca }
    }
}

fn first(times: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    times.into_iter().flatten().min()
}

/// Of what can't be read, the check of the settings or the client says so.
fn of_file(effective: &Effective<'_>, name: &str, of: impl FnOnce(&[u8]) -> Option<u64>) -> Option<u64> {
    let path = effective.get(name).filter(|path| !path.is_empty())?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_READ).read_to_end(&mut bytes).ok()?;
    of(&bytes)
}

fn of_value(effective: &Effective<'_>, name: &str) -> Option<u64> {
    of_pem(pem::normalized(effective.get(name)?)?.as_bytes())
}

fn of_pem(bytes: &[u8]) -> Option<u64> {
    first(X509::stack_from_pem(bytes).ok()?.iter().map(|certificate| seconds(certificate.not_after())))
}

/// The authorities in a keystore are there to be sent, so they count as the client's.
fn of_keystore(bytes: &[u8], password: &str) -> Option<u64> {
    let parsed = Pkcs12::from_der(bytes).ok()?.parse2(password).ok()?;
    let others = parsed.ca.iter().flatten().map(|certificate| seconds(certificate.not_after()));
    first(others.chain([parsed.cert.as_ref().and_then(|certificate| seconds(certificate.not_after()))]))
}

fn seconds(time: &Asn1TimeRef) -> Option<u64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    // One from before 1970 has expired.
    Some(u64::try_from(i64::from(since.days) * 86_400 + i64::from(since.secs)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use openssl::pkey::PKey;

    use super::*;
    use crate::settings::parse_properties;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");

    fn of(properties: &str) -> Expirations {
        let mut settings = Settings::new("127.0.0.1:1", "t");
        settings.properties = parse_properties(properties).unwrap().into_iter().collect();
        settings.expirations()
    }

    fn fixture(name: &str) -> String {
        Path::new(FIXTURES).join(name).display().to_string()
    }

    #[test]
    fn the_first_certificate_of_each_kind_that_properties_name_counts() {
        let pem = fs::read(fixture("certificate.pem")).unwrap();
        let certificate = X509::from_pem(&pem).unwrap();
        let expires = seconds(certificate.not_after());
        assert!(expires.is_some());
        let path = fixture("certificate.pem");
        assert_eq!(of(""), Expirations { client: None, ca: None });
        assert_eq!(of("ssl.ca.location=probe"), Expirations { client: None, ca: None });
        assert_eq!(of(&format!("ssl.ca.location={path}")), Expirations { client: None, ca: expires });
        assert_eq!(of(&format!("ssl.certificate.location={path}")), Expirations { client: expires, ca: None });
        let one_line = String::from_utf8(pem).unwrap().replace('\n', "\\n");
        assert_eq!(of(&format!("ssl.certificate.pem={one_line}")), Expirations { client: expires, ca: None });

        let key = PKey::private_key_from_pem(&fs::read(fixture("key.pem")).unwrap()).unwrap();
        let keystore = Pkcs12::builder().cert(&certificate).pkey(&key).build2("secret").unwrap().to_der().unwrap();
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("keystore");
        fs::write(&file, keystore).unwrap();
        let of_keystore = |password| {
            of(&format!("ssl.keystore.location={}\nssl.keystore.password={password}", file.display())).client
        };
        assert_eq!((of_keystore("secret"), of_keystore("wrong")), (expires, None));
    }
}

//! Encryption and digests that the bundled OpenSSL lacks, because they are broken: what a key or a keystore has.
//!
//! OpenSSL's own words do not tell them from a wrong password. Does not: decrypt.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use openssl::{asn1::Asn1Object, pkcs12::Pkcs12};

/// Methods of encryption, by their object identifiers: PBES1 (RFC 8018), those of PKCS#12 (RFC 7292), and ciphers of
/// PBES2.
const METHODS: [(&str, &str); 20] = [
    ("1.2.840.113549.1.5.1", "PBE-MD2-DES"),
    ("1.2.840.113549.1.5.3", "PBE-MD5-DES"),
    ("1.2.840.113549.1.5.4", "PBE-MD2-RC2-64"),
    ("1.2.840.113549.1.5.6", "PBE-MD5-RC2-64"),
    ("1.2.840.113549.1.5.10", "PBE-SHA1-DES"),
    ("1.2.840.113549.1.5.11", "PBE-SHA1-RC2-64"),
    ("1.2.840.113549.1.12.1.1", "PBE-SHA1-RC4-128"),
    ("1.2.840.113549.1.12.1.2", "PBE-SHA1-RC4-40"),
    ("1.2.840.113549.1.12.1.5", "PBE-SHA1-RC2-128"),
    ("1.2.840.113549.1.12.1.6", "PBE-SHA1-RC2-40"),
    ("1.3.14.3.2.7", "DES-CBC"),
    ("1.2.840.113549.3.2", "RC2-CBC"),
    ("1.2.840.113549.3.4", "RC4"),
    ("1.2.840.113533.7.66.10", "CAST5-CBC"),
    ("1.3.6.1.4.1.3029.1.2", "BF-CBC"),
    ("1.3.6.1.4.1.188.7.1.1.2", "IDEA-CBC"),
    ("1.2.410.200004.1.4", "SEED-CBC"),
    ("1.2.392.200011.61.1.1.1.2", "CAMELLIA-128-CBC"),
    ("1.2.392.200011.61.1.1.1.3", "CAMELLIA-192-CBC"),
    ("1.2.392.200011.61.1.1.1.4", "CAMELLIA-256-CBC"),
];

/// Digests of the MAC of a keystore.
const DIGESTS: [(&str, &str); 3] =
    [("1.2.840.113549.2.2", "MD2"), ("1.2.840.113549.2.4", "MD4"), ("1.0.10118.3.0.55", "Whirlpool")];

/// The ciphers of a `DEK-Info` line that this OpenSSL has.
const CIPHERS: [&str; 3] = ["AES-", "ARIA-", "DES-EDE"];

/// The method of PEM that this build can't decrypt.
pub fn lacking_for_key(pem: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(pem);
    let cipher = text.lines().find_map(|line| line.trim().strip_prefix("DEK-Info:")?.split(',').next());
    if let Some(cipher) = cipher.map(str::trim) {
        let is_name = cipher.len() <= 20 && cipher.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let is_lacking = !CIPHERS.iter().any(|known| cipher.starts_with(known));
        return is_lacking.then(|| if is_name { cipher } else { "an unknown cipher" }.to_owned());
    }
    let (_, block) = text.split_once("-----BEGIN ENCRYPTED PRIVATE KEY-----")?;
    let base64: String = block.split("-----").next()?.split_whitespace().collect();
    let der = STANDARD.decode(base64).ok()?;
    named(&METHODS, &der).map(ToOwned::to_owned)
}

/// The method of a keystore that this build can't decrypt.
pub fn lacking_for_keystore(der: &[u8]) -> Option<&'static str> {
    named(&METHODS, der)
}

/// The digest of a keystore's MAC that this build can't compute.
pub fn lacking_digest(der: &[u8]) -> Option<&'static str> {
    named(&DIGESTS, der)
}

/// The first whose identifier is in the bytes. Encrypted bytes hardly ever have one by chance.
fn named(methods: &[(&str, &'static str)], der: &[u8]) -> Option<&'static str> {
    /// The tag of an object identifier (X.690).
    const TAG: u8 = 6;
    let is_in = |identifier: &str| {
        let Ok(object) = Asn1Object::from_str(identifier) else { return false };
        let contents = object.as_slice();
        let encoded: Vec<_> = u8::try_from(contents.len()).into_iter().flat_map(|length| [TAG, length]).collect();
        let encoded = [&*encoded, contents].concat();
        der.windows(encoded.len()).any(|window| window == encoded)
    };
    methods.iter().find(|(identifier, _)| is_in(identifier)).map(|(_, name)| *name)
}

/// What a keystore lacks: its key, or the certificate of it. OpenSSL calls either a key that is too small.
pub fn missing_in_keystore(der: &[u8], password: &str) -> Option<&'static str> {
    let parsed = Pkcs12::from_der(der).and_then(|keystore| keystore.parse2(password)).ok()?;
    match (parsed.pkey, parsed.cert) {
        (None, _) => Some("has no private key"),
        (Some(_), None) => Some("has no certificate of its private key"),
        (Some(_), Some(_)) => None,
    }
}

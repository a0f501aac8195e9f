use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::super::Settings;

const PASSWORD: &str = "hunter2";

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// The outcome of a check of these properties, with TLS.
fn check(properties: &[(&str, &str)]) -> Result<(), String> {
    let mut settings = Settings::new("b:9092", "t");
    let all = [("security.protocol", "ssl")].iter().chain(properties);
    settings.properties = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings.check().map_err(|error| error.to_string())
}

/// Whether it has a number of OpenSSL's, such as `error:0308010C:`.
fn has_code(text: &str) -> bool {
    text.split("error:").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()))
}

/// The error must name the property and the path, and have these words.
fn assert_refused(properties: &[(&str, &str)], words: &[&str]) {
    let [(name, path), ..] = properties else { panic!("no property") };
    let error = check(properties).expect_err(name);
    assert!(error.contains(name) && error.contains(path), "{error}");
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    assert!(!error.contains(PASSWORD) && !has_code(&error), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// Covers S11.
#[test]
fn good_files_are_taken() {
    let (certificate, key, encrypted) = (fixture("certificate.pem"), fixture("key.pem"), fixture("encrypted-key.pem"));
    let (modern, directory) = (fixture("modern.p12"), fixture(""));
    let pair = [("ssl.certificate.location", &*certificate), ("ssl.key.location", &*key)];
    let locked =
        [("ssl.certificate.location", &*certificate), ("ssl.key.location", &encrypted), ("ssl.key.password", PASSWORD)];
    for properties in [
        &pair[..],
        &locked,
        &[("ssl.keystore.location", &modern), ("ssl.keystore.password", PASSWORD)],
        &[("ssl.ca.location", &certificate)],
        &[("ssl.ca.location", &directory)],
        &[("ssl.ca.location", "probe")],
        &[("ssl.ca.location", "")],
    ] {
        assert_eq!(check(properties), Ok(()), "{properties:?}");
    }
}

/// Covers S11, B24.
#[test]
fn an_old_keystore_is_refused_with_the_way_out() {
    let legacy = fixture("legacy.p12");
    let properties = [("ssl.keystore.location", &*legacy), ("ssl.keystore.password", PASSWORD)];
    assert_refused(&properties, &["RC2", "RC4", "DES", "openssl pkcs12 -legacy", "ssl.certificate.location"]);
    // The password is checked first, so it is right or this is the cause.
    let wrong = [("ssl.keystore.location", &*legacy), ("ssl.keystore.password", "wrong")];
    assert_refused(&wrong, &["ssl.keystore.password"]);
}

/// Covers S11, S12, B24.
#[test]
fn a_key_with_an_old_encryption_is_refused_with_its_method_and_the_way_out() {
    let certificate = fixture("certificate.pem");
    let way_out = "openssl pkey -provider default -provider legacy";
    for (name, method) in
        [("pbes1-key.pem", "PBE-MD5-DES"), ("pbes2-rc2-key.pem", "RC2-CBC"), ("dek-info-key.pem", "DES-CBC")]
    {
        let (path, pem) = (fixture(name), fs::read_to_string(fixture(name)).unwrap());
        // The password does not matter, and is not asked for.
        for password in [&[("ssl.key.password", PASSWORD)][..], &[("ssl.key.password", "wrong")], &[]] {
            let properties = [&[("ssl.key.location", &*path), ("ssl.certificate.location", &certificate)], password];
            assert_refused(&properties.concat(), &[method, "old", way_out]);
            let error = check(&[&[("ssl.key.pem", &*pem)], password].concat()).unwrap_err();
            assert!(error.contains("ssl.key.pem") && error.contains(method) && error.contains(way_out), "{error}");
        }
    }
    let openssh = fixture("openssh-key");
    assert_refused(&[("ssl.key.location", &openssh)], &["OpenSSH", "ssh-keygen -p -m PEM"]);
}

/// Covers S11, B24.
#[test]
fn what_the_bundled_openssl_lacks_in_a_keystore_is_named() {
    for (name, words) in [
        ("des.p12", &["PBE-MD5-DES", "openssl pkcs12 -legacy"][..]),
        ("md4-mac.p12", &["MD4", "openssl pkcs12 -legacy"]),
        ("small.p12", &["too small", "2048"]),
        ("no-key.p12", &["has no private key"]),
        ("no-certificate.p12", &["has no certificate"]),
    ] {
        let path = fixture(name);
        let properties = [("ssl.keystore.location", &*path), ("ssl.keystore.password", PASSWORD)];
        assert_refused(&properties, words);
        let error = check(&properties).unwrap_err();
        assert!(!error.contains("is not opened by"), "{error}");
        assert_eq!(error.contains("too small"), name == "small.p12", "{error}");
    }
}

/// Covers S11, B24.
#[test]
fn a_certificate_that_is_too_weak_or_of_another_kind_is_refused_with_that_cause() {
    let (small, sha1, rsa) = (fixture("small.pem"), fixture("sha1-certificate.pem"), fixture("rsa-certificate.pem"));
    let (key, certificate) = (fixture("key.pem"), fixture("certificate.pem"));
    let read = |path: &str| fs::read_to_string(path).unwrap();
    for (path, words) in [(&small, "too small"), (&sha1, "old digest")] {
        assert_refused(&[("ssl.certificate.location", path)], &[words]);
        let error = check(&[("ssl.certificate.pem", &read(path))]).unwrap_err();
        assert!(error.contains("ssl.certificate.pem") && error.contains(words), "{error}");
    }
    for certificate in [("ssl.certificate.location", &*rsa), ("ssl.certificate.pem", &read(&rsa))] {
        assert_refused(&[("ssl.key.location", &key), certificate], &["not the key of the certificate", "RSA", "EC"]);
    }
    assert_refused(&[("ssl.key.location", &key)], &["needs its certificate", "ssl.certificate.location"]);
    let good = [("ssl.key.location", &*key), ("ssl.certificate.location", &certificate)];
    assert_eq!(check(&good), Ok(()));
}

/// Covers S12, B24.
#[test]
fn a_key_in_the_place_of_a_path_is_not_shown() {
    let pem = fs::read_to_string(fixture("key.pem")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let first_line = pem.lines().nth(1).unwrap();
    for (name, instead) in [
        ("ssl.key.location", "use ssl.key.pem"),
        ("ssl.certificate.location", "use ssl.certificate.pem"),
        ("ssl.ca.location", "use ssl.ca.pem"),
        ("ssl.crl.location", "write it to a file"),
        ("ssl.keystore.location", "ssl.certificate.pem and ssl.key.pem"),
    ] {
        for (value, what) in [(&*pem, "PEM, not a path"), (&base64, "base64"), (first_line, "base64")] {
            let error = check(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(what) && error.contains(instead), "{error}");
            assert!(!error.contains(&first_line[..12]) && error.lines().count() == 1, "{error}");
        }
        let error = check(&[(name, "/gone/a=hunter2")]).unwrap_err();
        assert!(error.contains("can't be read") && !error.contains(PASSWORD), "{error}");
    }
}

/// Covers S11, S12, B24.
#[test]
fn a_file_that_is_not_what_its_property_names_is_refused_in_words() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, text) = (file("empty", b" \n"), file("text", b"no key"));
    let (java, der) = (file("java", b"\xfe\xed\xfe\xed\0\0\0\x02"), file("der", b"\x30\x82\x01\x02\x02"));
    let (certificate, key, encrypted) = (fixture("certificate.pem"), fixture("key.pem"), fixture("encrypted-key.pem"));
    let (modern, other) = (fixture("modern.p12"), fixture("other-key.pem"));
    let damaged_key = file("damaged", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let damaged = file("damaged-certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let damaged_list = file("damaged-list", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    let gone = directory.path().join("gone").to_str().unwrap().to_owned();
    let here = directory.path().to_str().unwrap().to_owned();
    let names = ["ssl.ca.location", "ssl.certificate.location", "ssl.crl.location", "ssl.key.location"];
    for name in names.iter().chain(&["ssl.keystore.location"]) {
        assert_refused(&[(name, &gone)], &["can't be read", "No such file"]);
        assert_refused(&[(name, &empty)], &["is empty"]);
        if *name != "ssl.ca.location" {
            assert_refused(&[(name, &here)], &["is a directory"]);
        }
        assert_refused(&[(name, "/dev/null")], &["no regular file"]);
        assert_refused(&[(name, &java)], &["Java keystore"]);
        // Linux refuses to read it, also to root.
        #[cfg(target_os = "linux")]
        assert_refused(&[(name, "/proc/self/mem")], &["can't be read", "os error"]);
    }
    for name in names {
        assert_refused(&[(name, &text)], &["in PEM"]);
        assert_refused(&[(name, &der)], &["DER", "openssl"]);
    }
    assert_refused(&[("ssl.key.location", &certificate)], &["no private key"]);
    assert_refused(&[("ssl.certificate.location", &key)], &["no certificate"]);
    assert_refused(&[("ssl.key.location", &encrypted)], &["is encrypted", "ssl.key.password"]);
    let wrong_password = [("ssl.key.location", &*encrypted), ("ssl.key.password", "wrong")];
    assert_refused(&wrong_password, &["ssl.key.password"]);
    assert_refused(&[("ssl.key.location", &damaged_key)], &["no private key that can be read"]);
    assert_refused(&[("ssl.certificate.location", &damaged)], &["no certificate that can be read"]);
    assert_refused(&[("ssl.ca.location", &damaged)], &["no certificate that can be read"]);
    assert_refused(&[("ssl.crl.location", &damaged_list)], &["no revocation list that can be read"]);
    let mismatch = [("ssl.key.location", &*other), ("ssl.certificate.location", &certificate)];
    assert_refused(&mismatch, &["not the key of the certificate"]);
    assert_refused(&[("ssl.keystore.location", &certificate)], &["PEM", "ssl.key.location"]);
    assert_refused(&[("ssl.keystore.location", &text)], &["no PKCS#12"]);
    assert_refused(&[("ssl.keystore.location", &der), ("ssl.keystore.password", "x")], &["no PKCS#12", "damaged"]);
    assert_refused(&[("ssl.keystore.location", &modern)], &["ssl.keystore.password"]);
    let wrong_password = [("ssl.keystore.location", &*modern), ("ssl.keystore.password", "wrong")];
    assert_refused(&wrong_password, &["ssl.keystore.password"]);
}

/// Covers S11, S12.
#[test]
fn pem_in_a_property_is_checked_and_never_shown() {
    let read = |name: &str| fs::read_to_string(fixture(name)).unwrap();
    let (certificate, key, encrypted) = (read("certificate.pem"), read("key.pem"), read("encrypted-key.pem"));
    let other = read("other-key.pem");
    assert_eq!(check(&[("ssl.certificate.pem", &certificate), ("ssl.key.pem", &key)]), Ok(()));
    let locked = [("ssl.certificate.pem", &*certificate), ("ssl.key.pem", &*encrypted), ("ssl.key.password", PASSWORD)];
    assert_eq!(check(&locked), Ok(()));
    assert_eq!(check(&[("ssl.ca.pem", &certificate)]), Ok(()));
    for properties in [
        &[("ssl.key.pem", &*encrypted)][..],
        &[("ssl.key.pem", &encrypted), ("ssl.key.password", "wrong")],
        &[("ssl.key.pem", &certificate)],
        &[("ssl.key.pem", &other), ("ssl.certificate.pem", &certificate)],
        &[("ssl.certificate.pem", &key)],
        &[("ssl.ca.pem", &key)],
        &[("ssl.key.pem", "MIIE")],
    ] {
        let error = check(properties).unwrap_err();
        assert!(error.contains(properties[0].0) && !has_code(&error), "{error}");
        let lines = [&*certificate, &key, &encrypted, &other].into_iter().flat_map(str::lines);
        for line in lines.filter(|line| !line.starts_with("-----")) {
            assert!(!error.contains(line), "{error}");
        }
    }
}

//! Keys and certificates, by Java's keytool.

use std::{fs, path::Path, process::Command};

pub const STORE_PASSWORD: &str = "changeit";

/// Runs keytool on a PKCS#12 store with this alias. Returns what it printed.
fn keytool(store: &Path, alias: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("keytool")
        .args(arguments)
        .args(["-alias", alias, "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"])
        .arg(store)
        .output()
        .expect("keytool comes with Java");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

const NEW_KEY: [&str; 5] = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1"];

/// A key and a self-signed certificate for 127.0.0.1, as `NAME.p12` and `NAME.pem`.
pub fn self_signed(dir: &Path, name: &str, start: &str, days: &str) {
    let who = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-startdate", start, "-validity", days];
    let store = dir.join(format!("{name}.p12"));
    keytool(&store, "b", &[&NEW_KEY[..], &who].concat());
    fs::write(dir.join(format!("{name}.pem")), keytool(&store, "b", &["-exportcert", "-rfc"])).expect("written");
}

/// An authority as `ca.p12`, and a store with its certificate for a broker, `trust.p12`.
pub fn authority(dir: &Path) {
    let store = dir.join("ca.p12");
    keytool(&store, "ca", &[&NEW_KEY[..], &["-dname", "CN=ca", "-ext", "bc:c", "-validity", "10"]].concat());
    let certificate = dir.join("ca.pem");
    fs::write(&certificate, keytool(&store, "ca", &["-exportcert", "-rfc"])).expect("written");
    import(&dir.join("trust.p12"), "ca", &certificate);
}

/// A key and a certificate of the authority, as `NAME.p12`, which expires after so many seconds.
pub fn signed(dir: &Path, name: &str, seconds: u32) {
    let (store, file) = (dir.join(format!("{name}.p12")), dir.join(format!("{name}.csr")));
    keytool(&store, "b", &[&NEW_KEY[..], &["-dname", "CN=service", "-validity", "10"]].concat());
    fs::write(&file, keytool(&store, "b", &["-certreq"])).expect("written");
    // keytool counts the validity in days.
    let (start, request) = (format!("-1d+{seconds}S"), file.display().to_string());
    let sign = ["-gencert", "-rfc", "-startdate", &start, "-validity", "1", "-infile", &request];
    fs::write(&file, keytool(&dir.join("ca.p12"), "ca", &sign)).expect("written");
    import(&store, "ca", &dir.join("ca.pem"));
    import(&store, "b", &file);
}

fn import(store: &Path, alias: &str, certificate: &Path) {
    keytool(store, alias, &["-importcert", "-noprompt", "-file", &certificate.display().to_string()]);
}

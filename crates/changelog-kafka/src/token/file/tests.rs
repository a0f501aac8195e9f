use std::{fs, time::Duration};

use changelogd_testkit::identity_provider::unsecured_jwt;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Covers R63.
#[test]
fn a_token_is_read_without_the_white_space_around_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let jwt = unsecured_jwt("service", at(0), at(100));
    fs::write(&path, format!("\n {jwt} \r\n")).unwrap();
    let token = read(&path, at(50)).unwrap();
    assert_eq!((token.value(), token.principal(), token.expires_at()), (&*jwt, "service", Some(at(100))));
    fs::write(&path, "opaque\n").unwrap();
    assert_eq!(read(&path, at(50)).unwrap().expires_at(), None);
}

/// Covers R62, R64.
#[test]
fn a_file_without_a_token_is_an_error_with_the_path_and_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let jwt = unsecured_jwt("service", at(0), at(100));
    let signed = jwt.replace("bm9uZ", "UlMyN") + "c2ln";
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let large = "x".repeat(MAX_TOKEN_BYTES + 2_000);
    for (text, words) in [
        (None, "No such file"),
        (Some(&b""[..]), "is empty"),
        (Some(b" \n"), "is empty"),
        (Some(&jwt.as_bytes()[..20]), "cut off"),
        (Some(&signed.as_bytes()[..signed.len() - 5]), "cut off"),
        (Some(jwt.as_bytes()), "has expired at 1970-01-01T00:01:40Z"),
        (Some(b"\xff\xfe"), "is no text"),
        (Some(b"hunter2 hunter2"), "white space"),
        (Some(large.as_bytes()), "more than 65536 bytes"),
    ] {
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => assert!(!path.exists()),
        }
        let error = read(&path, at(200)).unwrap_err().to_string();
        let shown = format!("{:?}", path.display());
        assert!(error.contains(words) && error.contains(&shown) && !error.contains("hunter2"), "{words}: {error}");
    }
    for other in [directory.path(), &pipe] {
        assert!(read(other, at(0)).unwrap_err().to_string().contains("is no regular file"));
    }
}

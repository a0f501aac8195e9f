//! Checks of the Dockerfile's text. They need no Docker.

/// Covers S14.
#[test]
fn the_image_runs_as_an_unprivileged_user_on_a_base_without_a_shell() {
    let dockerfile = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile")).unwrap();
    let (_, image) = dockerfile.rsplit_once("\nFROM ").expect("a stage for the image");
    assert!(image.starts_with("gcr.io/distroless/cc-debian12:nonroot\n"), "{image}");
    let instruction = |name: &str| image.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
    assert_eq!(instruction("USER "), ["65532:65532"]);
    assert_eq!(instruction("ENTRYPOINT "), ["[\"/usr/local/bin/changelogd\"]"], "no shell starts it");
    assert_eq!(instruction("RUN "), [""; 0], "a shell would be needed");
    assert!(image.contains("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"), "CA roots for TLS to the brokers");
}

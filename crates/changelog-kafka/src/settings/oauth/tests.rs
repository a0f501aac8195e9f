use crate::settings::Settings;

use super::*;

const OAUTH: [(&str, &str); 2] = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "OAUTHBEARER")];
const OIDC: [(&str, &str); 4] =
    [(METHOD, "oidc"), (CLIENT_ID, "me"), (CLIENT_SECRET, "hunter2"), (URL, "https://idp.example/token")];

fn checked(properties: &[(&str, &str)], file: Option<&str>) -> Result<Option<TokenSettings>, String> {
    let mut settings = Settings::new("b:9092", "t");
    settings.properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings.oauth_token_file = file.map(PathBuf::from);
    let checked = settings.check().and_then(|()| settings.token()).map_err(|e| e.to_string());
    assert!(!format!("{checked:?} {settings:?}").contains("hunter2"), "{checked:?} {settings:?}");
    checked
}

fn oidc(properties: &[(&str, &str)]) -> OidcSettings {
    match checked(&[&OAUTH[..], &OIDC, properties].concat(), None).unwrap().unwrap().source {
        TokenSource::Oidc(oidc) => oidc,
        TokenSource::File(_) => panic!("no file"),
    }
}

/// Covers R66.
#[test]
fn each_source_is_accepted() {
    let file = checked(&OAUTH, Some("/token")).unwrap().unwrap();
    assert_eq!(file, TokenSettings { source: TokenSource::File("/token".into()), extensions: Vec::new() });
    let found = oidc(&[]);
    assert_eq!((&*found.client_id, &*found.client_secret), ("me", "hunter2"));
    assert_eq!((found.scope, found.trusted), (None, TrustedCertificates::System));
    let aliases = [
        ("SASL.OAUTHBEARER.METHOD", "OIDC"),
        ("sasl.oauthbearer.client.credentials.client.id", "me"),
        ("sasl.oauthbearer.client.credentials.client.secret", "hunter2"),
        ("sasl.oauthbearer.grant.type", "client_credentials"),
        ("sasl.oauthbearer.metadata.authentication.type", "none"),
        ("sasl.oauthbearer.scope", "a b"),
        (URL, "http://localhost:8080"),
    ];
    assert!(checked(&[&OAUTH[..], &aliases].concat(), None).unwrap().is_some());
    let unsecured = [(UNSECURED, "true"), ("sasl.oauthbearer.config", "principal=me")];
    assert_eq!(checked(&[&OAUTH[..], &unsecured].concat(), None), Ok(None));
    assert_eq!(checked(&[("linger.ms", "5"), (METHOD, "default")], None), Ok(None));
}

/// Covers R66.
#[test]
fn a_missing_or_second_source_is_refused_with_flag_and_property() {
    let plain = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "u"),
        ("sasl.password", "p"),
    ];
    let no_sasl = [("security.protocol", "SSL"), ("sasl.mechanism", "OAUTHBEARER")];
    let all_oidc = [&OAUTH[..], &OIDC].concat();
    for (properties, file, words) in [
        (OAUTH.to_vec(), None, &[FLAG, METHOD, CLIENT_ID, CLIENT_SECRET, URL][..]),
        ([&OAUTH[..], &[(METHOD, "default")]].concat(), None, &[FLAG, METHOD]),
        ([&OAUTH[..], &[(UNSECURED, "false")]].concat(), None, &[FLAG, METHOD]),
        (all_oidc.clone(), Some("/token"), &["two sources", FLAG, METHOD]),
        ([&OAUTH[..], &[(METHOD, "oidc")]].concat(), Some("/token"), &["two sources", FLAG, METHOD]),
        ([&OAUTH[..], &[(UNSECURED, "true")]].concat(), Some("/token"), &["two sources", FLAG, UNSECURED]),
        ([&all_oidc[..], &[(UNSECURED, "true")]].concat(), None, &["two sources", METHOD, UNSECURED]),
        (plain.to_vec(), Some("/token"), &[FLAG, "must be OAUTHBEARER", "security.protocol"]),
        (no_sasl.to_vec(), Some("/token"), &[FLAG, "security.protocol"]),
        (Vec::new(), Some("/token"), &[FLAG, "must be OAUTHBEARER"]),
        ([&plain[..], &OIDC].concat(), None, &["must be OAUTHBEARER", METHOD]),
        ([&OAUTH[..], &[(UNSECURED, "true"), (EXTENSIONS, "a=b")]].concat(), None, &[EXTENSIONS, UNSECURED]),
        (OAUTH.to_vec(), Some("eyJhbGci.hunter2.x"), &[FLAG, "is a token, not a path"]),
        (OAUTH.to_vec(), Some("sasl.password=hunter2"), &[FLAG, "is a text of properties, not a path"]),
        (OAUTH.to_vec(), Some("ya29.a0AfB_byCdEfGhIjKlMnOpQrStUvWxYz-hunter2"), &[FLAG, "is a token, not a path"]),
    ] {
        let error = checked(&properties, file).expect_err(words[0]);
        assert!(error.starts_with("Kafka property ") && words.iter().all(|word| error.contains(word)), "{error}");
    }
    for name in ONLY_OIDC.iter().filter(|name| ![CA_LOCATION, CA_PEM].contains(*name)) {
        let value = if name.ends_with("type") { "client_credentials" } else { "x" };
        let error = checked(&[&OAUTH[..], &[(name, value)]].concat(), Some("/token")).unwrap_err();
        assert!(error.contains(name) && error.contains("is used only with sasl.oauthbearer.method=oidc"), "{error}");
    }
}

/// Covers R66.
#[test]
fn what_a_request_needs_is_named_if_it_is_missing_or_wrong() {
    for needed in [CLIENT_ID, CLIENT_SECRET, URL] {
        let rest: Vec<_> = OIDC.into_iter().filter(|(name, _)| *name != needed).collect();
        for properties in [rest.clone(), [&rest[..], &[(needed, " ")]].concat()] {
            let error = checked(&[&OAUTH[..], &properties].concat(), None).unwrap_err();
            assert!(error.contains(&format!("Kafka property {needed}: is not set")), "{error}");
        }
    }
    for (name, value, words) in [
        (URL, "http://idp.example/token", "must begin with https://"),
        (URL, "http://127.0.0.1.idp.example/", "must begin with https://"),
        (URL, "ftp://localhost/", "must begin with https://"),
        (URL, "idp.example/token", "is no URL such as https://"),
        (URL, "https://", "is no URL"),
        (URL, "https://user:hunter2@idp.example/", "must not have a user name"),
        (URL, "http://idp.example/token?code=hunter2&sig=abcdef", "\"http://idp.example/…\": must begin with https://"),
        (URL, "http://idp.example/hunter2/token", "\"http://idp.example/…\": must begin with https://"),
        (URL, "ftp://localhost?hunter2", "\"ftp://localhost/…\": must begin with https://"),
        (URL, "https://idp.example:0/hunter2", "port"),
        (URL, "https://idp.example/hunter2 x", "is no URL"),
        (URL, "idp.example/token?code=hunter2", "is no URL such as https://"),
        (URL, "https://idp.example:0/", "port"),
        (URL, "https://idp.example:99999/", "port"),
        (URL, "https://idp.example:/", "port"),
        (URL, "https://idp example/", "is no URL"),
        (METHOD, "odic", "must be one of default, oidc"),
        ("sasl.oauthbearer.grant.type", "password", "must be one of client_credentials"),
        ("sasl.oauthbearer.grant.type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "not in this build"),
        ("sasl.oauthbearer.assertion.file", "/x", "not in this build"),
        ("sasl.oauthbearer.metadata.authentication.type", "azure_imds", "--kafka-oauth-token-file"),
        (CLIENT_ID, "a:b", "colon"),
        (CLIENT_SECRET, "hunter2\u{7}", "control characters"),
        (EXTENSIONS, "a", "name=value"),
        (EXTENSIONS, "a=b,", "name=value"),
        (EXTENSIONS, "a1=b", "letters only"),
        (EXTENSIONS, "=b", "letters only"),
        (EXTENSIONS, "auth=b", "letters only"),
        (EXTENSIONS, "a=ü", "visible characters for a"),
        (CA_LOCATION, "/nonexistent", "No such file"),
        (CA_PEM, "hunter2", "has no certificate"),
    ] {
        let error = checked(&[&OAUTH[..], &OIDC, &[(name, value)]].concat(), None).expect_err(value);
        assert!(error.starts_with(&format!("Kafka property {name}: ")) && error.contains(words), "{value}: {error}");
    }
}

/// Covers R66.
#[test]
fn an_endpoint_has_a_host_a_port_and_a_name_that_may_be_shown() {
    for (url, is_https, host, port, name, path) in [
        ("https://idp.example/a/b?c=hunter3", true, "idp.example", 443, "idp.example", "/a/b?c=hunter3"),
        ("HTTPS://idp.example:8443", true, "idp.example", 8_443, "idp.example:8443", "/"),
        ("http://localhost/t", false, "localhost", 80, "localhost", "/t"),
        ("http://127.8.9.1:1/t", false, "127.8.9.1", 1, "127.8.9.1:1", "/t"),
        ("http://[::1]:8080/t", false, "::1", 8_080, "[::1]:8080", "/t"),
    ] {
        let found = oidc(&[(URL, url)]).endpoint;
        let expected = TokenEndpoint {
            is_https,
            host: host.to_owned(),
            port,
            authority: name.to_owned(),
            path_and_query: path.to_owned(),
        };
        assert_eq!(found, expected);
        assert!(!format!("{found:?}").contains("hunter3"));
    }
}

/// Covers R66.
#[test]
fn extensions_go_with_a_token_of_each_source() {
    let expected = vec![("logicalCluster".to_owned(), "lkc-1".to_owned()), ("b".to_owned(), "c=d".to_owned())];
    let extensions = [(EXTENSIONS, "logicalCluster=lkc-1, b=c=d")];
    for (properties, file) in [(&OIDC[..], None), (&[], Some("/token"))] {
        let found = checked(&[&OAUTH[..], properties, &extensions].concat(), file).unwrap().unwrap();
        assert_eq!(found.extensions, expected);
    }
}

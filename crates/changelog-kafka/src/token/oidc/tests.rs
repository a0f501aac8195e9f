use std::{fs, net::SocketAddr, pin::Pin};

use changelogd_testkit::identity_provider::{Granting, IdentityProvider, unsecured_jwt};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{SslAcceptor, SslMethod},
    x509::{X509, X509NameBuilder, extension::SubjectAlternativeName},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use super::*;
use crate::{
    settings::{Settings, TokenSource},
    timeouts::TOKEN_REQUEST,
};

const SECRET: &str = "hunter2/+ secret";

fn settings(url: &str, more: &[(&str, &str)]) -> OidcSettings {
    let mut settings = Settings::new("b:9092", "t");
    let properties = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", SECRET),
        ("sasl.oauthbearer.token.endpoint.url", url),
    ];
    settings.properties = properties.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    settings.check().unwrap();
    match settings.token().unwrap().unwrap().source {
        TokenSource::Oidc(oidc) => oidc,
        TokenSource::File(_) => panic!("no file"),
    }
}

async fn get(settings: &OidcSettings) -> Result<Token, TokenError> {
    request(settings, TOKEN_REQUEST, SystemTime::now).await
}

/// The words of an error, after a check that it has no secret and names the host.
async fn failure(settings: &OidcSettings) -> String {
    let words = get(settings).await.unwrap_err().to_string();
    let encoded = utf8_percent_encode(SECRET, ENCODED).to_string();
    for secret in [SECRET, &encoded, &BASE64_STANDARD.encode(format!("me:{SECRET}")), "hunter2"] {
        assert!(!words.contains(secret), "{words}");
    }
    assert!(words.contains(settings.endpoint.name()) && words.chars().count() < 500, "{words}");
    assert!(!words.chars().any(char::is_control), "{words:?}");
    words
}

/// Covers R65.
#[tokio::test]
async fn a_request_has_the_form_of_client_credentials() {
    let provider = IdentityProvider::start(Granting::Jwt("service".to_owned(), Duration::from_secs(60)));
    let oidc = settings(&format!("{}?tenant=a", provider.url()), &[("sasl.oauthbearer.scope", "kafka read+write")]);
    let before = SystemTime::now();
    let token = get(&oidc).await.unwrap();
    assert_eq!(token.principal(), "service");
    let life = token.expires_at().unwrap().duration_since(before).unwrap().as_secs();
    assert!((59..=61).contains(&life), "{life}");
    let requests = provider.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    let (head, form) = request.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /token?tenant=a http/1.1\r\n"), "{head}");
    let credentials = BASE64_STANDARD.encode(format!("me:{SECRET}"));
    assert!(request.contains(&format!("Basic {credentials}")), "{head}");
    for line in [
        format!("host: {}", provider.address()),
        "content-type: application/x-www-form-urlencoded".to_owned(),
        "accept: application/json".to_owned(),
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    assert_eq!(form, "grant_type=client_credentials&scope=kafka%20read%2Bwrite");
}

/// Covers R62.
#[tokio::test]
async fn the_expiry_is_the_earlier_one_of_the_answer_and_the_jwt_else_it_is_assumed() {
    let provider = IdentityProvider::start(Granting::Silence);
    let oidc = settings(&provider.url(), &[]);
    let now = SystemTime::now();
    let jwt = unsecured_jwt("s", now, now + Duration::from_secs(1_000));
    let of_jwt = |rest: &str| format!(r#"{{"access_token":"{jwt}"{rest}}}"#);
    for (body, life) in [
        (r#"{"access_token":"x","token_type":"bearer","expires_in":60}"#, 60),
        (r#"{"access_token":"x","expires_in":"3600"}"#, 3_600),
        (r#"{"access_token":"x"}"#, ASSUMED_TOKEN_LIFE.as_secs()),
        (r#"{"access_token":"x","expires_in":"soon","more":[]}"#, ASSUMED_TOKEN_LIFE.as_secs()),
        (r#"{"access_token":"x","expires_in":1e300}"#, 10 * 366 * 86_400),
        // This machine's clock may be behind that of the provider.
        (&of_jwt(r#","expires_in":60"#), 60),
        (&of_jwt(r#","expires_in":"999""#), 999),
        (&of_jwt(r#","expires_in":3600"#), 1_000),
        (&of_jwt(r#","expires_in":"soon""#), 1_000),
        (&of_jwt(""), 1_000),
    ] {
        provider.grant(Granting::json("200 OK", body));
        let before = SystemTime::now();
        let expires_at = get(&oidc).await.unwrap().expires_at().unwrap();
        let found = expires_at.duration_since(before).unwrap().as_secs_f64().round() as u64;
        assert!((life.saturating_sub(5)..life + 5).contains(&found), "{body}: {found}");
    }
}

/// Covers R64.
#[tokio::test]
async fn a_denial_is_an_error_with_the_words_of_the_provider_and_without_the_secret() {
    let provider = IdentityProvider::start(Granting::Silence);
    let oidc = settings(&provider.url(), &[]);
    let expired = unsecured_jwt("s", SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
    let long = "hunter2/+ secret ".repeat(100);
    let echoed = format!(
        r#"{{"error":"invalid_client","error_description":"bad {SECRET}, {} and {}\u001b[1m\n{long}"}}"#,
        utf8_percent_encode(SECRET, ENCODED),
        BASE64_STANDARD.encode(format!("me:{SECRET}"))
    );
    let too_large = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(300 * 1_024));
    let unlimited = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], b"fff\r\n", &[b'x'; 0xfff]];
    let unlimited = [&unlimited.concat()[..], &[&b"\r\nfff\r\n"[..], &[b'x'; 0xfff]].concat().repeat(100)].concat();
    let long_head = [&b"HTTP/1.1 200 OK\r\nX: "[..], &b"x".repeat(1_000_000)].concat();
    let redirect = Granting::with_headers("302 Found", "Location: http://example.com/\r\n", "");
    for (granting, words) in [
        (
            Granting::json("401 Unauthorized", r#"{"error":"invalid_client","error_description":"no such client"}"#),
            "HTTP 401 Unauthorized: invalid_client: no such client",
        ),
        (Granting::json("400 Bad Request", r#"{"error":"invalid_scope"}"#), "HTTP 400 Bad Request: invalid_scope"),
        (Granting::json("401 Unauthorized", &echoed), "invalid_client: bad [redacted]"),
        (Granting::json("500 Internal Server Error", "<html>hunter2</html>"), "HTTP 500 Internal Server Error"),
        (Granting::json("503 Service Unavailable", ""), "HTTP 503"),
        (redirect, "a redirect is not followed"),
        (Granting::json("200 OK", "hunter2"), "the answer is no JSON"),
        (Granting::json("200 OK", "[]"), "no access_token"),
        (Granting::json("200 OK", r#"{"token":"hunter2"}"#), "no access_token"),
        (Granting::json("200 OK", r#"{"access_token":7}"#), "no access_token"),
        (Granting::json("200 OK", r#"{"access_token":""}"#), "the token is empty"),
        (Granting::json("200 OK", r#"{"access_token":"hunter2 x"}"#), "the token has white space"),
        (Granting::json("200 OK", r#"{"access_token":"x","token_type":"mac"}"#), "the token's type is mac, not Bearer"),
        (Granting::json("200 OK", r#"{"access_token":"x","expires_in":0}"#), "the token has expired"),
        (
            Granting::json("200 OK", &format!(r#"{{"access_token":"{expired}"}}"#)),
            "has expired at 1970-01-01T00:01:00Z",
        ),
        (Granting::json("200 OK", &too_large), "more than 262144 bytes"),
        (Granting::Raw(unlimited), "more than 262144 bytes"),
        (Granting::Raw(long_head), "no answer of HTTP"),
        (Granting::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), "no answer of HTTP"),
        (Granting::Raw(Vec::new()), "no answer of HTTP"),
        (Granting::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec()), "the answer ends early"),
    ] {
        provider.grant(granting.clone());
        let found = failure(&oidc).await;
        assert!(found.contains(words), "{words}: {found}");
    }
}

/// Covers R64.
#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_is_an_error_after_a_limited_time() {
    // The paused clock goes on as soon as nothing else happens.
    let provider = IdentityProvider::start(Granting::Silence);
    let found = failure(&settings(&provider.url(), &[])).await;
    assert!(found.contains("no answer within 10 s: could not "), "{found}");
}

/// Covers R64.
#[tokio::test]
async fn a_host_that_can_not_be_reached_is_an_error_with_the_step() {
    let gone = IdentityProvider::start(Granting::Silence).address();
    let found = failure(&settings(&format!("http://{gone}/"), &[])).await;
    assert!(found.contains("connect to") || found.contains("no answer of HTTP"), "{found}");
    let found = failure(&settings("https://no-such-host.invalid/", &[])).await;
    assert!(found.contains("can't be resolved"), "{found}");
}

/// A self-signed certificate, or one that `issuer` signs.
fn certificate(name: &str, issuer: Option<&(X509, PKey<Private>)>, days: u32) -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&BigNum::from_u32(u32::from(issuer.is_some()) + 1).unwrap().to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, |(ca, _)| ca.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(days).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    if let Some((ca, _)) = issuer {
        let context = builder.x509v3_context(Some(ca), None);
        let names = SubjectAlternativeName::new().dns(name).build(&context).unwrap();
        builder.append_extension(names).unwrap();
    } else {
        let basic = openssl::x509::extension::BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(basic).unwrap();
    }
    builder.sign(issuer.map_or(&key, |(_, key)| key), MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

/// Forwards TLS connections with this certificate. Ends with the runtime.
async fn tls_before(to: SocketAddr, (certificate, key): (X509, PKey<Private>)) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ssl = openssl::ssl::Ssl::new(acceptor.context()).unwrap();
            tokio::spawn(async move {
                let mut stream = SslStream::new(ssl, stream).unwrap();
                if Pin::new(&mut stream).accept().await.is_ok() {
                    let mut to = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
                }
            });
        }
    });
    port
}

/// Covers R65.
#[tokio::test]
async fn a_certificate_is_checked_against_the_configured_authorities() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, stranger) = (certificate("ca", None, 10), certificate("stranger", None, 10));
    let pem = |of: &(X509, PKey<Private>)| String::from_utf8(of.0.to_pem().unwrap()).unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (good, other) = (file("ca.pem", &pem(&ca)), file("stranger.pem", &pem(&stranger)));
    // A directory of certificates has names that are hashes of their subjects.
    let hashed = directory.path().join("hashed");
    fs::create_dir(&hashed).unwrap();
    fs::write(hashed.join(format!("{:08x}.0", ca.0.subject_name_hash())), pem(&ca)).unwrap();
    let hashed = hashed.display().to_string();
    let provider = IdentityProvider::start(Granting::Jwt("service".to_owned(), Duration::from_secs(60)));
    let port = tls_before(provider.address(), certificate("localhost", Some(&ca), 10)).await;
    let url = format!("https://localhost:{port}/token");
    for trusted in [
        &[("https.ca.location", &*good)][..],
        &[("https.ca.location", &hashed)],
        &[("https.ca.pem", &pem(&ca))],
        &[("ssl.ca.location", &good)],
        &[("ssl.ca.pem", &pem(&ca))],
        &[("ssl.ca.location", &other), ("https.ca.location", &good)],
    ] {
        let token = get(&settings(&url, trusted)).await;
        assert_eq!(token.unwrap().principal(), "service", "{trusted:?}");
    }
    let asked = provider.requests().len();
    for trusted in
        [&[("https.ca.location", &*other)][..], &[], &[("ssl.ca.location", &good), ("https.ca.location", &other)]]
    {
        let found = failure(&settings(&url, trusted)).await;
        assert!(found.contains("TLS: ") && found.contains("https.ca.location"), "{found}");
    }
    let wrong_name = failure(&settings(&format!("https://127.0.0.1:{port}/"), &[("https.ca.location", &good)])).await;
    assert!(wrong_name.contains("mismatch"), "{wrong_name}");
    let expired = tls_before(provider.address(), certificate("localhost", Some(&ca), 0)).await;
    let expired = failure(&settings(&format!("https://localhost:{expired}/"), &[("https.ca.location", &good)])).await;
    assert!(expired.contains("certificate has expired"), "{expired}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let plain = failure(&settings(&plain, &[("https.ca.location", &good)])).await;
    assert!(plain.contains("TLS: "), "{plain}");
    assert_eq!(provider.requests().len(), asked, "nothing is sent before the certificate is checked");
}

/// In the process that [`only_the_configured_authorities_are_trusted`] starts: where the TLS server is, and a file with
/// the certificate of another authority.
const TLS_PORT: &str = "CHANGELOGD_TEST_TLS_PORT";
const OTHER_CA: &str = "CHANGELOGD_TEST_OTHER_CA";

/// Covers R65.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_configured_authorities_are_trusted() {
    const TEST: &str = "token::oidc::tests::only_the_configured_authorities_are_trusted";
    if let Ok(port) = std::env::var(TLS_PORT) {
        return with_variables_of_openssl(&port, &std::env::var(OTHER_CA).unwrap()).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ca, stranger) = (certificate("ca", None, 10), certificate("stranger", None, 10));
    let (path, hashed, other) =
        (directory.path().join("ca.pem"), directory.path().join("hashed"), directory.path().join("other.pem"));
    fs::create_dir(&hashed).unwrap();
    for (file, (certificate, _)) in
        [(&path, &ca), (&hashed.join(format!("{:08x}.0", ca.0.subject_name_hash())), &ca), (&other, &stranger)]
    {
        fs::write(file, certificate.to_pem().unwrap()).unwrap();
    }
    let provider = IdentityProvider::start(Granting::Jwt("service".to_owned(), Duration::from_secs(60)));
    let port = tls_before(provider.address(), certificate("localhost", Some(&ca), 10)).await;
    // They must be set before the process starts, so that none of its threads reads them meanwhile.
    for (variable, value) in [("SSL_CERT_FILE", &path), ("SSL_CERT_DIR", &hashed)] {
        let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
        tests.args([TEST, "--exact", "--nocapture"]).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        tests.env(variable, value).env(TLS_PORT, port.to_string()).env(OTHER_CA, &other);
        let output = tokio::task::spawn_blocking(move || tests.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{variable}: {output:?}");
    }
    assert_eq!(provider.requests().len(), 2, "one of each process, which trusts the system's authorities");
}

/// The authority of the server is one of the system's here, because a variable says so.
async fn with_variables_of_openssl(port: &str, other: &str) {
    let url = format!("https://localhost:{port}/token");
    let pem = fs::read_to_string(other).unwrap();
    for trusted in [
        ("https.ca.location", other),
        ("https.ca.pem", &*pem),
        ("ssl.ca.location", other),
        ("ssl.ca.pem", &*pem),
        ("https.ca.location", std::path::Path::new(other).parent().unwrap().to_str().unwrap()),
    ] {
        let found = failure(&settings(&url, &[trusted])).await;
        assert!(found.contains("TLS: ") && found.contains("https.ca.location"), "{trusted:?}: {found}");
    }
    // This would be answered without the variable, too, if the test's authority were installed. It is not.
    assert_eq!(get(&settings(&url, &[])).await.unwrap().principal(), "service");
}

//! One POST to a token endpoint, by HTTP/1.1, on the OpenSSL that librdkafka is linked with.
//!
//! Promises: only the authorities of the settings are trusted, no answer is larger than a limit, and an error names the
//! step that failed. Does not follow redirects, because the secret would go there. Uses no proxy. Does not limit its
//! time: the caller does.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    pin::{Pin, pin},
};

use changelog_core::blocking::run_blocking;
use http::{
    HeaderMap, Request, StatusCode,
    header::{HOST, HeaderValue},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::handshake,
};
use hyper_util::rt::TokioIo;
use openssl::{
    error::{Error, ErrorStack},
    ssl::{Ssl, SslConnector, SslMethod, SslVersion},
    x509::{X509, X509VerifyResult, store::X509StoreBuilder},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    select,
    task::JoinSet,
    time::sleep,
};
use tokio_openssl::SslStream;

use crate::{
    settings::{TokenEndpoint, TrustedCertificates},
    timeouts::{CONNECT_ATTEMPT_DELAY, MAX_TOKEN_ANSWER_BYTES},
};

/// An answer with its whole body.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// What is done now, for an error if the time is up.
#[derive(Debug)]
pub struct Step(Mutex<&'static str>);

impl Default for Step {
    fn default() -> Self {
        Self(Mutex::new("begin"))
    }
}

impl Step {
    fn set(&self, step: &'static str) {
        *self.0.lock() = step;
    }

    pub fn name(&self) -> &'static str {
        *self.0.lock()
    }
}

/// Sends the form, and reads the answer. The error has no part of the request.
pub async fn post(
    endpoint: &TokenEndpoint,
    trusted: &TrustedCertificates,
    mut headers: HeaderMap,
    form: String,
    step: &Step,
) -> Result<Answer, String> {
    step.set("resolve its name");
    let addresses = resolve(endpoint).await?;
    step.set("connect");
    let stream = connect(addresses).await?;
    headers.insert(HOST, HeaderValue::from_str(&endpoint.authority).map_err(|e| e.to_string())?);
    let mut request = Request::post(&*endpoint.path_and_query).body(Full::new(Bytes::from(form)));
    if let Ok(request) = &mut request {
        *request.headers_mut() = headers;
    }
    let request = request.map_err(|e| e.to_string())?;
    if !endpoint.is_https {
        return exchange(stream, request, step).await;
    }
    step.set("make a TLS connection");
    let (host, trusted) = (endpoint.host.clone(), trusted.clone());
    // Certificates are read from files.
    let ssl = run_blocking(move || ssl(&host, &trusted)).await.map_err(|e| e.to_string())??;
    let mut stream = SslStream::new(ssl, stream).map_err(|e| words(&e))?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verified = stream.ssl().verify_result();
        return Err(if verified == X509VerifyResult::OK {
            format!("TLS: {}", error.ssl_error().map_or_else(|| error.to_string(), words))
        } else {
            format!(
                "TLS: the certificate is not accepted: {}; https.ca.location names the certificates that sign it",
                verified.error_string()
            )
        });
    }
    exchange(stream, request, step).await
}

async fn resolve(endpoint: &TokenEndpoint) -> Result<Vec<SocketAddr>, String> {
    let name = (endpoint.host.clone(), endpoint.port);
    let resolved = run_blocking(move || name.to_socket_addrs().map(Iterator::collect)).await;
    let addresses: io::Result<Vec<_>> = resolved.map_err(|e| e.to_string())?;
    addresses.map_err(|e| format!("its name can't be resolved: {e}"))
}

/// Connects to the first address that accepts. An address that does not answer uses up none of the others' time: the
/// next one is tried after a delay, or after a failure (RFC 8305, section 5).
async fn connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let (mut rest, mut attempts) = (addresses.into_iter(), JoinSet::new());
    let mut failure = "its name has no address".to_owned();
    loop {
        if let Some(address) = rest.next() {
            attempts.spawn(async move {
                let connected = TcpStream::connect(address).await;
                connected.map_err(|error| format!("connect to {address}: {error}"))
            });
        }
        select! {
            // Dropping the set ends the other attempts.
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = error.to_string(),
                None => return Err(failure),
            },
            () = sleep(CONNECT_ATTEMPT_DELAY), if rest.len() > 0 => {}
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, step: &Step) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    step.set("get an answer");
    let failed = |e: hyper::Error| format!("no answer of HTTP: {e}");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        Ok(Answer { status, body: body(answer.into_body()).await? })
    };
    let (mut answer, mut connection, mut is_connected) = (pin!(answer), pin!(connection), true);
    loop {
        select! {
            biased;
            answer = &mut answer => return answer,
            // What it has read is in the answer's body. Its errors come from there, too.
            _ = &mut connection, if is_connected => is_connected = false,
        }
    }
}

async fn body(body: Incoming) -> Result<Bytes, String> {
    match Limited::new(body, MAX_TOKEN_ANSWER_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(format!("the answer has more than {MAX_TOKEN_ANSWER_BYTES} bytes"))
        }
        Err(error) => Err(format!("the answer ends early: {error}")),
    }
}

/// A TLS connection that checks the certificate and its name.
fn ssl(host: &str, trusted: &TrustedCertificates) -> Result<Ssl, String> {
    let unusable = |e: ErrorStack| format!("TLS: no certificates of authorities can be read: {}", words(&e));
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(|e| words(&e))?;
    // The connector begins with the certificates that SSL_CERT_FILE, SSL_CERT_DIR and the paths of the OpenSSL build
    // name. Only those of the settings may sign the endpoint's.
    connector.set_cert_store(X509StoreBuilder::new().map_err(|e| words(&e))?.build());
    connector.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(|e| words(&e))?;
    match trusted {
        TrustedCertificates::System => {
            let found = openssl_probe::probe();
            if found.cert_file.is_none() && found.cert_dir.is_empty() {
                return Err("TLS: no certificates of authorities are installed: set https.ca.location".to_owned());
            }
            if let Some(file) = &found.cert_file {
                connector.load_verify_locations(Some(file), None).map_err(unusable)?;
            }
            for directory in &found.cert_dir {
                connector.load_verify_locations(None, Some(directory)).map_err(unusable)?;
            }
        }
        TrustedCertificates::Path(path) => {
            let (file, directory) = if path.is_dir() { (None, Some(&**path)) } else { (Some(&**path), None) };
            connector.load_verify_locations(file, directory).map_err(unusable)?;
        }
        TrustedCertificates::Pem(pem) => {
            for certificate in X509::stack_from_pem(pem.as_bytes()).map_err(unusable)? {
                connector.cert_store_mut().add_cert(certificate).map_err(unusable)?;
            }
        }
    }
    connector.build().configure().and_then(|configured| configured.into_ssl(host)).map_err(|e| words(&e))
}

/// The reasons of OpenSSL, without its numbers, functions and files.
fn words(errors: &ErrorStack) -> String {
    let reasons: Vec<_> = errors.errors().iter().filter_map(Error::reason).collect();
    if reasons.is_empty() { errors.to_string() } else { reasons.join("; ") }
}

#[cfg(test)]
mod tests;

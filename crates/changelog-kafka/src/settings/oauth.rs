//! The settings that name the source of SASL OAUTHBEARER's token, and contradictions between them.
//!
//! Promises that there is exactly one source, and that each error names the property or the flag. Does not get a
//! token: see `token/`.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use http::{Uri, uri::Scheme};

use super::{error::PropertyError, files::Effective, path::instead_of_path};

const METHOD: &str = "sasl.oauthbearer.method";
const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
const UNSECURED: &str = "enable.sasl.oauthbearer.unsecure.jwt";
const CA_LOCATION: &str = "https.ca.location";
const CA_PEM: &str = "https.ca.pem";
const FLAG: &str = "--kafka-oauth-token-file";

/// What only a request to an identity provider needs.
const ONLY_OIDC: [&str; 7] = [CLIENT_ID, CLIENT_SECRET, SCOPE, "sasl.oauthbearer.grant.type", URL, CA_LOCATION, CA_PEM];

/// Where the token comes from, and what goes to the broker with it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSettings {
    pub source: TokenSource,
    /// SASL extensions (RFC 7628): names and values.
    pub extensions: Vec<(String, String)>,
}

/// Without the extensions, which may name a tenant.
impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, which another process writes.
    File(PathBuf),
    /// The token endpoint of an identity provider.
    Oidc(OidcSettings),
}

/// A request for a token with client credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcSettings {
    pub endpoint: TokenEndpoint,
    pub client_id: String,
    pub client_secret: String,
    pub scope: Option<String>,
    pub trusted: TrustedCertificates,
}

/// Without the secret.
impl fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcSettings").field("endpoint", &self.endpoint.name()).finish_non_exhaustive()
    }
}

/// The certificates that sign that of the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedCertificates {
    /// Those of the system.
    System,
    /// A file or a directory of them.
    Path(PathBuf),
    Pem(String),
}

/// The URL of a token endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenEndpoint {
    pub is_https: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// As in the URL: the host, and the port if one stands there.
    pub authority: String,
    pub path_and_query: String,
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TokenEndpoint {
    /// What may be shown: a query may hold a secret.
    pub fn name(&self) -> &str {
        &self.authority
    }

    fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("is no URL such as https://host/path: {e}"))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("must begin with https://".to_owned()),
        };
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err(format!("must not have a user name: set {CLIENT_ID} and {CLIENT_SECRET}"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        let is_local = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !is_https && !is_local {
            return Err(
                "must begin with https://, because the client secret goes there; http:// is for localhost".into()
            );
        }
        let port = match (authority.as_str() == authority.host(), is_https) {
            (false, _) => authority.port_u16().filter(|port| *port > 0),
            (true, true) => Some(443),
            (true, false) => Some(80),
        };
        let port = port.ok_or("has a port that is no number from 1 to 65535")?;
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { is_https, host, port, authority: authority.to_string(), path_and_query })
    }
}

/// Whether connections to brokers authenticate by SASL.
pub fn has_sasl(effective: &Effective<'_>) -> bool {
    effective.get("security.protocol").is_some_and(|p| p.trim().to_ascii_lowercase().starts_with("sasl_"))
}

/// Where the token comes from; `None` without OAUTHBEARER, or if librdkafka makes an unsecured token itself.
pub fn token_settings(effective: &Effective<'_>, file: Option<&Path>) -> Result<Option<TokenSettings>, PropertyError> {
    let set = |name: &str| effective.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let refused = |name: &str, reason: String| Err(PropertyError::new(name, None, reason));
    let is_oidc = set(METHOD).is_some_and(|method| method.eq_ignore_ascii_case("oidc"));
    // As librdkafka reads a boolean.
    let is_unsecured = set(UNSECURED).is_some_and(|b| ["true", "t", "1"].iter().any(|t| t.eq_ignore_ascii_case(b)));
    let sources = [(file.is_some(), FLAG), (is_oidc, "sasl.oauthbearer.method=oidc")];
    let is_oauth = has_sasl(effective) && set("sasl.mechanism") == Some("OAUTHBEARER");
    if !is_oauth {
        let needs_it = sources.iter().find(|(is_set, _)| *is_set);
        let reason = |what: &str| {
            format!("must be OAUTHBEARER with {what}, and security.protocol must be SASL_SSL or SASL_PLAINTEXT")
        };
        return needs_it.map_or(Ok(None), |(_, what)| refused("sasl.mechanism", reason(what)));
    }
    if let Some(name) = ONLY_OIDC.iter().find(|name| !is_oidc && set(name).is_some()) {
        return refused(name, format!("is used only with {METHOD}=oidc"));
    }
    let unsecured = (is_unsecured, "enable.sasl.oauthbearer.unsecure.jwt=true");
    let named: Vec<_> = sources.into_iter().chain([unsecured]).filter(|(is_set, _)| *is_set).collect();
    if let [(_, one), (_, other), ..] = named[..] {
        return refused("sasl.mechanism", format!("is OAUTHBEARER with two sources of a token: {one} and {other}"));
    }
    let extensions = set(EXTENSIONS).map(extensions).transpose();
    let extensions = extensions.map_err(|reason| PropertyError::new(EXTENSIONS, None, reason))?;
    let source = match (file, is_oidc, is_unsecured) {
        (Some(path), ..) => match instead_of_path(&path.to_string_lossy()).filter(|_| !path.exists()) {
            Some(instead) => return refused("sasl.mechanism", format!("is OAUTHBEARER, and {FLAG} {instead}")),
            None => TokenSource::File(path.to_owned()),
        },
        (_, true, _) => TokenSource::Oidc(oidc_settings(effective)?),
        (.., true) if extensions.is_some() => {
            return refused(EXTENSIONS, format!("is not used with {UNSECURED}=true"));
        }
        (.., true) => return Ok(None),
        _ => {
            let reason = format!(
                "is OAUTHBEARER without a source of the token: set {FLAG}, or {METHOD}=oidc with {CLIENT_ID}, \
                 {CLIENT_SECRET} and {URL}"
            );
            return refused("sasl.mechanism", reason);
        }
    };
    Ok(Some(TokenSettings { source, extensions: extensions.unwrap_or_default() }))
}

fn oidc_settings(effective: &Effective<'_>) -> Result<OidcSettings, PropertyError> {
    let set = |name: &str| effective.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let refused = |name: &str, reason: &str| PropertyError::new(name, None, reason);
    let needed = |name: &str| set(name).ok_or_else(|| refused(name, &format!("is not set: {METHOD}=oidc needs it")));
    let url = needed(URL)?;
    let (client_id, client_secret) = (needed(CLIENT_ID)?, needed(CLIENT_SECRET)?);
    // RFC 7617: the first colon ends the user name.
    if client_id.contains(':') {
        return Err(refused(CLIENT_ID, "must not have a colon"));
    }
    for (name, value) in [(CLIENT_ID, client_id), (CLIENT_SECRET, client_secret)] {
        if value.chars().any(char::is_control) {
            return Err(refused(name, "must not have control characters"));
        }
    }
    let trusted = match (set(CA_LOCATION), set(CA_PEM)) {
        (Some(_), Some(_)) => return Err(refused(CA_LOCATION, "and https.ca.pem are both set")),
        (Some(path), None) => at(path),
        (None, Some(pem)) => TrustedCertificates::Pem(pem.to_owned()),
        (None, None) => match (set("ssl.ca.location"), set("ssl.ca.pem")) {
            (_, Some(pem)) => TrustedCertificates::Pem(pem.to_owned()),
            (Some(path), None) => at(path),
            (None, None) => TrustedCertificates::System,
        },
    };
    Ok(OidcSettings {
        endpoint: TokenEndpoint::parse(url).map_err(|reason| PropertyError::new(URL, Some(url), reason))?,
        client_id: client_id.to_owned(),
        client_secret: client_secret.to_owned(),
        scope: set(SCOPE).map(ToOwned::to_owned),
        trusted,
    })
}

fn at(path: &str) -> TrustedCertificates {
    if path == "probe" { TrustedCertificates::System } else { TrustedCertificates::Path(path.into()) }
}

/// `name=value` pairs, separated by commas, as librdkafka takes them (RFC 7628).
fn extensions(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or("must be name=value pairs, separated by commas")?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) || name == "auth" {
            return Err("must have names of letters only, and none is auth".to_owned());
        }
        if !value.chars().all(|c| matches!(c, ' '..='~')) {
            return Err(format!("must have a value of visible characters for {name}"));
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    text.split(',').map(pair).collect()
}

#[cfg(test)]
mod tests;

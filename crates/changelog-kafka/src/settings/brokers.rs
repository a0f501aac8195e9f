//! The list of brokers.
//!
//! Promises that each part is a host with a port, as librdkafka takes it: librdkafka itself ignores what it can't read,
//! and waits for the rest. Does not: look up a name.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::secrets::shown_text;

/// The port of a broker that is named without one.
const DEFAULT_PORT: u16 = 9092;

/// The longest name of a host, in bytes (RFC 1035).
const MAX_HOST: usize = 253;

/// Commas, colons and semicolons of other scripts, which look like those of ASCII.
const FOREIGN_SIGNS: [char; 12] = [
    '\u{ff0c}', '\u{3001}', '\u{fe50}', '\u{060c}', '\u{201a}', '\u{ff1a}', '\u{fe55}', '\u{2236}', '\u{ff1b}',
    '\u{fe54}', '\u{061b}', '\u{037e}',
];

/// The brokers to contact first: at least one host, each with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brokers(Vec<(String, u16)>);

/// `host:port`, separated by commas, without blanks.
impl fmt::Display for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (host, port)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{host}:{port}")?;
        }
        Ok(())
    }
}

/// What is wrong with a list of brokers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", shown(.part.as_ref()))]
pub struct BrokersError {
    /// The part that is wrong: its place from 1, and its text. `None` if there is no part.
    part: Option<(usize, String)>,
    problem: Problem,
}

/// A part with an `@` may have a password, one with an `=` may be a property, and a long one a key or a token. None of
/// these is shown.
fn shown(part: Option<&(usize, String)>) -> String {
    const MAX: usize = MAX_HOST + ":65535".len();
    let may_be_secret = |text: &str| text.contains(['@', '=']) || text.len() > MAX || shown_text(text).is_none();
    match part {
        None => String::new(),
        Some((at, text)) if may_be_secret(text) => format!("part {at}: "),
        Some((at, text)) => format!("part {at}, {text:?}: "),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("no broker is named: must be host:port, separated by commas")]
    NoBroker,
    #[error("is empty: must be host:port, separated by commas")]
    EmptyPart,
    #[error("has a scheme: must be host:port. TLS and SASL are set by the Kafka property security.protocol")]
    Scheme,
    #[error("has a user name: must be host:port. It is set by the Kafka properties sasl.username and sasl.password")]
    User,
    #[error("has quotes, which belong to the value: must be host:port")]
    Quotes,
    #[error("has a `=`, so it is no broker: must be host:port. Properties are set by --kafka-property, one a line")]
    Property,
    #[error("has a comma, colon or semicolon of another script: must be host:port, separated by the comma of ASCII")]
    ForeignSign,
    #[error("has a semicolon: brokers are separated by commas")]
    Semicolon,
    #[error("has a blank: brokers are separated by commas")]
    Blank,
    #[error("has a path: must be host:port")]
    Path,
    #[error("has two ports: must be host:port, separated by commas")]
    TwoPorts,
    #[error("has no host: must be host:port")]
    NoHost,
    #[error("has no port after its colon: must be host:port")]
    NoPort,
    #[error("the port must be a whole number from 1 to 65535")]
    Port,
    #[error("an IPv6 address needs brackets, as in [::1]:9092")]
    NoBrackets,
    #[error("must have an IPv6 address in its brackets, and a port behind them, as in [::1]:9092")]
    Brackets,
    #[error("is no IPv4 address: it has four numbers from 0 to 255")]
    Ipv4,
    #[error("the host must be letters, digits, hyphens and underscores, at most 63 between dots and 253 in all")]
    Host,
}

impl std::str::FromStr for Brokers {
    type Err = BrokersError;

    fn from_str(text: &str) -> Result<Self, BrokersError> {
        if text.trim().is_empty() {
            return Err(BrokersError { part: None, problem: Problem::NoBroker });
        }
        let parts = text.split(',').enumerate().map(|(at, part)| {
            let part = part.trim();
            broker(part).map_err(|problem| BrokersError { part: Some((at + 1, part.to_owned())), problem })
        });
        parts.collect::<Result<_, _>>().map(Self)
    }
}

/// A host, with the brackets of an IPv6 address, and a port.
fn broker(part: &str) -> Result<(String, u16), Problem> {
    if part.is_empty() {
        return Err(Problem::EmptyPart);
    }
    // The order is that of what people write most likely: a URL with a user has a colon, too.
    if part.contains('=') && !part.contains("//") {
        return Err(Problem::Property);
    }
    if part.contains(['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}']) {
        return Err(Problem::Quotes);
    }
    if part.contains(FOREIGN_SIGNS) {
        return Err(Problem::ForeignSign);
    }
    if part.contains(';') {
        return Err(Problem::Semicolon);
    }
    if part.contains(char::is_whitespace) {
        return Err(Problem::Blank);
    }
    if part.contains('@') {
        return Err(Problem::User);
    }
    if part.contains("//") {
        return Err(Problem::Scheme);
    }
    if part.contains(['/', '\\', '?', '#']) {
        return Err(Problem::Path);
    }
    if part.starts_with('[') || part.contains(']') {
        return bracketed(part);
    }
    if is_ipv6(part) || part.rsplit_once(':').is_some_and(|(before, _)| is_ipv6(before)) {
        return Err(Problem::NoBrackets);
    }
    let (host, port) = match part.split_once(':') {
        None => (part, None),
        Some((_, rest)) if rest.contains(':') => return Err(Problem::TwoPorts),
        Some((host, port)) => (host, Some(port)),
    };
    check_host(host)?;
    Ok((host.to_owned(), port.map_or(Ok(DEFAULT_PORT), number)?))
}

/// Whether it is an address without brackets. A zone names an interface of this machine, as in fe80::1%eth0.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let is_zone = |zone: &str| !zone.is_empty() && zone.chars().all(|c| c.is_ascii_graphic());
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

fn bracketed(part: &str) -> Result<(String, u16), Problem> {
    let (address, rest) = part.strip_prefix('[').and_then(|p| p.split_once(']')).ok_or(Problem::Brackets)?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => DEFAULT_PORT,
        None => return Err(Problem::Brackets),
        Some(port) if port.contains(':') => return Err(Problem::TwoPorts),
        Some(port) => number(port)?,
    };
    if !is_ipv6(address) {
        return Err(Problem::Brackets);
    }
    let host = &part[..part.len() - rest.len()];
    Ok((host.to_owned(), port))
}

fn number(port: &str) -> Result<u16, Problem> {
    if port.is_empty() {
        return Err(Problem::NoPort);
    }
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|port| is_number && *port > 0).ok_or(Problem::Port)
}

fn check_host(host: &str) -> Result<(), Problem> {
    const MAX_LABEL: usize = 63;
    if host.is_empty() {
        return Err(Problem::NoHost);
    }
    // A dot at the end means that no search domain is added.
    let name = host.strip_suffix('.').unwrap_or(host);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.chars().all(legal);
    if name.len() > MAX_HOST || !name.split('.').all(is_label) {
        return Err(Problem::Host);
    }
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let is_address = name.rsplit('.').next().is_some_and(is_number);
    if is_address && host.parse::<Ipv4Addr>().is_err() { Err(Problem::Ipv4) } else { Ok(()) }
}

#[cfg(test)]
mod tests;

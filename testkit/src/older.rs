//! A broker that looks older: a proxy lowers the versions of requests that the broker says it takes.

use std::{
    io::{Read, Result, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use crate::broker::Broker;

const API_VERSIONS: i16 = 18;

/// A broker whose clients are all sent to the proxy. They see the broker's answer to ApiVersions (KIP-35) changed.
pub struct OlderBroker {
    pub broker: Broker,
    address: String,
}

impl OlderBroker {
    /// `limits` are pairs of a request's number and the highest version that clients may use.
    ///
    /// # Panics
    /// As [`Broker::start`].
    pub fn start(limits: &'static [(i16, i16)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let broker = Broker::start_with(&[("advertised.listeners", &format!("PLAINTEXT://{address}"))]);
        let target = broker.bootstrap().to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = target.clone();
                thread::spawn(move || {
                    // A connection that ends early is the client's to notice.
                    let _ = connect(&client, &target, limits);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { broker, address }
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.address
    }
}

fn connect(client: &TcpStream, target: &str, limits: &[(i16, i16)]) -> Result<()> {
    let broker = TcpStream::connect(target)?;
    let (mut from_client, mut to_broker) = (client.try_clone()?, broker.try_clone()?);
    let (mut from_broker, mut to_client) = (broker, client.try_clone()?);
    // Clients ask for the versions first.
    let request = frame(&mut from_client)?;
    let (api, version) = (number(&request, 4), number(&request, 6));
    to_broker.write_all(&request)?;
    let mut answer = frame(&mut from_broker)?;
    if api == API_VERSIONS {
        lower(&mut answer, version, limits);
    }
    to_client.write_all(&answer)?;
    let requests = thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_broker);
        let _ = to_broker.shutdown(Shutdown::Both);
    });
    let copied = std::io::copy(&mut from_broker, &mut to_client).map(drop);
    let _ = from_broker.shutdown(Shutdown::Both);
    let _ = to_client.shutdown(Shutdown::Both);
    requests.join().expect("it only copies");
    copied
}

/// A request or an answer, with its length in front.
fn frame(from: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn number(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Lowers the highest versions in an answer to ApiVersions. Its entries are request, lowest and highest version, and
/// from version 3 of the answer on an empty list of tags.
fn lower(answer: &mut [u8], version: i16, limits: &[(i16, i16)]) {
    // Length, correlation id and error code.
    let head = 4 + 4 + 2;
    let compact = version >= 3;
    // A broker answers a version that it does not take in version 0.
    let (compact, count, mut at) = if compact && number(answer, 8) == 0 {
        let count = usize::from(answer[head]);
        assert!(count < 128, "a varint of one byte");
        (true, count - 1, head + 1)
    } else {
        let count = u32::from_be_bytes(answer[head..head + 4].try_into().expect("four bytes"));
        (false, count as usize, head + 4)
    };
    for _ in 0..count {
        let api = number(answer, at);
        if let Some((_, limit)) = limits.iter().find(|(limited, _)| *limited == api) {
            answer[at + 4..at + 6].copy_from_slice(&limit.to_be_bytes());
        }
        at += if compact { 7 } else { 6 };
    }
}

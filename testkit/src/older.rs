//! A broker that looks older: proxies take requests, and versions of them, out of what the broker says it takes.

use std::{
    io::{Read, Result, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use crate::broker::{Broker, free_ports};

const API_VERSIONS: i16 = 18;

/// The requests that the brokers of a release take from clients: the number of each, and its highest version. Requests
/// of groups and transactions, and of administration that changelogd does not do, are left out.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    pub name: &'static str,
    requests: &'static [(i16, i16)],
}

impl Release {
    /// The oldest release whose requests Kafka 4 still takes (KIP-896).
    pub const KAFKA_2_1: Self = Self {
        name: "2.1",
        requests: &[
            (0, 7),  // Produce
            (1, 10), // Fetch
            (2, 4),  // ListOffsets
            (3, 7),  // Metadata
            (10, 2), // FindCoordinator
            (17, 1), // SaslHandshake
            (18, 2), // ApiVersions
            (19, 3), // CreateTopics
            (20, 3), // DeleteTopics
            (22, 1), // InitProducerId
            (23, 2), // OffsetForLeaderEpoch
            (32, 2), // DescribeConfigs
            (33, 1), // AlterConfigs
            (36, 0), // SaslAuthenticate
        ],
    };
    /// The last one without topic ids (KIP-516).
    pub const KAFKA_2_7: Self = Self {
        name: "2.7",
        requests: &[
            (0, 8),
            (1, 12),
            (2, 5),
            (3, 9),
            (10, 3),
            (17, 1),
            (18, 3),
            (19, 6),
            (20, 5),
            (22, 4),
            (23, 3),
            (32, 3),
            (33, 1),
            (36, 2),
            (44, 1), // IncrementalAlterConfigs, since 2.3
        ],
    };
    /// The first one with topic ids. Its Fetch does not use them.
    pub const KAFKA_2_8: Self = Self {
        name: "2.8",
        requests: &[
            (0, 9),
            (1, 12),
            (2, 6),
            (3, 11),
            (10, 3),
            (17, 1),
            (18, 3),
            (19, 7),
            (20, 6),
            (22, 4),
            (23, 4),
            (32, 4),
            (33, 2),
            (36, 2),
            (44, 1),
            (60, 0), // DescribeCluster
        ],
    };
}

/// A broker with a listener for each of several releases. Clients of such a listener are all sent to its proxy, and see
/// the broker's answer to ApiVersions (KIP-35) changed. The oracle uses the listener without a proxy.
pub struct OlderBrokers {
    pub broker: Broker,
    /// The addresses of the proxies, by the names of releases.
    addresses: Vec<(&'static str, String)>,
}

impl OlderBrokers {
    /// # Panics
    /// As [`Broker::start`].
    pub fn start<const N: usize>(releases: [Release; N]) -> Self {
        let mut addresses = Vec::new();
        let mut listeners = "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}".to_owned();
        let mut advertised = "PLAINTEXT://127.0.0.1:{port}".to_owned();
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (i, (release, port)) in releases.into_iter().zip(free_ports::<N>()).enumerate() {
            let address = proxy(format!("127.0.0.1:{port}"), release);
            listeners.push_str(&format!(",OLDER{i}://127.0.0.1:{port}"));
            advertised.push_str(&format!(",OLDER{i}://{address}"));
            protocols.push_str(&format!(",OLDER{i}:PLAINTEXT"));
            addresses.push((release.name, address));
        }
        let broker = Broker::start_with(&[
            ("listeners", &listeners),
            ("advertised.listeners", &advertised),
            ("listener.security.protocol.map", &protocols),
        ]);
        Self { broker, addresses }
    }

    /// For `bootstrap.servers`.
    ///
    /// # Panics
    /// If it was not started with this release.
    pub fn bootstrap(&self, release: Release) -> &str {
        let found = self.addresses.iter().find(|(name, _)| *name == release.name);
        found.map_or_else(|| panic!("no listener is like Kafka {}", release.name), |(_, address)| address)
    }
}

/// Starts a proxy to this listener, which runs as long as this process. Returns its address.
fn proxy(listener: String, release: Release) -> String {
    let clients = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = clients.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for client in clients.incoming().flatten() {
            let listener = listener.clone();
            thread::spawn(move || {
                // A connection that ends early is the client's to notice.
                let _ = connect(&client, &listener, release);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

fn connect(client: &TcpStream, target: &str, release: Release) -> Result<()> {
    let broker = TcpStream::connect(target)?;
    let (mut from_client, mut to_broker) = (client.try_clone()?, broker.try_clone()?);
    let (mut from_broker, mut to_client) = (broker, client.try_clone()?);
    // Clients ask for the versions first.
    let request = frame(&mut from_client)?;
    let (api, version) = (number(&request, 4), number(&request, 6));
    to_broker.write_all(&request)?;
    let mut answer = frame(&mut from_broker)?;
    if api == API_VERSIONS {
        answer = lowered(&answer, version, release);
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

/// An answer to ApiVersions as this release gives it. Its entries are request, lowest and highest version, and from
/// version 3 of the answer on an empty list of tags.
fn lowered(answer: &[u8], version: i16, release: Release) -> Vec<u8> {
    // Length, correlation id and error code.
    const HEAD: usize = 4 + 4 + 2;
    // A broker answers a version that it does not take in version 0.
    let compact = version >= 3 && number(answer, 8) == 0;
    let (first, size) = if compact { (HEAD + 1, 7) } else { (HEAD + 4, 6) };
    let count = if compact {
        assert!(answer[HEAD] < 128, "a varint of one byte");
        usize::from(answer[HEAD]) - 1
    } else {
        u32::from_be_bytes(answer[HEAD..first].try_into().expect("four bytes")) as usize
    };
    let (entries, rest) = answer[first..].split_at(count * size);
    let mut kept = Vec::new();
    for entry in entries.chunks(size) {
        let known = release.requests.iter().find(|(request, _)| *request == number(entry, 0));
        if let Some((_, highest)) = known {
            let highest = number(entry, 4).min(*highest);
            kept.push([&entry[..4], &highest.to_be_bytes(), &entry[6..]].concat());
        }
    }
    let count = if compact { vec![kept.len() as u8 + 1] } else { (kept.len() as u32).to_be_bytes().to_vec() };
    let body = [&answer[4..HEAD], &count, &kept.concat(), rest].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

use std::time::Duration;

use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Instant, timeout},
};

use super::*;
use crate::timeouts::TOKEN_REQUEST;

/// An address that answers no more, as that of a host behind a broken route: the queue of its listener is full, and the
/// system drops what would begin another connection.
struct Dead {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Dead {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (address, mut queued) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(connected) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            queued.push(connected.unwrap());
            assert!(queued.len() < 100, "the queue is never full");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}

/// Covers R65.
#[tokio::test]
async fn an_address_that_does_not_answer_leaves_the_time_to_the_others() {
    let (dead, other_dead) = (Dead::new().await, Dead::new().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (dead, other_dead) = (&dead, &other_dead);
    for addresses in [
        vec![good],
        vec![good, dead.address],
        vec![dead.address, good],
        vec![dead.address, other_dead.address, good],
        vec![refused, good],
        vec![refused, dead.address, good],
        vec![dead.address, refused, good],
        vec![dead.address; 8].into_iter().chain([good]).collect(),
    ] {
        let (started, count) = (Instant::now(), addresses.len());
        let stream = timeout(TOKEN_REQUEST, connect(addresses.clone())).await.expect("a bound").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good, "{addresses:?}");
        // Most of the time of a request is left.
        assert!(started.elapsed() < TOKEN_REQUEST / 2, "{count} addresses took {:?}", started.elapsed());
    }
}

/// Covers R64.
#[tokio::test]
async fn addresses_that_all_fail_are_an_error_with_one_of_them() {
    assert_eq!(connect(Vec::new()).await.unwrap_err(), "its name has no address");
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for addresses in [vec![refused], vec![refused, refused]] {
        let error = connect(addresses).await.unwrap_err();
        assert!(error.starts_with(&format!("connect to {refused}: ")), "{error}");
    }
    let dead = Dead::new().await;
    let pending = timeout(Duration::from_millis(600), connect(vec![refused, dead.address])).await;
    assert!(pending.is_err(), "an address that may still answer is waited for: {pending:?}");
}

/// Covers R65.
#[tokio::test]
async fn the_first_address_gets_the_only_connection_if_it_answers() {
    let (first, second) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let stream = connect(vec![first.local_addr().unwrap(), second.local_addr().unwrap()]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), first.local_addr().unwrap());
    let other = timeout(CONNECT_ATTEMPT_DELAY * 2, second.accept()).await;
    assert!(other.is_err(), "{other:?}");
}

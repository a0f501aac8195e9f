//! A connection that is lost without a sign. No row of the table: in this package only, a clock can be paused.

use std::time::Duration;

use changelogd_client::{Change, Client};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, pause, resume, timeout},
};

use crate::support::{EMBEDDED, next, variable, workspace};

/// A server answers a ping of the package within this time, or its connection is lost.
const LOST_AFTER: Duration = Duration::from_secs(30 + 10);

/// Carries bytes both ways until `is_lost`, and then none. Returns once the client has closed the connection.
async fn carry(listener: TcpListener, mut is_lost: watch::Receiver<bool>) {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(variable(EMBEDDED)).await.unwrap();
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        tokio::select! {
            biased;
            // What `wait_for` returns holds a lock, which a spawned task must not keep while it waits.
            _ = async { is_lost.wait_for(|lost| *lost).await.is_ok() } => break,
            read = client.read(&mut up) => server.write_all(&up[..read.unwrap()]).await.unwrap(),
            read = server.read(&mut down) => client.write_all(&down[..read.unwrap()]).await.unwrap(),
        }
    }
    while client.read(&mut up).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn a_watch_closes_a_lost_connection_once_a_ping_is_not_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect(&listener.local_addr().unwrap().to_string()).unwrap();
    let (lose, is_lost) = watch::channel(false);
    let carried = tokio::spawn(carry(listener, is_lost));
    let mut changes = client.watch(&workspace("lost-connection"), &[]);
    // No frame follows that of the state: the workspace does not change.
    assert!(matches!(next(&mut changes).await.unwrap(), Change::Loaded(_)));
    lose.send_replace(true);
    // The clock jumps from timer to timer when nothing else is to be done.
    pause();
    let since = Instant::now();
    let closed = tokio::select! {
        closed = timeout(10 * LOST_AFTER, carried) => closed,
        change = changes.next() => panic!("{change:?} came over a lost connection"),
    };
    resume();
    closed.expect("the connection stays open").unwrap();
    assert!(since.elapsed() >= LOST_AFTER / 4, "{:?}", since.elapsed());
}

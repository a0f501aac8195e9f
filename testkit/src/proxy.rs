//! A TCP proxy whose link can be made bad at run time: network faults without root.
//!
//! It runs on a thread of its own, so that it and a test's runtime never block each other. A [`Mode`] holds for all
//! connections, open ones included. The bytes that wait in it are limited to [`WINDOW`] chunks per direction.

use std::{
    net::TcpListener as StdListener,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::random::random;

/// Chunks of at most [`CHUNK`] bytes that may wait in one direction.
const WINDOW: usize = 64;
const CHUNK: usize = 16 * 1024;

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing but copying.
    Pass,
    /// Open connections are closed, new ones at once.
    Cut,
    /// Every byte is late by this much, in each direction.
    Delay(Duration),
    /// This many bytes, then a pause.
    Drip(usize, Duration),
    /// Connections are accepted and bytes are read, but nothing is passed on, without any error. When the mode ends,
    /// connections that were open in it are closed.
    HalfOpen,
    /// Requests pass, and answers are dropped. Otherwise like `HalfOpen`.
    Mute,
    /// Each connection is closed after a random number of bytes, this many on average. Packet loss has this effect in
    /// the end.
    RandomCuts(u32),
}

/// A listener on a free port of 127.0.0.1 in front of one target. Dropping it closes every connection.
pub struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicI64,
    passed: AtomicU64,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("proxy").enable_all().build().expect("a runtime for the proxies")
    })
}

impl Proxy {
    /// `target` need not listen yet.
    ///
    /// # Panics
    /// If there is no port to listen on.
    pub fn start(target: &str) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("a port for the proxy");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let address = listener.local_addr().expect("a bound listener").to_string();
        let (mode, watched) = watch::channel(Mode::Pass);
        let counts = Arc::new(Counts::default());
        runtime().spawn(accept(listener, target.to_owned(), watched, counts.clone()));
        Self { address, mode, counts }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Restores the link. Bytes that a `HalfOpen` or `Mute` link has dropped are lost, so such connections are closed.
    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that came in so far, over all connections and both directions.
    pub fn passed(&self) -> u64 {
        self.counts.passed.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> i64 {
        self.counts.open.load(Ordering::SeqCst)
    }
}

async fn accept(listener: StdListener, target: String, mut mode: watch::Receiver<Mode>, counts: Arc<Counts>) {
    let listener = TcpListener::from_std(listener).expect("a listener for tokio");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = mode.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return, // the proxy is gone
            },
        };
        let Ok((client, _)) = accepted else { continue };
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        if *mode.borrow() != Mode::Cut {
            tokio::spawn(connection(client, target.clone(), mode.clone(), counts.clone()));
        }
    }
}

async fn connection(client: TcpStream, target: String, mut mode: watch::Receiver<Mode>, counts: Arc<Counts>) {
    counts.open.fetch_add(1, Ordering::SeqCst);
    let _open = Guard(&counts);
    // A half-open link has no other end.
    if *mode.borrow_and_update() == Mode::HalfOpen {
        let _ = mode.changed().await;
        return;
    }
    let Ok(server) = TcpStream::connect(&target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let passed = AtomicU64::new(0);
    let up = pump(from_client, to_server, Direction::Up, mode.clone(), (&passed, &counts.passed));
    let down = pump(from_server, to_client, Direction::Down, mode.clone(), (&passed, &counts.passed));
    tokio::select! {
        // The pump of one direction passes its end on. The other direction may still have bytes to send.
        _ = async { tokio::join!(up, down) } => {}
        () = broken(mode, &passed) => {}
    }
}

struct Guard<'a>(&'a Counts);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns when the link's fault requires that the connection is closed.
async fn broken(mut mode: watch::Receiver<Mode>, passed: &AtomicU64) {
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Cut => return,
            Mode::RandomCuts(mean) => {
                let budget = passed.load(Ordering::Relaxed) + random() % (2 * u64::from(mean.max(1)));
                while passed.load(Ordering::Relaxed) < budget && matches!(mode.has_changed(), Ok(false)) {
                    sleep(Duration::from_millis(2)).await;
                }
                if matches!(mode.has_changed(), Ok(false)) {
                    return;
                }
            }
            _ => {
                if mode.changed().await.is_err() {
                    return; // the proxy is gone
                }
                if matches!(now, Mode::HalfOpen | Mode::Mute) {
                    return;
                }
            }
        }
        if mode.has_changed().is_err() {
            return;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

async fn pump(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    mode: watch::Receiver<Mode>,
    (passed, ever): (&AtomicU64, &AtomicU64),
) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            passed.fetch_add(count as u64, Ordering::Relaxed);
            ever.fetch_add(count as u64, Ordering::SeqCst);
            if send.send((Instant::now(), buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, deliver(receive, to, direction, mode));
}

async fn deliver(
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mode: watch::Receiver<Mode>,
) {
    while let Some((read, chunk)) = chunks.recv().await {
        let now = *mode.borrow();
        let written = match now {
            Mode::HalfOpen => continue,
            Mode::Mute if direction == Direction::Down => continue,
            Mode::Delay(delay) => {
                sleep_until(read + delay).await;
                // Bytes must not be passed on if the link has become half-open in between.
                if *mode.borrow() == Mode::HalfOpen {
                    continue;
                }
                to.write_all(&chunk).await
            }
            Mode::Drip(bytes, pause) => drip(&mut to, &chunk, bytes, pause, &mode).await,
            _ => to.write_all(&chunk).await,
        };
        if written.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn drip(
    to: &mut OwnedWriteHalf,
    chunk: &[u8],
    bytes: usize,
    pause: Duration,
    mode: &watch::Receiver<Mode>,
) -> std::io::Result<()> {
    for drop in chunk.chunks(bytes.max(1)) {
        to.write_all(drop).await?;
        if matches!(*mode.borrow(), Mode::Drip(..)) {
            sleep(pause).await;
        }
    }
    Ok(())
}

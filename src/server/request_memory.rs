//! The memory of requests: from the length that a message announces, until the call has an answer.
//!
//! A `Write` stream may not be read for a while, because its client takes no verdicts. So such a stream also reserves
//! what may wait unread.
//!
//! A message is read into a buffer of the announced length at once, so that is when its bytes are reserved. A message
//! of a `Write` stream is released when the next one is read: its records are in the queue of the log by then, which
//! has a part of its own.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::codegen::StdError;

use super::request_head::Rpc;
use crate::{
    memory::{Full, MemoryPart, Reserved},
    service::{RequestMemory, memory_limit, message_too_slow},
};

/// The compressed flag, and the length in four bytes (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX_BYTES: usize = 5;

/// Unread bytes of one request (RFC 9113, SETTINGS_INITIAL_WINDOW_SIZE).
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// The longest time between the start of a request and its last byte, and for each message of a `Write` stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How much the requests of the API may hold.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    pub part: Arc<MemoryPart>,
    /// For calls of health and reflection.
    pub probes: Arc<MemoryPart>,
    /// A larger message is refused when it is decoded. A compressed one may become as large.
    pub max_request_bytes: u64,
}

/// The RPC whose request is a stream.
const WRITE: &str = "Write";

/// What an open call takes besides its messages: the state of its stream, and its task.
const CALL_BYTES: u64 = 8 * 1024;
/// What an entry of its metadata takes.
const METADATA_ENTRY_BYTES: u64 = 128;

/// What streams of health and reflection leave to `Check`, which they could otherwise turn off.
const CHECK_RESERVE: u64 = 512 * 1024;

impl RequestLimits {
    /// Reserves what a call takes until it ends.
    pub fn open_call(&self, rpc: Rpc, metadata: &HeaderMap) -> Result<Reserved, Full> {
        let part = if rpc.ours { &self.part } else { &self.probes };
        let bytes = CALL_BYTES + METADATA_ENTRY_BYTES * metadata.len() as u64;
        let reserved = part.reserve(bytes)?;
        let (used, limit) = (part.used(), part.limit().saturating_sub(CHECK_RESERVE));
        if rpc.ours || rpc.is_check || used <= limit {
            return Ok(reserved);
        }
        Err(Full { part: part.name(), limit, used: used - bytes, wanted: bytes })
    }
}

/// The body of a request.
pub struct RequestBody<B> {
    inner: B,
    /// `None` for calls that are not of the API.
    metered: Option<Metered>,
}

struct Metered {
    rpc: &'static str,
    max_request_bytes: u64,
    memory: RequestMemory,
    at: At,
    /// Bytes that are reserved for messages that have arrived completely.
    complete: u64,
    /// Runs while the rest of a message is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Where in the messages the next byte is.
enum At {
    Prefix { bytes: [u8; PREFIX_BYTES], have: usize },
    Message { left: u64, reserved: u64 },
}

const START: At = At::Prefix { bytes: [0; PREFIX_BYTES], have: 0 };

impl<B> RequestBody<B> {
    /// Also returns what the body reserves. It stays reserved until both are dropped.
    pub fn new(
        inner: B,
        rpc: &'static str,
        limits: Option<&RequestLimits>,
    ) -> Result<(Self, Option<RequestMemory>), Full> {
        let Some(RequestLimits { part, max_request_bytes, .. }) = limits else {
            return Ok((Self { inner, metered: None }, None));
        };
        let (memory, max_request_bytes) = (RequestMemory::new(part), *max_request_bytes);
        if rpc == WRITE {
            memory.add(STREAM_WINDOW.into(), false)?;
        }
        let metered = Metered { rpc, max_request_bytes, memory: memory.clone(), at: START, complete: 0, timer: None };
        Ok((Self { inner, metered: Some(metered) }, Some(memory)))
    }
}

impl Metered {
    /// The decoder asks for more bytes only when it has passed on all complete messages.
    fn next_bytes_are_asked_for(&mut self) {
        if self.rpc == WRITE {
            self.memory.release(std::mem::take(&mut self.complete));
        }
    }

    /// Ready when a message has begun to arrive and has not arrived in time. A message that has begun holds memory.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.at, At::Prefix { have: 0, .. }) {
            return Poll::Pending;
        }
        self.timer.get_or_insert_with(|| Box::pin(sleep(REQUEST_TIMEOUT))).as_mut().poll(cx)
    }

    fn arrived(&mut self, mut data: &[u8]) -> Result<(), Full> {
        while !data.is_empty() {
            match &mut self.at {
                At::Prefix { bytes, have } => {
                    let taken = data.len().min(PREFIX_BYTES - *have);
                    bytes[*have..*have + taken].copy_from_slice(&data[..taken]);
                    data = &data[taken..];
                    *have += taken;
                    if *have == PREFIX_BYTES {
                        let [flag, length @ ..] = *bytes;
                        let left = u64::from(u32::from_be_bytes(length));
                        // The decoder refuses a message over the limit before it makes room for it.
                        let compressed = flag != 0;
                        let reserved =
                            if compressed { self.max_request_bytes } else { left.min(self.max_request_bytes) };
                        self.memory.add(reserved, compressed)?;
                        self.at = At::Message { left, reserved };
                    }
                }
                At::Message { left, .. } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                    data = &data[taken..];
                    *left -= taken as u64;
                }
            }
            if let At::Message { left: 0, reserved } = self.at {
                self.complete += reserved;
                self.at = START;
                self.timer = None;
            }
        }
        Ok(())
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if let Some(metered) = &mut self.metered {
            metered.next_bytes_are_asked_for();
        }
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.metered.as_mut().map_or(Poll::Pending, |metered| metered.poll_too_slow(cx)));
                return Poll::Ready(Some(Err(message_too_slow(REQUEST_TIMEOUT).into())));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        if let (Some(metered), Some(data)) = (&mut self.metered, frame.data_ref())
            && let Err(full) = metered.arrived(data)
        {
            return Poll::Ready(Some(Err(memory_limit(metered.rpc, &full).into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 5_000;

    fn metered(part: &Arc<MemoryPart>, rpc: &'static str) -> (Metered, RequestMemory) {
        let limits = RequestLimits { part: part.clone(), probes: part.clone(), max_request_bytes: MAX };
        let (body, memory) = RequestBody::new((), rpc, Some(&limits)).unwrap();
        (body.metered.unwrap(), memory.unwrap())
    }

    fn message(compressed: bool, bytes: usize) -> Vec<u8> {
        let mut message = vec![u8::from(compressed)];
        message.extend(u32::try_from(bytes).unwrap().to_be_bytes());
        message.resize(PREFIX_BYTES + bytes, 7);
        message
    }

    proptest! {
        /// However the bytes are split, those that a message announces are reserved as soon as its prefix is there.
        /// Covers S19.
        #[test]
        fn what_is_announced_is_reserved_however_the_bytes_are_split(
            messages in prop::collection::vec((prop::bool::weighted(0.2), 0..3_000_usize), 1..6),
            cuts in prop::collection::vec(1..2_000_usize, 1..40),
        ) {
            for rpc in ["Set", "Write"] {
                let part = MemoryPart::new("requests", 1_000_000, 0);
                let (mut body, memory) = metered(&part, rpc);
                let bytes: Vec<u8> = messages.iter().flat_map(|(flag, bytes)| message(*flag, *bytes)).collect();
                let (mut at, mut cuts) = (0, cuts.iter().cycle());
                while at < bytes.len() {
                    let end = bytes.len().min(at + cuts.next().unwrap());
                    body.next_bytes_are_asked_for();
                    body.arrived(&bytes[at..end]).unwrap();
                    // Of a Write stream, what was complete before these bytes is released.
                    let (mut start, mut expected) = (0, if rpc == "Write" { STREAM_WINDOW.into() } else { 0 });
                    for (flag, length) in &messages {
                        let last = start + PREFIX_BYTES + length;
                        if start + PREFIX_BYTES <= end && (rpc == "Set" || last > at) {
                            expected += if *flag { MAX } else { *length as u64 };
                        }
                        start = last;
                    }
                    prop_assert_eq!(part.used(), expected, "{} to {}", rpc, end);
                    at = end;
                }
                drop(body);
                drop(memory);
                prop_assert_eq!(part.used(), 0);
            }
        }
    }

    /// A body that is silent after some bytes.
    struct Silent(Option<Bytes>);

    impl Body for Silent {
        type Data = Bytes;
        type Error = StdError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    /// Covers S19, B16.
    #[tokio::test(start_paused = true)]
    async fn a_message_that_has_begun_must_arrive_and_a_silent_stream_may_stay() {
        let whole = message(false, 10);
        for (bytes, ends) in
            [(&whole[..], false), (&whole[..14], true), (&whole[..5], true), (&whole[..1], true), (&[][..], false)]
        {
            let part = MemoryPart::new("requests", 1_000_000, 0);
            let limits = RequestLimits { part: part.clone(), probes: part, max_request_bytes: MAX };
            let silent = Silent((!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes)));
            let (mut body, _memory) = RequestBody::new(silent, "Write", Some(&limits)).unwrap();
            let read =
                async { while std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().is_ok() {} };
            let ended = tokio::time::timeout(10 * REQUEST_TIMEOUT, read).await;
            assert_eq!(ended.is_ok(), ends, "{} bytes", bytes.len());
        }
    }

    /// Covers S19.
    #[test]
    fn a_message_is_refused_when_its_length_is_announced() {
        let part = MemoryPart::new("requests", 1_000, 0);
        let (mut body, _memory) = metered(&part, "Set");
        body.arrived(&message(false, 900)[..PREFIX_BYTES]).unwrap();
        let (mut other, _other) = metered(&part, "Get");
        let full = other.arrived(&message(false, 101)[..PREFIX_BYTES]).unwrap_err();
        assert_eq!((full.used, full.wanted), (900, 101));
        let (mut fits, _fits) = metered(&part, "Set");
        fits.arrived(&message(false, 100)[..PREFIX_BYTES]).unwrap();
        let limits = RequestLimits { part: part.clone(), probes: part, max_request_bytes: MAX };
        let full = RequestBody::new((), "Write", Some(&limits)).err().expect("no room for what it may leave unread");
        assert_eq!(full.wanted, u64::from(STREAM_WINDOW));
    }
}

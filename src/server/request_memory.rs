//! The memory of requests: from the length that a message announces, until the call has an answer.
//!
//! A `Write` stream may not be read for a while, because its client takes no verdicts. So such a stream also reserves
//! what may wait unread.
//!
//! A message is read into a buffer of the announced length at once, so that is when its bytes are reserved. A message
//! of a `Write` stream is released when the next one is read: its records are in the queue of the log by then, which
//! has a part of its own. Without room a call is refused; a message of a `Write` stream waits for room first, because
//! others before it may have been written.
//!
//! Compressed messages are decompressed one after another. So one of them counts with the size that it may have then.

#[cfg(test)]
mod tests;

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
    service::{
        CallStats, RequestBytes, RequestMemory, memory_limit, message_too_slow, no_room_for_message, request_malformed,
    },
};

/// The compressed flag, and the length in four bytes (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX_BYTES: usize = 5;

/// Unread bytes of one request (RFC 9113, SETTINGS_INITIAL_WINDOW_SIZE).
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// The longest time between the start of a request and its last byte, and for each message of a `Write` stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest request of health and reflection: it has a name.
pub const MAX_PROBE_BYTES: usize = 16 * 1024;

/// How much the requests of the API may hold.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    pub part: Arc<MemoryPart>,
    /// For calls of health and reflection.
    pub probes: Arc<MemoryPart>,
    /// A larger message is refused when it is decoded. A compressed one may become as large.
    pub max_request_bytes: u64,
}

/// How much larger a message can be than its compressed form, at most (zlib, "Maximum Compression Factor").
const MAX_COMPRESSION: u64 = 1_032;

/// The RPC of the API whose request is a stream.
const WRITE: &str = "Write";
const REFLECTION: &str = "Reflection";

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

/// The body of a request. Also checks what the decoder does not: the end of a message, and their number.
pub struct RequestBody<B> {
    inner: B,
    metered: Metered,
}

struct Metered {
    rpc: &'static str,
    max_request_bytes: u64,
    /// `None` for health and reflection, whose requests are small.
    memory: Option<RequestMemory>,
    at: At,
    /// Bytes of messages that have arrived completely.
    complete: u64,
    has_message: bool,
    /// Bytes follow the message of a call that has one.
    has_surplus: bool,
    stats: Arc<CallStats>,
    /// Runs while the rest of a message is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes that wait for room.
    waiting: Option<(Frame<Bytes>, Room)>,
}

/// Completes when there is room.
type Room = Pin<Box<dyn Future<Output = Result<(), Full>> + Send>>;

/// Where in the messages the next byte is.
enum At {
    Prefix { bytes: [u8; PREFIX_BYTES], have: usize },
    Message { left: u64, announced: RequestBytes },
}

const START: At = At::Prefix { bytes: [0; PREFIX_BYTES], have: 0 };

impl<B> RequestBody<B> {
    /// Also returns what the body reserves. It stays reserved until both are dropped.
    pub fn new(
        inner: B,
        rpc: &'static str,
        limits: Option<&RequestLimits>,
        stats: &Arc<CallStats>,
    ) -> Result<(Self, Option<RequestMemory>), Full> {
        let memory = limits.map(|limits| RequestMemory::new(&limits.part));
        if let (Some(memory), WRITE) = (&memory, rpc) {
            memory.add(RequestBytes { arriving: STREAM_WINDOW.into(), decompressed: 0 })?;
        }
        let max_request_bytes = limits.map_or(MAX_PROBE_BYTES as u64, |limits| limits.max_request_bytes);
        let metered = Metered {
            rpc,
            max_request_bytes,
            memory: memory.clone(),
            at: START,
            complete: 0,
            has_message: false,
            has_surplus: false,
            stats: stats.clone(),
            timer: None,
            waiting: None,
        };
        Ok((Self { inner, metered }, memory))
    }
}

impl Metered {
    /// The decoder asks for more bytes only when it has passed on all complete messages.
    fn next_bytes_are_asked_for(&mut self) {
        if let (Some(memory), WRITE, 1..) = (&self.memory, self.rpc, self.complete) {
            let decompressed = match self.at {
                At::Message { announced, .. } => announced.decompressed,
                At::Prefix { .. } => 0,
            };
            memory.release(RequestBytes { arriving: std::mem::take(&mut self.complete), decompressed });
        }
    }

    /// Ready when a message has begun to arrive and has not arrived in time. A message that has begun holds memory.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.at, At::Prefix { have: 0, .. }) {
            return Poll::Pending;
        }
        self.timer.get_or_insert_with(|| Box::pin(sleep(REQUEST_TIMEOUT))).as_mut().poll(cx)
    }

    /// Reads the prefixes of messages. Returns what the messages that begin in these bytes need.
    fn begun_in(&mut self, mut data: &[u8]) -> RequestBytes {
        let mut begun = RequestBytes::default();
        while !data.is_empty() {
            if self.has_message && ![WRITE, REFLECTION].contains(&self.rpc) {
                self.has_surplus = true;
                break;
            }
            match &mut self.at {
                At::Prefix { bytes, have } => {
                    let taken = data.len().min(PREFIX_BYTES - *have);
                    bytes[*have..*have + taken].copy_from_slice(&data[..taken]);
                    data = &data[taken..];
                    *have += taken;
                    if *have == PREFIX_BYTES {
                        let [flag, length @ ..] = *bytes;
                        let left = u64::from(u32::from_be_bytes(length));
                        let announced = self.announced(flag != 0, left);
                        begun.arriving += announced.arriving;
                        begun.decompressed = begun.decompressed.max(announced.decompressed);
                        self.at = At::Message { left, announced };
                    }
                }
                At::Message { left, .. } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                    data = &data[taken..];
                    *left -= taken as u64;
                }
            }
            if let At::Message { left: 0, announced } = self.at {
                self.complete += announced.arriving;
                self.has_message = true;
                self.at = START;
                self.timer = None;
            }
        }
        begun
    }

    /// The decoder refuses a message over the limit before it makes room for it.
    fn announced(&self, compressed: bool, length: u64) -> RequestBytes {
        if length > self.max_request_bytes {
            self.stats.set_too_large_message(length);
        }
        let arriving = length.min(self.max_request_bytes);
        let decompressed = if compressed { (length * MAX_COMPRESSION).min(self.max_request_bytes) } else { 0 };
        RequestBytes { arriving, decompressed }
    }

    /// Reserves what the messages need that begin in a frame. If there is no room, the frame of a stream waits.
    fn reserve_for(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Full> {
        let begun = frame.data_ref().map(|data| self.begun_in(data)).unwrap_or_default();
        let Some(memory) = &self.memory else { return Ok(Some(frame)) };
        match memory.add(begun) {
            Ok(()) => Ok(Some(frame)),
            Err(_) if self.rpc == WRITE => {
                self.waiting = Some((frame, Box::pin(memory.clone().add_when_possible(begun))));
                Ok(None)
            }
            Err(full) => Err(full),
        }
    }

    /// The frame that waited for room.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let Some((_, room)) = &mut self.waiting else { return Poll::Ready(None) };
        let room = ready!(room.as_mut().poll(cx));
        let frame = self.waiting.take().map(|(frame, _)| frame);
        Poll::Ready(match room {
            Ok(()) => frame.map(Ok),
            Err(full) => Some(Err(no_room_for_message(self.rpc, &full).into())),
        })
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
        let Self { inner, metered } = &mut *self;
        loop {
            if let Some(frame) = ready!(metered.poll_waiting(cx)) {
                return Poll::Ready(Some(frame));
            }
            metered.next_bytes_are_asked_for();
            let frame = match Pin::new(&mut *inner).poll_frame(cx) {
                Poll::Pending => {
                    ready!(metered.poll_too_slow(cx));
                    return Poll::Ready(Some(Err(message_too_slow(REQUEST_TIMEOUT).into())));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
                // The decoder takes the end of a prefix for the end of the stream.
                Poll::Ready(None) if !matches!(metered.at, At::Prefix { have: 0, .. }) => {
                    return Poll::Ready(Some(Err(request_malformed(metered.rpc, "it ends within a message").into())));
                }
                Poll::Ready(end) => return Poll::Ready(end.map(|end| end.map_err(Into::into))),
            };
            match metered.reserve_for(frame) {
                Ok(None) => {}
                // Not left to the decoder, which would ignore the second message.
                Ok(Some(_)) if metered.has_surplus => {
                    let status = request_malformed(metered.rpc, "more than one message came, and the call takes one");
                    return Poll::Ready(Some(Err(status.into())));
                }
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(full) => return Poll::Ready(Some(Err(memory_limit(metered.rpc, &full).into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.metered.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

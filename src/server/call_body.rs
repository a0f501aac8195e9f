//! The messages and trailers of a response, and what a call holds until the client's socket has them.
//!
//! Promises: what a call holds is released when the last byte of its response is written to the socket, or its stream
//! or connection ends. The transport buffers up to 128 KiB of each stream, which nothing else would count.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::{
    activity::{OpenCall, OpenProbe},
    status_headers::StatusHeaders,
    transport_wait::TransportWait,
};
use crate::{
    memory::Reserved,
    service::{AnswerMemory, Kept},
};

/// A response is given to the transport in parts of this size. Each one that the client takes shows that it reads.
const MAX_PART: usize = 16 * 1024;
/// The last byte of a chunk of this size, or of a larger one, is a part of its own. See [`CallBody`]. For answers of
/// writes, which are smaller, the second frame would cost too much. If the client has room for a byte of such an answer
/// but not for all, nothing resets it. Its call is open until the client takes it, or the connection ends.
const MIN_SPLIT_CHUNK: usize = 128;

/// What learns how a call ended.
pub trait CallEnd {
    fn end(&mut self, status: &Status);
}

/// What a call holds from its start: its places among the open calls, and its memory.
#[derive(Debug, Default)]
pub struct HeldByCall {
    /// Of its connection, and of those that a drain waits for.
    pub open_calls: Option<(OpenCall, Option<OpenCall>)>,
    /// One of health or reflection, among those of its connection.
    pub probe: Option<OpenProbe>,
    pub memory: Option<Reserved>,
}

/// What a chunk of a response holds.
#[derive(Debug)]
struct HeldByChunk {
    _call: Arc<HeldByCall>,
    _messages: Vec<Kept>,
}

/// Bytes for the transport. It drops them when they are written to the socket.
#[derive(Debug)]
pub struct Part {
    bytes: Bytes,
    held: Arc<HeldByChunk>,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
    }
}

/// The messages and trailers of a response.
///
/// The last byte of a chunk is given to the transport on its own. The transport takes a part as soon as the client has
/// room for one byte of it, and then asks for the trailers, which end the stream's task. Then it would not be seen that
/// the client does not take the part. So the transport waits for room for the last byte instead.
#[derive(Debug)]
pub struct CallBody<G: CallEnd> {
    inner: tonic::body::Body,
    /// What is left of a chunk.
    rest: Option<Part>,
    wait: Arc<TransportWait>,
    guard: Option<G>,
    /// `None` if there are no messages, so that the status is in the headers.
    status: Option<StatusHeaders>,
    call: Arc<HeldByCall>,
    /// Of messages that the next chunk has.
    messages: AnswerMemory,
}

impl<G: CallEnd> CallBody<G> {
    /// A response that holds nothing.
    pub fn new(inner: tonic::body::Body, guard: Option<G>) -> Self {
        Self::holding(inner, guard, None, HeldByCall::default(), AnswerMemory::default())
    }

    pub fn holding(
        inner: tonic::body::Body,
        guard: Option<G>,
        status: Option<StatusHeaders>,
        call: HeldByCall,
        messages: AnswerMemory,
    ) -> Self {
        Self { inner, rest: None, wait: TransportWait::current(), guard, status, call: Arc::new(call), messages }
    }
}

impl<G: CallEnd + Unpin> Body for CallBody<G> {
    type Data = Part;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, Status>>> {
        self.wait.ends();
        let rest = self.rest.take();
        let is_rest = rest.is_some();
        let mut part = match rest {
            Some(rest) => rest,
            None => match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        // The encoder passes on all messages that it has taken.
                        let held = HeldByChunk { _call: self.call.clone(), _messages: self.messages.take() };
                        Part { bytes, held: Arc::new(held) }
                    }
                    Err(frame) => {
                        let Ok(mut trailers) = frame.into_trailers() else { return Poll::Ready(None) };
                        let status = self.status.as_ref().and_then(|status| status.complete(&mut trailers));
                        if let (Some(guard), Some(status)) = (&mut self.guard, status) {
                            guard.end(&status);
                        }
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                },
            },
        };
        let bytes = part.bytes.len();
        // What is left of a chunk is split at any size: its last byte is that of the chunk.
        if bytes >= MIN_SPLIT_CHUNK || is_rest && bytes > 1 {
            let rest = part.bytes.split_off(MAX_PART.min(bytes - 1));
            self.rest = Some(Part { bytes: rest, held: part.held.clone() });
        }
        self.wait.begins();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<G: CallEnd> Drop for CallBody<G> {
    fn drop(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        if self.wait.was_too_long() {
            guard.end(&Status::deadline_exceeded("the client took nothing for --client-stall-timeout; it was reset"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[derive(Debug)]
    struct NoEnd;

    impl CallEnd for NoEnd {
        fn end(&mut self, _: &Status) {}
    }

    /// The sizes of the parts of a chunk.
    async fn parts(chunk: usize) -> Vec<usize> {
        let inner = tonic::body::Body::new(http_body_util::Full::new(Bytes::from(vec![7; chunk])));
        let mut body = CallBody::<NoEnd>::new(inner, None);
        let mut parts = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            parts.push(frame.unwrap().into_data().unwrap().remaining());
        }
        parts
    }

    /// Covers S17.
    #[tokio::test]
    async fn the_last_byte_of_a_chunk_is_a_part_of_its_own_unless_the_chunk_is_small() {
        for chunk in 1..MIN_SPLIT_CHUNK {
            assert_eq!(parts(chunk).await, [chunk]);
        }
        let around = |parts: usize| parts * MAX_PART - 200..parts * MAX_PART + 200;
        for chunk in (MIN_SPLIT_CHUNK..1_000).chain(around(1)).chain(around(2)).chain(around(7)) {
            let parts = parts(chunk).await;
            assert_eq!((parts.iter().sum(), parts.last()), (chunk, Some(&1)), "{parts:?}");
            assert!(parts.iter().all(|part| *part <= MAX_PART), "{parts:?}");
            assert!(parts.len() <= chunk.div_ceil(MAX_PART) + 1, "{parts:?}");
        }
    }
}

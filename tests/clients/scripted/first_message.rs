//! Whether the first message of a request is compressed. tonic decompresses it, and does not say so.

use std::sync::{Arc, OnceLock};

use http_body_util::BodyExt;
use hyper::{
    Request,
    body::{Body, Bytes, Incoming},
};

/// gRPC puts this byte in front of a compressed message, and 0 in front of another one.
const COMPRESSED: u8 = 1;

/// An extension of the request. It is known once the message has been read.
#[derive(Clone, Default)]
pub struct FirstMessage {
    is_compressed: Arc<OnceLock<bool>>,
}

impl FirstMessage {
    pub fn watched(request: Request<Incoming>) -> Request<impl Body<Data = Bytes, Error = hyper::Error> + Send> {
        let first = Self::default();
        let (mut head, body) = request.into_parts();
        head.extensions.insert(first.clone());
        let body = body.map_frame(move |frame| {
            if let Some(byte) = frame.data_ref().and_then(|data| data.first()) {
                first.is_compressed.get_or_init(|| *byte == COMPRESSED);
            }
            frame
        });
        Request::from_parts(head, body)
    }

    pub fn is_compressed(&self) -> bool {
        self.is_compressed.get() == Some(&true)
    }
}

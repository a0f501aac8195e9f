//! The codec of the API's messages. It is prost's codec with four differences.
//!
//! The buffer of a message has exactly its size. A growing buffer could take twice that until the client has received
//! it. A request that can not be decoded is INVALID_ARGUMENT, because it is an error of the client. prost's codec
//! returns INTERNAL. So is a request whose lists are far too long, which is not decoded. What a write keeps does not
//! keep the rest of its message. An answer that a client can not decode stays INTERNAL without our ErrorInfo: the
//! server did not refuse the call.

use std::{collections::HashMap, marker::PhantomData};

use bytes::Buf;
use prost::Message;
use tonic::{
    Code, Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    DOMAIN,
    list_limits::{self, Lists},
    shared_bytes::SharedBytes,
    v1,
};

/// Which side decodes a message.
pub trait Decoded {
    /// A client decodes an answer, and the server a request.
    const IS_ANSWER: bool;
}

macro_rules! decoded {
    ($($request:ident: $answer:ident),*) => { $(
        impl Decoded for v1::$request {
            const IS_ANSWER: bool = false;
        }
        impl Decoded for v1::$answer {
            const IS_ANSWER: bool = true;
        }
    )* };
}

decoded! {
    SetRequest: SetResponse, DeleteRequest: DeleteResponse, WriteRequest: WriteResponse, FlushRequest: FlushResponse,
    LoadWorkspaceRequest: LoadWorkspaceResponse, StreamAllRequest: StreamAllResponse, GetRequest: GetResponse,
    DescribeRequest: DescribeResponse, WatchRequest: WatchResponse
}

/// The server decodes it as a part of a request.
impl Decoded for v1::Mutation {
    const IS_ANSWER: bool = false;
}

#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Decoded + Lists + SharedBytes + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SizedEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        SizedEncoder(ProstCodec::<T, U>::default().encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

#[derive(Debug)]
pub struct SizedEncoder<T>(ProstEncoder<T>);

impl<T: Message> Encoder for SizedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.encoded_len());
        self.0.encode(item, dst)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

#[derive(Debug)]
pub struct MessageDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + Decoded + Lists + SharedBytes> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::IS_ANSWER {
            return self.0.decode(src);
        }
        let details = |facts| ErrorDetails::with_error_info("ARGUMENT_INVALID", DOMAIN, facts);
        let refused = |message: String, details| Status::with_error_details(Code::InvalidArgument, message, details);
        // The bytes of a message are in one piece.
        list_limits::check(src.chunk(), U::LISTS).map_err(|too_many| {
            let mut details = details(HashMap::from([("limit".to_owned(), too_many.limit.to_string())]));
            details.add_bad_request_violation(too_many.name, too_many.to_string());
            refused(too_many.to_string(), details)
        })?;
        let message_bytes = src.remaining();
        let decoded = self.0.decode(src);
        let refused = |status: Status| {
            refused(format!("the message can't be decoded: {}", status.message()), details(HashMap::new()))
        };
        let mut decoded = decoded.map_err(refused)?;
        if let Some(message) = &mut decoded {
            message.release_message(message_bytes);
        }
        Ok(decoded)
    }
}

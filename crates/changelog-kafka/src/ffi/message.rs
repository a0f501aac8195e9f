//! A record as it lies in librdkafka's memory.

use std::{borrow::Cow, ffi::CStr, marker::PhantomData, ptr, slice};

use bytes::Bytes;
use changelog_core::model::Header;
use rdkafka::bindings as c;

use super::native::NativePtr;
use crate::replay::cluster;

/// A message in librdkafka's memory.
pub struct Message<'a> {
    message: NativePtr<c::rd_kafka_message_t>,
    _consumer: PhantomData<&'a ()>,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("partition", &self.get().partition).field("offset", &self.get().offset).finish()
    }
}

impl Message<'_> {
    /// # Safety
    ///
    /// The message is not null, and its consumer outlives the result.
    pub unsafe fn new(message: NativePtr<c::rd_kafka_message_t>) -> Self {
        Self { message, _consumer: PhantomData }
    }

    fn get(&self) -> &c::rd_kafka_message_t {
        // Safety: not null, and alive as long as its guard.
        unsafe { &*self.message.0 }
    }
}

impl cluster::Message for Message<'_> {
    fn partition(&self) -> i32 {
        self.get().partition
    }

    fn offset(&self) -> i64 {
        self.get().offset
    }

    fn key(&self) -> Option<&[u8]> {
        let raw = self.get();
        // Safety: librdkafka gives the pointer and its length together.
        (!raw.key.is_null()).then(|| unsafe { slice::from_raw_parts(raw.key.cast(), raw.key_len) })
    }

    fn value(&self) -> Option<&[u8]> {
        let raw = self.get();
        // Safety: as for the key.
        (!raw.payload.is_null()).then(|| unsafe { slice::from_raw_parts(raw.payload.cast(), raw.len) })
    }

    fn timestamp(&self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // Safety: the message is alive.
        let millis = unsafe { c::rd_kafka_message_timestamp(self.message.0, &raw mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis >= 0).then_some(millis)
    }

    fn leader_epoch(&self) -> i32 {
        // Safety: the message is alive.
        unsafe { c::rd_kafka_message_leader_epoch(self.message.0) }
    }

    fn headers(&self, lossy_names: &mut u64) -> Vec<Header> {
        let mut list = ptr::null_mut();
        let mut headers = Vec::new();
        // Safety: the message is alive and owns the list; each name and value is copied before the next call.
        unsafe {
            if c::rd_kafka_message_headers(self.message.0, &raw mut list)
                != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return headers;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            while c::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut size)
                == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let key: Cow<'_, str> = CStr::from_ptr(name).to_string_lossy();
                let value =
                    (!value.is_null()).then(|| Bytes::copy_from_slice(slice::from_raw_parts(value.cast(), size)));
                *lossy_names += u64::from(matches!(key, Cow::Owned(_)));
                headers.push(Header { key: key.into_owned(), value });
            }
        }
        headers
    }
}

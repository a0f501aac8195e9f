//! The consumer of a replay.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    TopicPartitionList, bindings as c,
    config::ClientConfig,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use super::{
    logs::log_line,
    message::Message,
    native::NativePtr,
    token::{TokenTarget, set_token},
};
use crate::{
    client_context::Context,
    replay::cluster::{self, Polled},
    token::Token,
};

/// A consumer that is assigned and never subscribes. It is destroyed without a close, because there is no group to
/// leave, and a close queries the group's coordinator, which may not answer.
#[derive(Debug)]
pub struct Consumer {
    handle: Arc<ConsumerHandle>,
}

/// What a consumer and a renewal of the token share. The last of them destroys the consumer.
pub struct ConsumerHandle {
    native: *mut c::rd_kafka_t,
    /// The opaque of the callbacks. Declared after the handle, which uses it until it is destroyed.
    context: Box<Context>,
}

// Safety: librdkafka's handles may be used from any thread, and so may the context.
unsafe impl Send for ConsumerHandle {}
// Safety: as above.
unsafe impl Sync for ConsumerHandle {}

impl std::fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerHandle").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Creates a consumer without an assignment.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let native = config.create_native_config()?;
        let context = Box::new(Context::default());
        let mut error = [0 as c_char; 512];
        // Safety: the context is boxed and outlives the handle. `rd_kafka_new` takes over the configuration if it
        // succeeds, so its guard must not destroy it then.
        unsafe {
            c::rd_kafka_conf_set_opaque(native.ptr(), ptr::from_ref(&*context).cast_mut().cast());
            c::rd_kafka_conf_set_log_cb(native.ptr(), Some(log_line));
            c::rd_kafka_conf_set_throttle_cb(native.ptr(), Some(throttled));
            let kind = c::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            let handle = c::rd_kafka_new(kind, native.ptr(), error.as_mut_ptr(), error.len());
            if handle.is_null() {
                return Err(KafkaError::ClientCreation(CStr::from_ptr(error.as_ptr()).to_string_lossy().into_owned()));
            }
            std::mem::forget(native);
            c::rd_kafka_poll_set_consumer(handle);
            Ok(Self { handle: Arc::new(ConsumerHandle { native: handle, context }) })
        }
    }

    /// What gets the token.
    pub fn handle(&self) -> &Arc<ConsumerHandle> {
        &self.handle
    }

    pub fn assign(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        // Safety: both are alive; the list is copied.
        match unsafe { c::rd_kafka_assign(self.handle.native, list.ptr()) } {
            c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(KafkaError::Subscription(RDKafkaErrorCode::from(code).to_string())),
        }
    }
}

impl Drop for ConsumerHandle {
    /// Blocks until the consumer's threads have ended.
    fn drop(&mut self) {
        // Safety: made by `new`, and destroyed once.
        unsafe { c::rd_kafka_destroy_flags(self.native, c::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    }
}

impl TokenTarget for ConsumerHandle {
    fn set_token(&self, token: &Token) -> Result<(), String> {
        // Safety: the handle is alive.
        unsafe { set_token(self.native, token) }
    }
}

impl cluster::Consumer for Consumer {
    type Message<'a> = Message<'a>;

    /// rust-rdkafka's poll panics on a header name that is not UTF-8, and drops the offset of an end-of-partition
    /// event. This one does neither.
    fn poll(&self, timeout: Duration) -> Polled<Message<'_>> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // Safety: the consumer outlives the borrow; the message is freed by its guard.
        unsafe {
            let message = c::rd_kafka_consumer_poll(self.handle.native, millis);
            if message.is_null() {
                return Polled::Nothing;
            }
            let message = NativePtr(message, c::rd_kafka_message_destroy);
            let raw = &*message.0;
            match raw.err {
                c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Polled::Record(Message::new(message)),
                c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    Polled::End { partition: raw.partition, offset: raw.offset }
                }
                code => {
                    let text = c::rd_kafka_message_errstr(message.0);
                    let text = if text.is_null() {
                        String::new()
                    } else {
                        CStr::from_ptr(text).to_string_lossy().into_owned()
                    };
                    // The field is set only if the error is of one partition.
                    let partition = if raw.rkt.is_null() { -1 } else { raw.partition };
                    Polled::Failed { partition, code: code.into(), text }
                }
            }
        }
    }

    fn throttled_until(&self) -> Option<Instant> {
        self.handle.context.throttled_until()
    }

    fn failure_since(&self, time: Instant) -> Option<String> {
        self.handle.context.failure_since(time)
    }
}

/// librdkafka's callback for a broker's throttle time. A poll of the consumer calls it.
unsafe extern "C" fn throttled(_: *mut c::rd_kafka_t, _: *const c_char, _: i32, millis: c_int, opaque: *mut c_void) {
    // Safety: the opaque is the context that `Consumer::new` set, which outlives the handle.
    if let Some(context) = unsafe { opaque.cast::<Context>().as_ref() } {
        context.throttled(Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
    }
}

/// Sets the leader epoch of a start offset. librdkafka detects a truncated log by it (KIP-320).
pub fn set_leader_epoch(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    let Ok(topic) = CString::new(topic) else { return };
    // Safety: the list is borrowed mutably, and owns its entries.
    unsafe {
        let entry = c::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !entry.is_null() {
            c::rd_kafka_topic_partition_set_leader_epoch(entry, epoch);
        }
    }
}

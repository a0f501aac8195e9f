//! The persistence status of a failed write, and what tests of producers need.

use rdkafka::{bindings as c, message::BorrowedMessage};

/// Whether a write that failed can be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It was never sent, or was refused.
    No,
    /// It was sent, and the outcome is not known.
    Possibly,
    /// It is in the log.
    Yes,
}

/// The persistence status of a delivery report.
pub fn persistence(message: &BorrowedMessage<'_>) -> Persistence {
    // Safety: the message is alive.
    match unsafe { c::rd_kafka_message_status(message.ptr()) } {
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persistence::No,
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persistence::Possibly,
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persistence::Yes,
    }
}

/// Triggers a fatal producer error by librdkafka's own test function.
#[cfg(test)]
pub fn inject_fatal_error<C: rdkafka::ClientContext>(client: &rdkafka::client::Client<C>) {
    let code = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // Safety: the client is alive; the text is static.
    unsafe { c::rd_kafka_test_fatal_error(client.native_ptr(), code, c"a test".as_ptr()) };
}

/// Queues a record with a header name of any bytes, which rust-rdkafka can't.
#[cfg(test)]
pub fn produce_with_header<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &std::ffi::CStr,
    key: &[u8],
    name: &std::ffi::CStr,
) {
    use c::rd_kafka_vtype_t as v;
    // Safety: everything outlives the call, which copies it; the list of arguments is ended.
    let code = unsafe {
        c::rd_kafka_producev(
            client.native_ptr(),
            v::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            v::RD_KAFKA_VTYPE_PARTITION,
            0_i32,
            v::RD_KAFKA_VTYPE_MSGFLAGS,
            c::RD_KAFKA_MSG_F_COPY,
            v::RD_KAFKA_VTYPE_KEY,
            key.as_ptr(),
            key.len(),
            v::RD_KAFKA_VTYPE_HEADER,
            name.as_ptr(),
            std::ptr::null::<std::ffi::c_void>(),
            0_isize,
            v::RD_KAFKA_VTYPE_HEADER,
            c"empty".as_ptr(),
            c"".as_ptr(),
            0_isize,
            v::RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(code, c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
}

//! librdkafka's log lines.

use std::ffi::{CStr, c_char, c_int};

use rdkafka::{admin::AdminClient, bindings as c, client::Client, config::RDKafkaLogLevel};

use crate::client_context::Context;

/// librdkafka's callback for a log line. The client's opaque must be a [`Context`].
pub unsafe extern "C" fn log_line(
    client: *const c::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    let level = match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    };
    // Safety: librdkafka gives two strings, and the opaque that the wrapper set: its context, which outlives the
    // client.
    unsafe {
        let (facility, text) = (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy());
        let context = c::rd_kafka_opaque(client).cast::<Context>();
        if let Some(context) = context.as_ref() {
            context.log_line(level, &facility, &text);
        }
    }
}

/// Sends a client's log lines to its context. rust-rdkafka does this only for clients that it polls itself. Without it
/// librdkafka writes the lines to standard error.
pub fn redirect_logs(client: &Client<Context>) {
    // Safety: the client is alive, and its opaque is a `Context`.
    unsafe { c::rd_kafka_set_logger(client.native_ptr(), Some(log_line)) }
}

/// Polls a client's main queue, where its log lines and errors wait.
pub fn poll_logs(admin: &AdminClient<Context>) {
    // Safety: the client is alive.
    unsafe {
        c::rd_kafka_poll(admin.inner().native_ptr(), 0);
    }
}

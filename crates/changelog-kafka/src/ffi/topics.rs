//! CreateTopics and IncrementalAlterConfigs with the brokers' own texts, and DescribeCluster.

use std::{
    ffi::{CStr, CString, c_char},
    slice,
    time::{Duration, Instant},
};

use rdkafka::{admin::AdminClient, bindings as c, error::RDKafkaErrorCode};

use super::{
    admin::{admin_options, c_topic_name, wait_for_event},
    native::{NativeError, NativePtr},
};
use crate::{client_context::Context, timeouts::ADMIN_SLACK};

fn c_text(text: &str, what: &'static str) -> Result<CString, NativeError> {
    let invalid =
        |_| NativeError { what, code: RDKafkaErrorCode::InvalidConfig, text: format!("{text:?} contains NUL") };
    CString::new(text).map_err(invalid)
}

/// The outcome of one topic or resource: the error with the broker's text, which says more than the code.
unsafe fn outcome(what: &'static str, code: c::rd_kafka_resp_err_t, text: *const c_char) -> Result<(), NativeError> {
    if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let code = RDKafkaErrorCode::from(code);
    // Safety: the caller got the text from librdkafka, and has not freed it.
    let text = if text.is_null() { code.to_string() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into() };
    Err(NativeError { what, code, text })
}

fn no_answer(what: &'static str) -> NativeError {
    NativeError { what, code: RDKafkaErrorCode::Fail, text: "the answer is empty".to_owned() }
}

/// Creates a topic. Blocks at most for `timeout`.
pub fn create_topic(
    admin: &AdminClient<Context>,
    topic: &str,
    partitions: i32,
    replicas: i32,
    configs: &[(String, String)],
    timeout: Duration,
) -> Result<(), NativeError> {
    const WHAT: &str = "CreateTopics";
    let name = c_topic_name(topic, WHAT)?;
    let client = admin.inner().native_ptr();
    let deadline = Instant::now() + timeout + ADMIN_SLACK;
    let mut error = [0 as c_char; 512];
    // Safety: every pointer is made here and freed by its guard. Texts are copied before their event is freed.
    unsafe {
        let new = c::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replicas, error.as_mut_ptr(), error.len());
        if new.is_null() {
            let text = CStr::from_ptr(error.as_ptr()).to_string_lossy().into_owned();
            return Err(NativeError { what: WHAT, code: RDKafkaErrorCode::InvalidArgument, text });
        }
        let new = NativePtr(new, c::rd_kafka_NewTopic_destroy);
        for (config, value) in configs {
            let (config, value) = (c_text(config, WHAT)?, c_text(value, WHAT)?);
            c::rd_kafka_NewTopic_set_config(new.0, config.as_ptr(), value.as_ptr());
        }
        let options = admin_options(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
        // How long the controller waits until the partitions have leaders.
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        c::rd_kafka_AdminOptions_set_operation_timeout(options.0, millis, error.as_mut_ptr(), error.len());
        let queue = NativePtr(c::rd_kafka_queue_new(client), c::rd_kafka_queue_destroy);
        c::rd_kafka_CreateTopics(client, [new.0].as_mut_ptr(), 1, options.0, queue.0);
        let event = wait_for_event(&queue, deadline, WHAT)?;
        let result = c::rd_kafka_event_CreateTopics_result(event.0);
        let mut count = 0;
        let topics = c::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        let topic = slice_of(topics, count).first().ok_or_else(|| no_answer(WHAT))?;
        outcome(WHAT, c::rd_kafka_topic_result_error(*topic), c::rd_kafka_topic_result_error_string(*topic))
    }
}

/// Sets these values of a topic's configuration (KIP-339), and leaves the others. Blocks at most for `timeout`.
pub fn alter_topic(
    admin: &AdminClient<Context>,
    topic: &str,
    configs: &[(String, String)],
    timeout: Duration,
) -> Result<(), NativeError> {
    const WHAT: &str = "IncrementalAlterConfigs";
    let name = c_topic_name(topic, WHAT)?;
    let client = admin.inner().native_ptr();
    let deadline = Instant::now() + timeout + ADMIN_SLACK;
    // Safety: as in `create_topic`.
    unsafe {
        let resource =
            c::rd_kafka_ConfigResource_new(c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr());
        let resource = NativePtr(resource, c::rd_kafka_ConfigResource_destroy);
        for (config, value) in configs {
            let (config, value) = (c_text(config, WHAT)?, c_text(value, WHAT)?);
            let set = c::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
            let (config, value) = (config.as_ptr(), value.as_ptr());
            let error = c::rd_kafka_ConfigResource_add_incremental_config(resource.0, config, set, value);
            if !error.is_null() {
                let error = NativePtr(error, c::rd_kafka_error_destroy);
                outcome(WHAT, c::rd_kafka_error_code(error.0), c::rd_kafka_error_string(error.0))?;
            }
        }
        let options = admin_options(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout);
        let queue = NativePtr(c::rd_kafka_queue_new(client), c::rd_kafka_queue_destroy);
        c::rd_kafka_IncrementalAlterConfigs(client, [resource.0].as_mut_ptr(), 1, options.0, queue.0);
        let event = wait_for_event(&queue, deadline, WHAT)?;
        let result = c::rd_kafka_event_IncrementalAlterConfigs_result(event.0);
        let mut count = 0;
        let resources = c::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
        let found = slice_of(resources, count).first().ok_or_else(|| no_answer(WHAT))?;
        outcome(WHAT, c::rd_kafka_ConfigResource_error(*found), c::rd_kafka_ConfigResource_error_string(*found))
    }
}

/// How many brokers the cluster has. Blocks at most for `timeout`.
pub fn broker_count(admin: &AdminClient<Context>, timeout: Duration) -> Result<usize, NativeError> {
    const WHAT: &str = "DescribeCluster";
    let client = admin.inner().native_ptr();
    let deadline = Instant::now() + timeout + ADMIN_SLACK;
    // Safety: as in `create_topic`.
    unsafe {
        let options = admin_options(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout);
        let queue = NativePtr(c::rd_kafka_queue_new(client), c::rd_kafka_queue_destroy);
        c::rd_kafka_DescribeCluster(client, options.0, queue.0);
        let event = wait_for_event(&queue, deadline, WHAT)?;
        let result = c::rd_kafka_event_DescribeCluster_result(event.0);
        let mut count = 0;
        c::rd_kafka_DescribeCluster_result_nodes(result, &raw mut count);
        Ok(count)
    }
}

unsafe fn slice_of<'a, T>(list: *mut *const T, count: usize) -> &'a [*const T] {
    // Safety: the caller got the list from librdkafka, and keeps its event.
    if count == 0 { &[] } else { unsafe { slice::from_raw_parts(list, count) } }
}

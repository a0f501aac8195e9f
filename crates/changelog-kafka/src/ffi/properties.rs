//! The documentation of librdkafka's properties, from the library that is linked. It is for a test of our list of them.

use std::{ffi::c_char, ptr, slice};

use rdkafka::bindings as c;

/// The tables that `rd_kafka_conf_properties_show` prints.
pub fn documented_properties() -> String {
    let (mut text, mut length) = (ptr::null_mut::<c_char>(), 0);
    // Safety: the stream is open until `fclose`, which sets `text` to `length` bytes that are ours to free.
    unsafe {
        let stream = libc::open_memstream(&raw mut text, &raw mut length);
        assert!(!stream.is_null(), "a stream in memory");
        c::rd_kafka_conf_properties_show(stream.cast());
        assert_eq!(libc::fclose(stream), 0);
        let copy = String::from_utf8_lossy(slice::from_raw_parts(text.cast::<u8>(), length)).into_owned();
        libc::free(text.cast());
        copy
    }
}

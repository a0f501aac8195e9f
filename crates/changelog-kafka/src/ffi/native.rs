//! What all calls of the C API share: its errors and its pointers.

use rdkafka::error::RDKafkaErrorCode;

/// Why a call of the C API failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {text} ({code:?})")]
pub struct NativeError {
    pub what: &'static str,
    pub code: RDKafkaErrorCode,
    /// librdkafka's message.
    pub text: String,
}

/// A pointer from the C API, with the function that frees it.
pub struct NativePtr<T>(pub *mut T, pub unsafe extern "C" fn(*mut T));

impl<T> Drop for NativePtr<T> {
    fn drop(&mut self) {
        // Safety: made by the constructor that belongs to this destructor, and not freed elsewhere.
        unsafe { (self.1)(self.0) }
    }
}

//! `Flush`.

use changelog_core::changelog::Changelog;
use prost::Message;
use tonic::{Request, Status};

use super::{call::Call, request, status};
use crate::proto::v1;

/// Bytes of failures in one response. Less than 4 MiB, the default limit of clients.
const MAX_FAILURE_BYTES: usize = 3 * 1024 * 1024;

pub async fn flush(changelog: &Changelog, request: Request<v1::FlushRequest>) -> Result<v1::FlushResponse, Status> {
    let (call, request) = Call::from_message(request);
    let deadline = call.deadline_within(request::flush_timeout(request.timeout_ms));
    let flushed = changelog.flush(request.failures_after, deadline).await;
    let mut response = v1::FlushResponse {
        remaining: flushed.remaining,
        failures: Vec::new(),
        last_failure: flushed.after,
        failures_omitted: flushed.omitted,
    };
    let mut bytes = 0;
    for failed in flushed.failures {
        let status = status::from_failed_write(&failed.error, "buffered write of", &failed.key);
        let error = Some((&status).into());
        let failure = v1::WriteFailure { id: failed.id, key: failed.key.as_str().to_owned(), error };
        bytes += failure.encoded_len() + 6;
        if bytes > MAX_FAILURE_BYTES {
            break;
        }
        response.last_failure = failure.id;
        response.failures.push(failure);
    }
    Ok(response)
}

//! `Get`.

use changelog_core::{changelog::Changelog, model::Escaped};
use prost::Message;
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    conversion::Conversions,
    facts, request, response, status,
};
use crate::{
    memory::{CallMemory, Full, Reserved},
    metrics::Metrics,
    proto::v1,
};

pub async fn get(
    changelog: &Changelog,
    limits: &CallLimits,
    memory: &CallMemory,
    metrics: &Metrics,
    conversions: &Conversions,
    request: Request<v1::GetRequest>,
) -> Result<(v1::Entry, Reserved), Status> {
    let (call, request) = Call::from_message(request);
    let key = request::key(&request.workspace_id, &request.changelog_id)?;
    let shown = Escaped(key.as_str()).to_string();
    let (what, named) = (format!("get {shown}"), facts::key(&key));
    let naming = |status: Status| status::naming(&status, &what, &named);
    let format = request::value_format(request.value_format).map_err(naming)?;
    let deadline = call.deadline_within(limits.read_timeout);
    let replay = call.span.replay();
    let found = changelog.get(key, call.peer, deadline).await.map_err(|e| {
        let status = status::from_load_error(&e, &what, Some(&named), metrics);
        replay.failed(|| status::reason(&status));
        status
    })?;
    replay.replayed(found.partition.number(), found.end.counts.read, found.is_shared);
    drop(replay);
    call.stats.set_partition(Some(found.partition.number()));
    call.stats.add_records(found.end.counts.read);
    let record = found.record.ok_or_else(|| status::key_not_found(&shown, named.clone()))?;
    call.stats.add_entries(1);
    let full = |full: Full| naming(status::memory_limit(&what, &full));
    // Before the conversion, so that no value is in memory without a reservation.
    let most_bytes = response::most_entry_bytes(&record, format) as u64;
    let mut reserved = memory.answers.reserve(most_bytes).map_err(full)?;
    let entry = conversions.entry(found.partition, record, format, deadline).await.map_err(naming)?;
    reserved.shrink_to(entry.encoded_len() as u64);
    Ok((entry, reserved))
}

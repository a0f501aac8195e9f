//! `Set` and `Delete`.

use bytes::Bytes;
use changelog_core::{
    changelog::{Ack, Changelog, PreparedRecord},
    log::{Appended, WriteError},
    model::ValueRules,
};
use tokio::time::Instant;
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    conversion::Conversions,
    request, response, status,
};
use crate::{
    proto::v1::{self, set_request::Value},
    traces::StoreSpan,
};

pub async fn set(
    changelog: &Changelog,
    limits: &CallLimits,
    conversions: &Conversions,
    request: Request<v1::SetRequest>,
) -> Result<v1::SetResponse, Status> {
    let (call, request) = Call::from_message(request);
    let key = request::key(&request.workspace_id, &request.changelog_id)?;
    let named = |status: Status| status::naming_key(&status, "set", &key);
    let ack = request::ack(request.ack).map_err(named)?;
    let headers = request::headers(request.headers).map_err(named)?;
    let target = changelog.write_target();
    let deadline = call.deadline_within(limits.write_timeout);
    let value = value(request.value, target.value_rules(), conversions, deadline).await.map_err(named)?;
    let sending = call.span.send();
    let record = target.record(key.clone(), Some(value), sending.in_headers(headers));
    let failed = |e: WriteError| status::from_failed_write(&e, "set", &key);
    let v1::Written { position, timestamp } = write(changelog, limits, &call, record, ack, &sending, failed).await?;
    Ok(v1::SetResponse { position, timestamp })
}

/// The bytes to store.
pub async fn value(
    value: Option<Value>,
    rules: &ValueRules,
    conversions: &Conversions,
    deadline: Instant,
) -> Result<Bytes, Status> {
    match value {
        Some(Value::Raw(raw)) => conversions.check(raw, rules, Some(deadline)).await,
        Some(Value::Json(json)) => conversions.stored(json, rules, Some(deadline)).await,
        None => Err(status::bad_argument("value", "a value is required: raw or json")),
    }
}

pub async fn delete(
    changelog: &Changelog,
    limits: &CallLimits,
    request: Request<v1::DeleteRequest>,
) -> Result<v1::DeleteResponse, Status> {
    let (call, request) = Call::from_message(request);
    let key = request::key(&request.workspace_id, &request.changelog_id)?;
    let named = |status: Status| status::naming_key(&status, "delete", &key);
    let ack = request::ack(request.ack).map_err(named)?;
    let headers = request::headers(request.headers).map_err(named)?;
    let sending = call.span.send();
    let record = changelog.write_target().record(key.clone(), None, sending.in_headers(headers));
    let failed = |e: WriteError| status::from_failed_write(&e, "delete", &key);
    let v1::Written { position, timestamp } = write(changelog, limits, &call, record, ack, &sending, failed).await?;
    Ok(v1::DeleteResponse { position, timestamp })
}

/// Writes a record, if writes are possible. `failed` names the write in its status. The result of a buffered write is
/// empty, because its position is not known.
async fn write(
    changelog: &Changelog,
    limits: &CallLimits,
    call: &Call,
    record: Result<PreparedRecord, WriteError>,
    ack: Ack,
    sending: &StoreSpan,
    failed: impl Fn(WriteError) -> Status,
) -> Result<v1::Written, Status> {
    let deadline = call.deadline_within(limits.write_timeout);
    let written = match record {
        Ok(record) => changelog.write(record, ack, Some(deadline)).await,
        Err(error) => {
            changelog.refused(&error);
            Err(error)
        }
    };
    let written = written.map_err(|error| {
        let status = failed(error);
        sending.failed(|| status::reason(&status));
        status
    })?;
    if let Some(Appended { position, .. }) = &written {
        call.stats.set_partition(Some(position.partition.number()));
        sending.appended(position.partition.number(), position.offset);
    }
    Ok(written.as_ref().map(response::written).unwrap_or_default())
}

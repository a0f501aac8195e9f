//! `Set` and `Delete`.

use changelog_core::{
    changelog::{Ack, Changelog},
    log::{NewRecord, WriteError},
    model::{Escaped, Key},
};
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    request, response, status,
};
use crate::proto::v1::{self, set_request::Value};

pub async fn set(
    changelog: &Changelog,
    limits: &CallLimits,
    request: Request<v1::SetRequest>,
) -> Result<v1::SetResponse, Status> {
    let (call, request) = Call::from_request(request);
    let key = Key::from_request(&request.workspace_id, &request.changelog_id)
        .map_err(|e| status::bad_key(&e, &request.workspace_id, &request.changelog_id))?;
    let ack = request::ack(request.ack)?;
    let headers = request::headers(request.headers)?;
    let target = changelog.write_target();
    let rules = target.value_rules();
    let value = match request.value {
        Some(Value::Raw(raw)) => {
            rules.check(&raw).map_err(|e| status::bad_value(&e, "raw"))?;
            raw
        }
        Some(Value::Json(json)) => request::json_value(&json, rules)?,
        None => return Err(status::bad_argument("value", "a value is required: raw or json")),
    };
    let what = format!("set {}", Escaped(key.as_str()));
    let record = target.record(key, Some(value), headers);
    let v1::Written { position, timestamp } = write(changelog, limits, &call, &what, record, ack).await?;
    Ok(v1::SetResponse { position, timestamp })
}

pub async fn delete(
    changelog: &Changelog,
    limits: &CallLimits,
    request: Request<v1::DeleteRequest>,
) -> Result<v1::DeleteResponse, Status> {
    let (call, request) = Call::from_request(request);
    let key = Key::from_request(&request.workspace_id, &request.changelog_id)
        .map_err(|e| status::bad_key(&e, &request.workspace_id, &request.changelog_id))?;
    let ack = request::ack(request.ack)?;
    let headers = request::headers(request.headers)?;
    let what = format!("delete {}", Escaped(key.as_str()));
    let record = changelog.write_target().record(key, None, headers);
    let v1::Written { position, timestamp } = write(changelog, limits, &call, &what, record, ack).await?;
    Ok(v1::DeleteResponse { position, timestamp })
}

/// Writes a record, if writes are possible. `what` names the write in errors. The result of a buffered write is empty,
/// because its position is not known.
async fn write(
    changelog: &Changelog,
    limits: &CallLimits,
    call: &Call,
    what: &str,
    record: Result<NewRecord, WriteError>,
    ack: Ack,
) -> Result<v1::Written, Status> {
    let failed = |e| status::from_write_error(&e, what);
    let deadline = call.deadline_within(limits.write_timeout);
    let written = changelog.write(record.map_err(failed)?, ack, Some(deadline)).await.map_err(failed)?;
    call.stats.set_partition(written.as_ref().map(|w| w.position.partition.number()));
    Ok(written.as_ref().map(response::written).unwrap_or_default())
}

//! `Describe`.

use changelog_core::{
    changelog::Changelog,
    model::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, PartitionCount},
};
use tokio::time::timeout_at;
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    request, response, status,
};
use crate::proto::v1;

pub async fn describe(
    changelog: &Changelog,
    limits: &CallLimits,
    request: Request<v1::DescribeRequest>,
) -> Result<v1::DescribeResponse, Status> {
    let (call, request) = Call::from_message(request);
    let workspace = request::described_workspace(&request.workspace_id)?;
    let found = timeout_at(call.deadline_within(limits.read_timeout), changelog.describe()).await;
    let late = |_| status::deadline_exceeded("describe: the deadline passed before the log had answered".to_owned());
    let mut found = found.map_err(late)?;
    found.findings.sort_by_key(|f| f.severity);
    let count = found.topic.as_ref().map(|t| t.partition_count);
    let home = count.zip(workspace).map(|(count, w)| count.of_workspace(w.as_str().as_bytes()).number());
    let u32_of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(v1::DescribeResponse {
        store: response::store(changelog.kind()).into(),
        topic: found.name,
        topic_id: found.topic.map(|t| t.id.clone()).unwrap_or_default(),
        partition_count: count.map_or(0, PartitionCount::get),
        hash: "murmur2".to_owned(),
        partitions: found.partitions.iter().map(response::partition_info).collect(),
        findings: found.findings.iter().map(response::finding).collect(),
        limits: Some(v1::Limits {
            max_key_bytes: u32_of(MAX_KEY_BYTES),
            max_value_bytes: u32_of(changelog.value_rules().max_bytes),
            max_headers: u32_of(MAX_HEADERS),
            max_header_bytes: u32_of(MAX_HEADER_BYTES),
            max_request_bytes: u32_of(limits.max_request_bytes),
            max_replays: u32_of(changelog.limits().max_replays),
        }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workspace_partition: home,
    })
}

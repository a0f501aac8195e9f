//! `changelogd describe`.

use serde_json::json;

use super::{args::ClientArgs, failure::Failure, format::Format, output::Output};
use crate::proto::v1;

/// Shows what the sidecar serves, and what is wrong with it
///
/// Exit status 0 also if there are findings.
#[derive(Debug, clap::Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Show this workspace's partition; by default none is shown
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub workspace: String,
}

pub async fn run(args: DescribeArgs, output: &mut Output) -> Result<(), Failure> {
    let client = &args.client;
    let request = v1::DescribeRequest { workspace_id: args.workspace };
    let describe = async { Ok(client.client().await?.describe(client.unary(request)).await?.into_inner()) };
    let d = client.unary_call(describe).await?;
    let store = d.store().as_str_name().trim_start_matches("STORE_").to_lowercase();
    let severity = |f: &v1::Finding| f.severity().as_str_name().trim_start_matches("SEVERITY_").to_lowercase();
    if output.format() == Format::Json {
        let limits = d.limits.unwrap_or_default();
        let object = json!({
            "store": store, "topic": d.topic, "topic_id": d.topic_id, "partition_count": d.partition_count,
            "hash": d.hash, "version": d.version, "workspace_partition": d.workspace_partition,
            "partitions": d.partitions.iter().map(|p| json!({
                "partition": p.partition, "leader": p.leader, "low_offset": p.low_offset,
                "last_stable_offset": p.last_stable_offset, "high_offset": p.high_offset,
            })).collect::<Vec<_>>(),
            "findings": d.findings.iter().map(|f| json!({
                "severity": severity(f), "code": f.code, "message": f.message,
            })).collect::<Vec<_>>(),
            "limits": {
                "max_key_bytes": limits.max_key_bytes, "max_value_bytes": limits.max_value_bytes,
                "max_headers": limits.max_headers, "max_header_bytes": limits.max_header_bytes,
                "max_request_bytes": limits.max_request_bytes, "max_replays": limits.max_replays,
            },
        });
        return output.line("", &object);
    }
    output.text(&format!(
        "changelogd {}  store {store}  topic {} ({})  {} partitions, {}",
        d.version, d.topic, d.topic_id, d.partition_count, d.hash
    ))?;
    if let Some(partition) = d.workspace_partition {
        output.text(&format!("workspace's partition: {partition}"))?;
    }
    if !d.partitions.is_empty() {
        let (low, stable, high) = ("low", "last stable", "high");
        output.text(&format!("partition  {:>6}  {low:>12}  {stable:>12}  {high:>12}", "leader"))?;
    }
    for p in &d.partitions {
        let (low, stable, high) = (p.low_offset, p.last_stable_offset, p.high_offset);
        output.text(&format!("{:>9}  {:>6}  {low:>12}  {stable:>12}  {high:>12}", p.partition, p.leader))?;
    }
    d.findings.iter().try_for_each(|f| output.text(&format!("{}: {}: {}", severity(f), f.code, f.message)))
}

//! `changelogd flush`.

use std::time::Duration;

use serde_json::json;
use tonic::Status;

use super::{
    args::ClientArgs,
    failure::{Failure, Tried, describe, reason},
    output::Output,
};
use crate::{
    config::parse_duration,
    proto::{code_name, v1},
};

/// Waits for accepted writes, and reports which buffered ones failed
///
/// Exit status 1 if writes remain or have failed.
#[derive(Debug, clap::Args)]
pub struct FlushArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// How long to wait for accepted writes; more than 60s is 60s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Only failures with a greater id: the last one seen before
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub failures_after: u64,
}

pub async fn run(args: FlushArgs, output: &mut Output) -> Result<(), Failure> {
    let request = v1::FlushRequest {
        // 0 would mean the default of the server.
        timeout_ms: u32::try_from(args.wait.as_millis()).unwrap_or(u32::MAX).max(1),
        failures_after: args.failures_after,
    };
    // A shorter deadline of the call would end the wait early.
    let limit = args.client.timeout.unwrap_or(args.wait.saturating_add(Duration::from_secs(10)));
    let client = ClientArgs { timeout: Some(limit), ..args.client };
    let flush = async { Ok(client.client().await?.flush(client.unary(request)).await?.into_inner()) };
    let answer = client.unary_call(flush).await?;
    let printed = print(&answer, output);
    if answer.remaining > 0 || !answer.failures.is_empty() || answer.failures_omitted > 0 {
        // It counts also if the reader of the output has gone.
        return Err(Failure::Failed("not everything was written".to_owned()));
    }
    printed
}

fn print(answer: &v1::FlushResponse, output: &mut Output) -> Result<(), Failure> {
    for failure in &answer.failures {
        let status = Status::from(failure.error.clone().unwrap_or_default());
        let text = format!("failed {}  {}  {}", failure.id, failure.key, describe(&status, Tried::Write));
        output.line(
            &text,
            &json!({"failure": {
                "id": failure.id, "key": failure.key,
                "code": code_name(status.code()), "reason": reason(&status), "message": status.message(),
            }}),
        )?;
    }
    let text = format!(
        "{} remaining, {} failed, {} omitted; last failure {}",
        answer.remaining,
        answer.failures.len(),
        answer.failures_omitted,
        answer.last_failure
    );
    output.line(
        &text,
        &json!({"flush": {
            "remaining": answer.remaining, "failures": answer.failures.len(),
            "failures_omitted": answer.failures_omitted, "last_failure": answer.last_failure,
        }}),
    )
}

//! `changelogd wait`.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    args::ClientArgs,
    failure::{Failure, Tried, describe},
    output::Output,
};
use crate::proto::v1::{self, changelog_service_client::ChangelogServiceClient};

/// A sidecar that is asked ten times a second does not notice it, and a script does not notice the pause.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one connection is listened to. A peer that vanished does not close it, and may be back at its address.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long before the end the cause is asked for. `Describe` takes at most this long if no broker answers.
const CAUSE: Duration = Duration::from_secs(5);
/// From one answer to the next time that the cause is asked for. It may ask the brokers.
const CAUSE_PERIOD: Duration = Duration::from_secs(1);

/// Waits until the sidecar is ready, as grpc.health.v1 says
///
/// For scripts, and for containers that start together with the sidecar. Nothing needs to listen at the address yet,
/// and a socket file may come later. Exit status 0 when it is ready. By default it waits for 30s (--timeout), as
/// `kubectl wait` does. Then the exit status is 69, and the line says why it is not ready.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    #[command(flatten)]
    pub client: ClientArgs,
}

pub async fn run(args: WaitArgs, output: &mut Output) -> Result<(), Failure> {
    let (client, limit) = (&args.client, args.client.unary_timeout());
    tokio::select! {
        () = until_ready(client) => {
            let status = ServingStatus::Serving.as_str_name();
            output.line(status, &json!({"status": status}))
        }
        seen = seen_within(limit, client) => {
            let text = format!("not ready within {limit:?} (--timeout): {seen}");
            Err(Failure::from(Status::unavailable(text)))
        }
    }
}

/// An error is no reason to give up, because the sidecar may not have started yet.
async fn until_ready(client: &ClientArgs) {
    while !matches!(timeout(ATTEMPT, watch(client)).await, Ok(Ok(true))) {
        sleep(PAUSE).await;
    }
}

/// Whether the sidecar became ready before it ended the stream.
async fn watch(client: &ClientArgs) -> Result<bool, Failure> {
    let mut health = HealthClient::new(client.channel().await?);
    let mut statuses = health.watch(HealthCheckRequest::default()).await?.into_inner();
    while let Some(response) = statuses.message().await? {
        if response.status() == ServingStatus::Serving {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the sidecar answered last.
struct Seen {
    /// Its status, or why there is none.
    status: String,
    /// Why it is not ready, as far as it says so.
    cause: Option<String>,
}

/// Ends at the limit. Returns what the sidecar answered last.
async fn seen_within(limit: Duration, client: &ClientArgs) -> String {
    let deadline = Instant::now() + limit;
    let mut seen = Seen { status: format!("no answer from {}", client.addr), cause: None };
    sleep_until(deadline - CAUSE.min(limit / 2)).await;
    while Instant::now() < deadline {
        if let Ok(Err(failure)) = timeout_at(deadline, ask(client, &mut seen)).await {
            seen = Seen { status: failure.text(), cause: None };
        }
        sleep_until(deadline.min(Instant::now() + CAUSE_PERIOD)).await;
    }
    [Some(seen.status), seen.cause].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

async fn ask(client: &ClientArgs, seen: &mut Seen) -> Result<(), Failure> {
    let channel = client.channel().await?;
    let checked = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?.into_inner();
    checked.status().as_str_name().clone_into(&mut seen.status);
    let described = ChangelogServiceClient::new(channel).describe(v1::DescribeRequest::default()).await;
    seen.cause = match described {
        // A sidecar that drains has no finding about it.
        Ok(response) => {
            let mut findings = response.into_inner().findings.into_iter();
            let error = findings.find(|finding| finding.severity() == v1::Severity::Error);
            error.map(|finding| format!("{}: {}", finding.code, finding.message))
        }
        // The port of the probes has no `Describe`.
        Err(status) if status.code() == Code::Unimplemented => None,
        Err(status) => Some(describe(&status, Tried::Read)),
    };
    Ok(())
}

//! `changelogd health`.

use std::time::Duration;

use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{args::ClientArgs, connection::within, failure::Failure, output::Output};
use crate::proto::code_name;

/// Asks grpc.health.v1 whether the sidecar serves; the exit status is the answer
///
/// For probes: exit status 0 if it serves, 69 if it does not, or if there is no answer within --timeout. An unknown
/// --service is 1.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// liveness, readiness or serving; by default readiness
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub service: String,
}

pub async fn run(args: HealthArgs, output: &mut Output) -> Result<(), Failure> {
    let request = HealthCheckRequest { service: args.service };
    let check = async {
        let mut client = HealthClient::new(args.client.channel().await?);
        Ok(client.check(args.client.unary(request)).await?.into_inner().status())
    };
    let status = within(args.client.unary_timeout(), Duration::ZERO, check).await.map_err(unavailable)?;
    let printed = output.line(status.as_str_name(), &json!({"status": status.as_str_name()}));
    // The status counts also if its reader has gone.
    match status {
        ServingStatus::Serving => printed,
        _ => Err(Failure::from(Status::unavailable(status.as_str_name()))),
    }
}

/// A server that can't say that it serves is not available, whatever its status. An unknown name is the caller's error.
fn unavailable(failure: Failure) -> Failure {
    match failure {
        Failure::Status { status, .. } if status.code() != Code::NotFound => {
            Failure::from(Status::unavailable(format!("{}: {}", code_name(status.code()), status.message())))
        }
        other => other,
    }
}

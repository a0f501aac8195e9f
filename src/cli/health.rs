//! `changelogd health`.

use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{args::ClientArgs, failure::Failure, output::Output};

/// For probes: exit status 0 if serving, 69 if not.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// liveness or readiness; by default readiness
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub service: String,
}

pub async fn run(args: HealthArgs, output: &mut Output) -> Result<(), Failure> {
    let mut client = HealthClient::new(args.client.channel().await?);
    let request = HealthCheckRequest { service: args.service };
    let status = client.check(args.client.unary(request)).await?.into_inner().status();
    output.line(status.as_str_name(), &json!({"status": status.as_str_name()}))?;
    output.flush()?;
    if status == ServingStatus::Serving {
        return Ok(());
    }
    Err(Failure::Status { status: tonic::Status::unavailable(status.as_str_name()), write: false })
}

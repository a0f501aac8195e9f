//! `changelogd health`.

use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{args::ClientArgs, connection::within, failure::Failure, output::Output};
use crate::proto::code_name;

/// For probes: exit status 0 if serving, 69 if not, or if there is no answer within --timeout.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// liveness or readiness; by default readiness
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub service: String,
}

pub async fn run(args: HealthArgs, output: &mut Output) -> Result<(), Failure> {
    let request = HealthCheckRequest { service: args.service };
    let check = async {
        let mut client = HealthClient::new(args.client.channel().await?);
        Ok(client.check(args.client.unary(request)).await?.into_inner().status())
    };
    let status = within(args.client.unary_timeout(), check).await.map_err(unavailable)?;
    output.line(status.as_str_name(), &json!({"status": status.as_str_name()}))?;
    output.flush()?;
    if status == ServingStatus::Serving {
        return Ok(());
    }
    Err(Failure::Status { status: tonic::Status::unavailable(status.as_str_name()), write: false })
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

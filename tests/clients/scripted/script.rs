//! Which script a request asks for.

use std::future::pending;

use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The workspace of an entity: `workspace_id`, or the first segment of a full key.
pub fn workspace_of<'a>(workspace_id: &'a str, changelog_id: &'a str) -> &'a str {
    if workspace_id.is_empty() { changelog_id.split('/').next().unwrap_or_default() } else { workspace_id }
}

/// The name of a workspace up to the first dot.
pub fn script_of(workspace: &str) -> &str {
    workspace.split('.').next().unwrap_or_default()
}

/// The call has no script of this name.
pub fn no_script(script: &str) -> Status {
    Status::unimplemented(format!("this call has no script {script:?}"))
}

/// Ends the connection. The call gets no answer.
pub async fn disconnect<T>(connection: &CancellationToken) -> T {
    connection.cancel();
    pending().await
}

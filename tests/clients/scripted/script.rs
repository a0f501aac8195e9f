//! Which script a request asks for.

use tonic::{Status, metadata::MetadataMap};

use super::observed::timeout_ms;

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

/// Whether the client has sent a deadline, and at least half of it is left. The script is `deadline-` and milliseconds.
/// gRPC's C core, which Python uses, rounds up to three digits, so a hundredth more is right too.
pub fn has_deadline(script: &str, metadata: &MetadataMap) -> Option<Result<(), Status>> {
    let deadline_ms: i64 = script.strip_prefix("deadline-")?.parse().ok()?;
    let got = timeout_ms(metadata);
    let most_ms = deadline_ms + deadline_ms / 100;
    let has_one = got.is_some_and(|got| (deadline_ms / 2..=most_ms).contains(&got));
    let other = || Status::failed_precondition(format!("expected at most {most_ms} ms, got {got:?}"));
    Some(if has_one { Ok(()) } else { Err(other()) })
}

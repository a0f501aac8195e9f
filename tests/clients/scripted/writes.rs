//! The scripts of `Set`, `Write` and `Flush`.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use prost::Message;
use tonic::{Code, Status, Streaming, codegen::BoxStream, metadata::MetadataMap};

use super::{
    connection::Connection,
    failure::Failure,
    observed::Observed,
    script::{has_deadline, no_script, script_of, workspace_of},
};
use crate::api::v1::{
    FlushResponse, Position, SetResponse, Verdict, WriteFailure, WriteRequest, WriteResponse, Written, verdict::Outcome,
};

const MESSAGE: &str = "as the workspace says";

/// The response to the `nth` set of a workspace, from 1.
pub fn set(script: &str, nth: u64, metadata: &MetadataMap) -> Result<SetResponse, Status> {
    if let Some(status) = script.strip_prefix("status-") {
        return Err(status_of(status).unwrap_or_else(|| no_script(script)));
    }
    if let Some(code) = script.strip_prefix("details-") {
        return Err(code_of(code).map_or_else(|| no_script(script), |code| all_details(code).into()));
    }
    let has_deadline = has_deadline(script, metadata).transpose()?.is_some();
    match script {
        _ if has_deadline => Ok(SetResponse::default()),
        "busy" => Err(busy().into()),
        "refused" => Err(refused().into()),
        "starting" if nth <= 2 => Err(Failure::new(Code::Unavailable, "STARTING", "the store is not open yet").into()),
        "starting" => Ok(SetResponse { position: Some(Position::default()), timestamp: None }),
        "utf8" => Err(utf8().into()),
        "unknown" => {
            let unknown = Failure::new(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "the outcome is not known");
            Err(unknown.into())
        }
        _ => Err(no_script(script)),
    }
}

/// A code's number, and after a dash the reason.
fn status_of(script: &str) -> Option<Status> {
    let (code, reason) = script.split_once('-').map_or((script, None), |(code, reason)| (code, Some(reason)));
    let code = code_of(code)?;
    Some(reason.map_or_else(|| Status::new(code, MESSAGE), |reason| Failure::new(code, reason, MESSAGE).into()))
}

/// The code of an error, by its number.
fn code_of(number: &str) -> Option<Code> {
    Some(Code::from(number.parse::<i32>().ok().filter(|code| (1..=16).contains(code))?))
}

fn all_details(code: Code) -> Failure {
    Failure::new(code, "ALL_DETAILS", MESSAGE)
        .field("raw")
        .retry_after(Duration::from_millis(1_500))
        .fact("limit", "10")
        .fact("got", "größe 🦀")
}

fn busy() -> Failure {
    Failure::new(Code::ResourceExhausted, "PRODUCER_QUEUE_FULL", "the queue is full")
        .retry_after(Duration::from_millis(1_500))
        .fact("limit", "1000")
}

fn refused() -> Failure {
    Failure::new(Code::InvalidArgument, "VALUE_TOO_LARGE", "too large")
        .field("raw")
        .fact("limit", "10")
        .fact("got", "11")
}

/// gRPC encodes the message: percent signs, line breaks and what is not ASCII.
fn utf8() -> Failure {
    let message = "größe: 100 % von \u{201c}漢字\u{201d} 🦀\n%41 is no A";
    Failure::new(Code::InvalidArgument, "KEY_INVALID", message).field("changelog_id").fact("got", "größe 🦀")
}

pub fn flush(failures_after: u64) -> FlushResponse {
    let failure = |(id, name): (u64, &str)| {
        let error = Failure::new(Code::Unavailable, "BROKERS_UNREACHABLE", "the brokers are unreachable")
            .retry_after(Duration::from_secs(1));
        WriteFailure { id, key: format!("flush/deployment/{name}"), error: Some(error.into()) }
    };
    // One at a time, so that a client must ask for the others.
    let failures: Vec<_> =
        [(1, "a"), (2, "b")].into_iter().find(|(id, _)| *id > failures_after).map(failure).into_iter().collect();
    let last_failure = failures.last().map_or(failures_after, |last| last.id);
    FlushResponse { remaining: 0, failures, last_failure, failures_omitted: 0 }
}

/// A `Write` stream.
pub struct Write {
    messages: Streaming<WriteRequest>,
    metadata: MetadataMap,
    observed: Arc<Observed>,
    connection: Connection,
    /// How many mutations have a verdict.
    answered: i64,
    is_first_message: bool,
    is_cut: bool,
}

impl Write {
    pub fn new(
        messages: Streaming<WriteRequest>,
        metadata: MetadataMap,
        observed: Arc<Observed>,
        connection: Connection,
    ) -> Self {
        Self { messages, metadata, observed, connection, answered: 0, is_first_message: true, is_cut: false }
    }

    /// One response for each message.
    pub fn verdicts(self) -> BoxStream<WriteResponse> {
        Box::pin(stream::try_unfold(self, Self::next))
    }

    async fn next(mut self) -> Result<Option<(WriteResponse, Self)>, Status> {
        if self.is_cut {
            return Err(Status::unavailable("cut"));
        }
        let Some(message) = self.messages.message().await? else { return Ok(None) };
        let first = message.mutations.first().ok_or_else(|| Status::invalid_argument("a message without mutations"))?;
        let workspace = workspace_of(&first.workspace_id, &first.changelog_id);
        if std::mem::take(&mut self.is_first_message) {
            self.observed.call(workspace, "Write", &self.metadata);
        }
        self.observed.message(workspace, message.mutations.len(), message.encoded_len());
        let mut verdicts = Vec::with_capacity(message.mutations.len());
        for mutation in &message.mutations {
            let workspace = workspace_of(&mutation.workspace_id, &mutation.changelog_id);
            let outcome = match script_of(workspace) {
                "busy" => Outcome::Error(busy().into()),
                "refused" => Outcome::Error(refused().into()),
                "count" => self.written(),
                "stall" => self.observed.clone().no_end(workspace.to_owned()).await,
                "disconnect" => self.connection.close().await,
                "cut" => {
                    self.is_cut = true;
                    self.written()
                }
                script => return Err(no_script(script)),
            };
            self.answered += 1;
            verdicts.push(Verdict { id: mutation.id, outcome: Some(outcome) });
            if self.is_cut {
                break;
            }
        }
        Ok(Some((WriteResponse { verdicts }, self)))
    }

    fn written(&self) -> Outcome {
        Outcome::Written(Written { position: Some(Position { partition: 0, offset: self.answered }), timestamp: None })
    }
}

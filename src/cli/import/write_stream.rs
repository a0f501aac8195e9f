//! A `Write` stream of an import.
//!
//! Promises: verdicts are received while mutations are sent. Dropping it ends the call.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::{cli::connection::Client, proto::v1};

/// Messages that wait for HTTP/2, and messages with verdicts that wait to be counted.
const WAITING_MESSAGES: usize = 2;
/// How long the server may take to end a stream whose verdicts have all come.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a stream delivers.
pub enum Event {
    Verdicts(Vec<v1::Verdict>),
    /// No more verdicts come.
    Ended(Status),
}

pub type Messages = mpsc::Sender<v1::WriteRequest>;

pub struct WriteStream {
    /// `None` if the server takes no more messages.
    messages: Option<Messages>,
    events: mpsc::Receiver<Event>,
    _call: AbortOnDropHandle<()>,
}

impl WriteStream {
    pub fn open(mut client: Client) -> Self {
        let (messages, outgoing) = mpsc::channel(WAITING_MESSAGES);
        let (sender, events) = mpsc::channel(WAITING_MESSAGES);
        let call = async move {
            let ended = match client.write(ReceiverStream::new(outgoing)).await {
                Ok(answers) => receive(answers.into_inner(), &sender).await,
                Err(status) => status,
            };
            // The import may have ended.
            let _ = sender.send(Event::Ended(ended)).await;
        };
        Self { messages: Some(messages), events, _call: AbortOnDropHandle::new(tokio::spawn(call)) }
    }

    /// Where messages go, while the server takes any.
    pub fn messages(&self) -> Option<Messages> {
        self.messages.clone()
    }

    /// The server takes no more messages. Its verdicts and the status may still come.
    pub fn stop_sending(&mut self) {
        self.messages = None;
    }

    /// Cancel safe.
    pub async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Ended(Status::internal("the stream of this client ended")))
    }

    /// Ends a stream whose verdicts have all come.
    pub async fn close(self) {
        let Self { messages, mut events, _call } = self;
        drop(messages);
        let ended = async { while !matches!(events.recv().await, None | Some(Event::Ended(_))) {} };
        // Its end says nothing more about what was written.
        let _ = timeout(CLOSE_TIMEOUT, ended).await;
    }
}

async fn receive(mut answers: tonic::Streaming<v1::WriteResponse>, events: &mpsc::Sender<Event>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if events.send(Event::Verdicts(answer.verdicts)).await.is_err() {
                    return Status::cancelled("the import has ended");
                }
            }
            Ok(None) => return Status::unknown("the server ended the stream without a verdict"),
            Err(status) => return status,
        }
    }
}

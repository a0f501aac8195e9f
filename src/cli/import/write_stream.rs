//! A `Write` stream of an import.
//!
//! Promises: verdicts are received while mutations are sent. It is known which messages the transport has not taken:
//! none of them was written. Dropping it ends the call.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
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

/// The id of the last mutation that the transport took. Ids rise. It takes nothing more after [`Taken::close`].
#[derive(Debug, Clone, Default)]
struct Taken(Arc<AtomicU64>);

impl Taken {
    const CLOSED: u64 = u64::MAX;

    /// Whether the transport may take this message.
    fn take(&self, message: &v1::WriteRequest) -> bool {
        let last = message.mutations.last().map_or(0, |mutation| mutation.id);
        let next = |before| (before != Self::CLOSED).then_some(last);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    fn close(&self) -> u64 {
        self.0.swap(Self::CLOSED, Ordering::SeqCst)
    }
}

pub struct WriteStream {
    /// `None` if the server takes no more messages.
    messages: Option<Messages>,
    taken: Taken,
    events: mpsc::Receiver<Event>,
    _call: AbortOnDropHandle<()>,
}

impl WriteStream {
    pub fn open(mut client: Client) -> Self {
        let (messages, outgoing) = mpsc::channel(WAITING_MESSAGES);
        let (sender, events) = mpsc::channel(WAITING_MESSAGES);
        let taken = Taken::default();
        let of_call = taken.clone();
        let outgoing = ReceiverStream::new(outgoing).take_while(move |message| ready(of_call.take(message)));
        let call = async move {
            let ended = match client.write(outgoing).await {
                Ok(answers) => receive(answers.into_inner(), &sender).await,
                Err(status) => status,
            };
            // The import may have ended.
            let _ = sender.send(Event::Ended(ended)).await;
        };
        Self { messages: Some(messages), taken, events, _call: AbortOnDropHandle::new(tokio::spawn(call)) }
    }

    /// Where messages go, while the server takes any.
    pub fn messages(&self) -> Option<Messages> {
        self.messages.clone()
    }

    /// The server takes no more messages. Its verdicts and the status may still come.
    pub fn stop_sending(&mut self) {
        self.messages = None;
    }

    /// Ends the sending. Returns the id of the last mutation that the transport has taken.
    pub fn last_taken(&self) -> u64 {
        self.taken.close()
    }

    /// Cancel safe.
    pub async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Ended(Status::internal("the stream of this client ended")))
    }

    /// Ends a stream whose verdicts have all come.
    pub async fn close(self) {
        let Self { messages, mut events, _call, .. } = self;
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

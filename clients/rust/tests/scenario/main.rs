//! Makes the calls of a file with the generated client, and prints what each of them got: one line of JSON for each
//! line. `clients/BEHAVIOUR.md` describes both.

#![allow(clippy::print_stdout, reason = "the output of a program")]

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs::File,
    io::{BufRead, BufReader},
    time::Duration,
};

use changelogd_client::proto::changelog_service_client::ChangelogServiceClient;
use futures_util::{StreamExt, stream};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonic::{
    Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

type Failure = Box<dyn Error>;

/// A call that has not ended this long after its deadline hangs.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    name: String,
    address: String,
    #[serde(rename = "call")]
    method: String,
    requests: Vec<Value>,
    timeout_ms: u64,
    gzip: bool,
    cancel_after: Option<usize>,
    max_message_bytes: Option<usize>,
}

#[derive(Debug, Default, Serialize)]
struct Answer {
    name: String,
    code: i32,
    message: String,
    error: Option<Details>,
    responses: Vec<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    domain: String,
    reason: String,
    field: String,
    retry_ms: Option<u64>,
    metadata: HashMap<String, String>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let path = env::args().nth(1).ok_or("which file has the calls?")?;
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let pool = DescriptorPool::from_file_descriptor_set(protox::compile(["changelog.proto"], [proto])?)?;
    // A server sees that a call was cancelled, and not that its connection was closed: all stay open up to the end.
    let mut connections = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let call: Call = serde_json::from_str(&line?)?;
        let channel = connect(&call)?;
        connections.push(channel.clone());
        let answer = answer(call, channel, &pool).await?;
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}

/// A connection for one call.
fn connect(call: &Call) -> Result<Channel, Failure> {
    Ok(Endpoint::from_shared(format!("http://{}", call.address))?
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_lazy())
}

async fn answer(call: Call, channel: Channel, pool: &DescriptorPool) -> Result<Answer, Failure> {
    let timeout = Duration::from_millis(call.timeout_ms);
    let mut client = ChangelogServiceClient::new(channel);
    if call.gzip {
        client = client.send_compressed(CompressionEncoding::Gzip);
    }
    if let Some(bytes) = call.max_message_bytes {
        client = client.max_decoding_message_size(bytes);
    }
    let service = pool.get_service_by_name("changelog.v1.ChangelogService").ok_or("no service")?;
    let method = service.methods().find(|method| method.name() == call.method).ok_or("no such call")?;
    let requests = call.requests.iter().map(|request| DynamicMessage::deserialize(method.input(), request));
    let requests = requests.collect::<Result<_, _>>()?;
    let mut received = Received { output: method.output(), responses: Vec::new(), most: call.cancel_after };

    // tonic itself keeps a deadline only up to the first bytes of a response.
    let made =
        tokio::time::timeout(timeout + GRACE, make(&call.method, client, requests, timeout, &mut received)).await;
    let status = match made.map_err(|_| format!("{}: it did not end at its deadline", call.name))? {
        Ok(()) => Status::ok(""),
        // Other errors are of this program.
        Err(error) => *error.downcast::<Status>()?,
    };
    Ok(Answer {
        name: call.name,
        code: status.code().into(),
        message: status.message().to_owned(),
        error: details(&status),
        responses: received.responses,
    })
}

async fn make(
    call: &str,
    mut client: ChangelogServiceClient<Channel>,
    requests: Vec<DynamicMessage>,
    timeout: Duration,
    received: &mut Received,
) -> Result<(), Failure> {
    match call {
        "Set" => received.one(client.set(first(&requests, timeout)?).await?),
        "Delete" => received.one(client.delete(first(&requests, timeout)?).await?),
        "Flush" => received.one(client.flush(first(&requests, timeout)?).await?),
        "Get" => received.one(client.get(first(&requests, timeout)?).await?),
        "Describe" => received.one(client.describe(first(&requests, timeout)?).await?),
        "LoadWorkspace" => received.all(client.load_workspace(first(&requests, timeout)?).await?).await,
        "StreamAll" => received.all(client.stream_all(first(&requests, timeout)?).await?).await,
        "Watch" => received.all(client.watch(first(&requests, timeout)?).await?).await,
        "Write" => {
            let messages = requests.iter().map(DynamicMessage::transcode_to).collect::<Result<Vec<_>, _>>()?;
            // Everything is sent before a response is read.
            let (sent, has_sent) = tokio::sync::oneshot::channel::<()>();
            let end = stream::once(async move { drop(sent) });
            let messages = stream::iter(messages).map(Some).chain(end.map(|()| None));
            let messages = messages.filter_map(std::future::ready);
            let response = client.write(with_timeout(messages, timeout)).await?;
            let _ = has_sent.await;
            received.all(response).await
        }
        _ => Err(format!("no call {call}").into()),
    }
}

fn first<T: Message + Default>(requests: &[DynamicMessage], timeout: Duration) -> Result<Request<T>, Failure> {
    Ok(with_timeout(requests[0].transcode_to::<T>()?, timeout))
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

struct Received {
    output: MessageDescriptor,
    responses: Vec<Value>,
    /// A stream is cancelled after that many.
    most: Option<usize>,
}

impl Received {
    fn one<T: Message>(&mut self, response: Response<T>) -> Result<(), Failure> {
        self.message(&response.into_inner())
    }

    async fn all<T: Message>(&mut self, response: Response<Streaming<T>>) -> Result<(), Failure> {
        let mut stream = response.into_inner();
        while let Some(message) = stream.message().await? {
            self.message(&message)?;
            if Some(self.responses.len()) == self.most {
                // A stream is cancelled by dropping it. That has no status.
                return Err(Status::cancelled("dropped").into());
            }
        }
        Ok(())
    }

    fn message<T: Message>(&mut self, message: &T) -> Result<(), Failure> {
        let message = DynamicMessage::decode(self.output.clone(), message.encode_to_vec().as_slice())?;
        self.responses.push(serde_json::to_value(message)?);
        Ok(())
    }
}

fn details(status: &Status) -> Option<Details> {
    let info = status.get_details_error_info()?;
    let delay = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
    let field = status.get_details_bad_request().and_then(|request| request.field_violations.into_iter().next());
    Some(Details {
        domain: info.domain,
        reason: info.reason,
        field: field.map_or_else(String::new, |violation| violation.field),
        retry_ms: delay.and_then(|delay| delay.as_millis().try_into().ok()),
        metadata: info.metadata,
    })
}

//! The servers, and the entities that tests store.

use std::{collections::BTreeMap, env, fmt::Debug, time::Duration};

use changelogd_client::{Client, Code, Entity, Error, Key};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

pub const EMBEDDED: &str = "CHANGELOGD_TEST_EMBEDDED";
const KAFKA: &str = "CHANGELOGD_TEST_ON_KAFKA";
pub const SCRIPTED: &str = "CHANGELOGD_TEST_SCRIPTED";

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a variable of `make clients` says.
pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} names no server: `make clients` starts them"))
}

pub fn embedded() -> Client {
    Client::connect(&variable(EMBEDDED)).unwrap()
}

pub fn scripted() -> Client {
    Client::connect(&variable(SCRIPTED)).unwrap()
}

/// Runs a test on the embedded store and on Kafka, in a workspace of its own.
pub async fn on_both(test: impl AsyncFn(Client, String)) {
    for server in [EMBEDDED, KAFKA] {
        println!("on {server}");
        test(Client::connect(&variable(server)).unwrap(), workspace("both")).await;
    }
}

/// A fresh workspace. The scripted server does what the script with that name says.
pub fn workspace(script: &str) -> String {
    format!("{script}.{}", Uuid::new_v4())
}

/// An entity with the form of the scripted values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    #[serde(skip)]
    pub workspace: String,
    pub name: String,
    pub version: i64,
}

impl Deployment {
    pub fn new(workspace: &str, name: impl Into<String>, version: i64) -> Self {
        Self { workspace: workspace.to_owned(), name: name.into(), version }
    }
}

impl Entity for Deployment {
    const TYPE: &'static str = "deployment";

    fn key(&self) -> Key {
        Key::new(&self.workspace, Self::TYPE, &self.name)
    }
}

/// The versions of a load by their ids.
pub fn versions(loaded: &BTreeMap<String, Deployment>) -> Vec<(&str, i64)> {
    loaded.iter().map(|(id, deployment)| (id.as_str(), deployment.version)).collect()
}

/// What the scripted server has seen of a workspace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    pub calls: u64,
    pub timeout_ms: i64,
    pub cancelled: bool,
    pub messages: u64,
    pub most_mutations: u64,
    pub most_bytes: usize,
}

impl Entity for Observed {
    const TYPE: &'static str = "observed";

    fn key(&self) -> Key {
        unreachable!("it is only read")
    }
}

pub async fn observed(client: &Client, workspace: &str) -> Observed {
    client.get(workspace, "calls").await.unwrap().expect("the scripted server counts the calls of each workspace")
}

/// Waits until the scripted server has seen something.
pub async fn until_observed(client: &Client, workspace: &str, condition: impl Fn(&Observed) -> bool) {
    let waiting = async {
        while !condition(&observed(client, workspace).await) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the server does not see it");
}

/// The next item of a stream that must have one.
pub async fn next<T>(stream: &mut (impl Stream<Item = Result<T, Error>> + Unpin)) -> Result<T, Error> {
    timeout(PATIENCE, stream.next()).await.expect("nothing comes").expect("the stream has ended")
}

/// Checks code and reason of an error.
pub fn assert_error<T: Debug>(result: Result<T, Error>, code: Code, reason: Option<&str>) -> Error {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.reason()), (code, reason), "{error}");
    error
}

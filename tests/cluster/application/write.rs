//! Writes as an application does that makes one call after another, and never sends a write again.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use changelogd_client::{
    Client, Error,
    proto::{SetRequest, set_request},
};
use clap::Args;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{counts::Counts, started, stopped};

/// A call that takes longer has no answer. The server's own limit is shorter.
const CALL: Duration = Duration::from_secs(30);
/// How often the file is written while nothing else happens.
const SAVED_EACH: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct Options {
    /// Where the file with the result is
    directory: PathBuf,
    /// First wait until changelogd is ready
    #[arg(long)]
    wait: bool,
    /// For how long it goes on to write after SIGTERM
    #[arg(long, default_value_t = 0)]
    linger_ms: u64,
    /// Tasks that write, each its own entity
    #[arg(long, default_value_t = 4)]
    tasks: u32,
    /// The pause after each write
    #[arg(long, default_value_t = 4)]
    pause_ms: u64,
}

/// What the file has.
#[derive(Debug, Default)]
struct Outcome {
    /// Answers until SIGTERM.
    before: Counts,
    /// Answers to calls that began after SIGTERM.
    after: Counts,
    /// The last acknowledged number of each entity.
    acknowledged: Mutex<BTreeMap<String, u64>>,
    /// It was not killed.
    has_ended: AtomicBool,
}

impl Outcome {
    fn json(&self) -> Value {
        json!({
            "before": self.before,
            "after": self.after,
            "acknowledged": *self.acknowledged.lock(),
            "has_ended": self.has_ended.load(Ordering::SeqCst),
        })
    }
}

/// The pod's own file, and its workspace has the same name.
pub fn file(directory: &Path) -> PathBuf {
    directory.join(format!("{}.json", pod()))
}

fn pod() -> String {
    env::var("HOSTNAME").unwrap_or_else(|_| "pod".to_owned())
}

pub async fn run(client: &Client, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if options.wait {
        started(client).await?;
    }
    let (outcome, has_stopped, is_over) = (Arc::<Outcome>::default(), Flag::default(), Flag::default());
    let mut tasks = JoinSet::new();
    for number in 0..options.tasks {
        let pause = Duration::from_millis(options.pause_ms);
        tasks.spawn(task(client.clone(), number, pause, outcome.clone(), has_stopped.clone(), is_over.clone()));
    }
    let linger = async {
        stopped().await;
        has_stopped.0.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(options.linger_ms)).await;
        is_over.0.store(true, Ordering::SeqCst);
        // The calls in flight get their answers.
        while tasks.join_next().await.is_some() {}
    };
    let save = async {
        loop {
            sleep(SAVED_EACH).await;
            if !outcome.acknowledged.lock().is_empty() {
                saved(&options.directory, &outcome).expect("the directory can be written");
            }
        }
    };
    tokio::select! {
        () = linger => {}
        () = save => {}
    }
    outcome.has_ended.store(true, Ordering::SeqCst);
    saved(&options.directory, &outcome)?;
    println!("{}", outcome.json());
    Ok(())
}

#[derive(Debug, Clone, Default)]
struct Flag(Arc<AtomicBool>);

async fn task(client: Client, number: u32, pause: Duration, outcome: Arc<Outcome>, has_stopped: Flag, is_over: Flag) {
    let (entity, mut last) = (format!("e{number}"), 0);
    while !is_over.0.load(Ordering::SeqCst) {
        last += 1;
        let counts = if has_stopped.0.load(Ordering::SeqCst) { &outcome.after } else { &outcome.before };
        let answer = set(&client, &pod(), &entity, last.to_string().into_bytes()).await;
        counts.add(&answer);
        if answer.is_ok() {
            outcome.acknowledged.lock().insert(entity.clone(), last);
        }
        sleep(pause).await;
    }
}

/// One call, without the retries of the package.
pub async fn set(client: &Client, workspace: &str, entity: &str, value: Vec<u8>) -> Result<(), Error> {
    let request = SetRequest {
        workspace_id: workspace.to_owned(),
        changelog_id: format!("/number/{entity}"),
        value: Some(set_request::Value::Raw(value)),
        ..SetRequest::default()
    };
    let mut grpc = client.raw();
    match timeout(CALL, grpc.set(request)).await {
        Ok(answer) => Ok(answer.map(drop)?),
        Err(_) => Err(tonic::Status::deadline_exceeded(format!("no answer within {CALL:?}")).into()),
    }
}

/// Never half a file: the cases read it while this runs.
fn saved(directory: &Path, outcome: &Outcome) -> Result<(), Box<dyn std::error::Error>> {
    let (whole, part) = (file(directory), directory.join(format!("{}.part", pod())));
    fs::write(&part, outcome.json().to_string())?;
    fs::rename(part, whole)?;
    Ok(())
}

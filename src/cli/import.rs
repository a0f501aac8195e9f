//! `changelogd import`.
//!
//! It sends many durable writes at the same time. All lines of one key go through one worker, one call at a time, so
//! the last line of a key wins. Lines of different keys are written in any order.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc,
    task::JoinSet,
};
use tonic::{Code, Status};

use super::{
    args::ClientArgs,
    connection::Client,
    export::progress,
    failure::{Failure, describe, reason},
    output::{Output, printable},
    record::Line,
};
use crate::{config::parse_duration, proto::v1};

/// The longest line: a value of 64 MB in base64, and its frame.
const MAX_LINE: usize = 96 * 1024 * 1024;
/// Lines that may wait for their worker.
const WORKER_QUEUE: usize = 4;

/// Lines are objects with `key` and `value`, `value_base64` or `"deleted": true`, and perhaps `headers`; what `load`,
/// `stream` and `export` print is read too. Exit status 1 if a line failed.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Where from; by default, or with -, standard input
    pub file: Option<PathBuf>,
    /// Calls at a time
    #[arg(long, value_name = "COUNT", default_value = "256", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub in_flight: u16,
    /// Stop after this number of lines has failed
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub max_failures: u64,
    /// How long a line is tried again that was certainly not written
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub retry_for: Duration,
}

struct Work {
    number: u64,
    key: String,
    value: Option<Bytes>,
    headers: Vec<v1::Header>,
}

struct Failed {
    number: u64,
    key: String,
    why: String,
}

#[derive(Default)]
struct Summary {
    lines: u64,
    set: u64,
    deleted: u64,
    failed: Vec<Failed>,
}

enum Outcome {
    Set,
    Deleted,
    Failed(Failed),
}

pub async fn run(args: ImportArgs, output: &mut Output) -> Result<(), Failure> {
    let path = args.file.clone().filter(|f| f.as_os_str() != "-");
    let (reader, length): (Box<dyn AsyncRead + Send + Unpin>, _) = match &path {
        None => (Box::new(tokio::io::stdin()), None),
        Some(path) => {
            let unreadable = |e: std::io::Error| Failure::Usage(format!("FILE: {}: {e}", path.display()));
            let file = File::open(path).await.map_err(unreadable)?;
            let length = file.metadata().await.map_err(unreadable)?.len();
            (Box::new(file), Some(length))
        }
    };
    let started = Instant::now();
    let summary = import(&args, reader, length).await?;
    for failed in &summary.failed {
        let text = format!("line {}: {}: {}", failed.number, printable(&failed.key), printable(&failed.why));
        output.line(&text, &json!({"failed": {"line": failed.number, "key": failed.key, "error": failed.why}}))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let failures = summary.failed.len();
    let text = format!(
        "{} lines: {} set, {} deleted, {failures} failed, in {seconds:.2} s",
        summary.lines, summary.set, summary.deleted
    );
    output.line(&text, &json!({"import": {
        "lines": summary.lines, "set": summary.set, "deleted": summary.deleted, "failed": failures, "seconds": seconds,
    }}))?;
    output.flush()?;
    match failures {
        0 => Ok(()),
        n if n as u64 >= args.max_failures => Err(Failure::Failed(format!("stopped after {n} lines had failed"))),
        n => Err(Failure::Failed(format!("{n} lines failed"))),
    }
}

async fn import(
    args: &ImportArgs,
    reader: impl AsyncRead + Send + Unpin,
    length: Option<u64>,
) -> Result<Summary, Failure> {
    let client = args.client.client().await?;
    let (outcome_sender, mut outcomes) = mpsc::channel(usize::from(args.in_flight) * 2);
    let (mut workers, mut tasks) = (Vec::new(), JoinSet::new());
    for _ in 0..args.in_flight {
        let (worker, work) = mpsc::channel::<Work>(WORKER_QUEUE);
        workers.push(worker);
        tasks.spawn(run_worker(client.clone(), args.client.clone(), args.retry_for, work, outcome_sender.clone()));
    }
    let (progress_bar, mut summary) = (progress(length), Summary::default());
    let mut lines = BufReader::with_capacity(1 << 20, reader);
    let mut buffer = Vec::new();
    while (summary.failed.len() as u64) < args.max_failures {
        while let Ok(outcome) = outcomes.try_recv() {
            summary.count(outcome);
        }
        buffer.clear();
        let read = read_line(&mut lines, &mut buffer).await.map_err(|e| Failure::Usage(format!("FILE: {e}")))?;
        if read == 0 {
            break;
        }
        progress_bar.inc(read as u64);
        summary.lines += 1;
        let work = match parse(summary.lines, &buffer) {
            Ok(Some(work)) => work,
            Ok(None) => continue,
            Err(failed) => {
                summary.failed.push(failed);
                continue;
            }
        };
        let mut hash = DefaultHasher::new();
        work.key.hash(&mut hash);
        let worker = &workers[(hash.finish() % u64::from(args.in_flight)) as usize];
        // While this worker is busy, the outcomes of the others must be received. Otherwise all workers would block.
        let mut sending = std::pin::pin!(worker.send(work));
        loop {
            tokio::select! {
                _ = &mut sending => break,
                Some(outcome) = outcomes.recv() => summary.count(outcome),
            }
        }
    }
    drop((workers, outcome_sender));
    while let Some(outcome) = outcomes.recv().await {
        summary.count(outcome);
    }
    while tasks.join_next().await.is_some() {}
    progress_bar.finish_and_clear();
    summary.failed.sort_by_key(|f| f.number);
    Ok(summary)
}

impl Summary {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Set => self.set += 1,
            Outcome::Deleted => self.deleted += 1,
            Outcome::Failed(failed) => self.failed.push(failed),
        }
    }
}

/// Reads a line. Its length is limited, because a file without line breaks must not fill the memory.
async fn read_line(lines: &mut (impl tokio::io::AsyncBufRead + Unpin), buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    use tokio::io::AsyncReadExt;
    let read = lines.take(MAX_LINE as u64 + 1).read_until(b'\n', buffer).await?;
    if read > MAX_LINE {
        return Err(std::io::Error::other(format!("a line is longer than {MAX_LINE} bytes")));
    }
    Ok(read)
}

/// Returns `None` for a line without an entity: a blank one, or a Snapshot or Bookmark of `load` and `stream`.
fn parse(number: u64, line: &[u8]) -> Result<Option<Work>, Failed> {
    let failed = |key: &str, why: String| Failed { number, key: key.to_owned(), why };
    let text = std::str::from_utf8(line).map_err(|e| failed("", e.to_string()))?.trim();
    if text.is_empty() || text.starts_with("{\"snapshot\":") || text.starts_with("{\"bookmark\":") {
        return Ok(None);
    }
    let mut line: Line = serde_json::from_str(text).map_err(|e| failed("", e.to_string()))?;
    let key = std::mem::take(&mut line.key);
    let headers = std::mem::take(&mut line.headers).into_iter().map(super::record::HeaderLine::into_header);
    let headers = headers.collect::<Result<_, _>>().map_err(|e| failed(&key, e))?;
    let value = line.into_value().map_err(|e| failed(&key, e))?;
    Ok(Some(Work { number, key, value, headers }))
}

async fn run_worker(
    mut client: Client,
    args: ClientArgs,
    retry_for: Duration,
    mut work: mpsc::Receiver<Work>,
    outcomes: mpsc::Sender<Outcome>,
) {
    while let Some(work) = work.recv().await {
        let outcome = match apply(&mut client, &args, retry_for, &work).await {
            Ok(()) if work.value.is_some() => Outcome::Set,
            Ok(()) => Outcome::Deleted,
            Err(status) => Outcome::Failed(Failed { number: work.number, key: work.key, why: describe(&status, true) }),
        };
        if outcomes.send(outcome).await.is_err() {
            return;
        }
    }
}

async fn apply(client: &mut Client, args: &ClientArgs, retry_for: Duration, work: &Work) -> Result<(), Status> {
    let give_up = Instant::now() + retry_for;
    let mut pause = Duration::from_millis(50);
    loop {
        let result = match &work.value {
            Some(value) => {
                let request = v1::SetRequest {
                    changelog_id: work.key.clone(),
                    value: Some(v1::set_request::Value::Raw(value.clone())),
                    headers: work.headers.clone(),
                    ..Default::default()
                };
                client.set(args.unary(request)).await.map(drop)
            }
            None => {
                let request = v1::DeleteRequest {
                    changelog_id: work.key.clone(),
                    headers: work.headers.clone(),
                    ..Default::default()
                };
                client.delete(args.unary(request)).await.map(drop)
            }
        };
        match result {
            // With our ErrorInfo these mean that nothing was written. An unknown outcome is reported and not retried.
            Err(status)
                if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
                    && reason(&status).is_some()
                    && Instant::now() + pause < give_up =>
            {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            result => return result,
        }
    }
}

//! `changelogd import`.
//!
//! It sends the lines over one `Write` stream, many at a time. The last line of a key wins. Lines of different keys are
//! written in any order.

pub(super) mod lines;
mod window;
mod write_stream;

use std::{future::pending, path::PathBuf, time::Duration};

use indicatif::ProgressBar;
use serde_json::json;
use tokio::{
    fs::File,
    io::AsyncRead,
    sync::mpsc::OwnedPermit,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::{
    args::ClientArgs,
    connection::{Client, too_large},
    failure::Failure,
    output::{Output, progress},
    record::{BadLine, Change, parse},
};
use crate::{config::parse_duration, proto::v1};
use lines::{InputError, InputLine, Lines};
use window::{Limits, Outcome, Window, message_bytes, mutation};
use write_stream::{Event, Messages, WriteStream};

/// The longest line: a value of 64 MB in base64, and its frame.
const MAX_LINE: usize = 96 * 1024 * 1024;

/// Reads JSON Lines, and sets or deletes the key of each line
///
/// A line is an object with `key`, and with one of `value`, `value_base64` and `"deleted": true`. It may have
/// `headers`. What `load`, `stream` and `export` print is read, too.
///
/// The last line of a key wins. A line that was certainly not written is sent again for --retry-for.
///
/// Exit status 1 if a line failed.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Where from; by default, or with -, standard input
    pub file: Option<PathBuf>,
    /// Lines that are sent and wait for their outcome, from 1 to 4096
    #[arg(long, value_name = "COUNT", default_value = "256", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub in_flight: u16,
    /// Stop after this number of lines has failed, at least 1
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_failures: u64,
    /// How long a line is sent again that was certainly not written
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub retry_for: Duration,
}

struct Failed {
    number: u64,
    key: String,
    why: String,
}

/// Each line is counted once in the members below `lines`.
#[derive(Default)]
struct Summary {
    lines: u64,
    set: u64,
    deleted: u64,
    /// Blank lines, Snapshots and Bookmarks.
    skipped: u64,
    /// Read, and not written because too many others had failed.
    not_sent: u64,
    failed: Vec<Failed>,
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
    let import = Import {
        client: args.client.client().await.map_err(Failure::of_write)?,
        lines: Lines::new(reader, MAX_LINE),
        window: Window::new(Limits {
            in_flight: args.in_flight.into(),
            timeout: args.client.unary_timeout(),
            retry_for: args.retry_for,
        }),
        stream: None,
        last_progress: started,
        progress_bar: progress(length),
        summary: Summary::default(),
        args: &args,
    };
    let (summary, unreadable) = import.run().await?;
    let failures = summary.failed.len();
    let printed = print(&summary, started.elapsed(), output);
    // The result counts also if the reader of the output has gone.
    match (unreadable, failures) {
        (Some(unreadable), _) => Err(unreadable),
        (None, 0) => printed,
        (None, n) if n as u64 >= args.max_failures => {
            Err(Failure::Failed(format!("stopped after {n} lines had failed")))
        }
        (None, n) => Err(Failure::Failed(format!("{n} lines failed"))),
    }
}

fn print(summary: &Summary, elapsed: Duration, output: &mut Output) -> Result<(), Failure> {
    for Failed { number, key, why } in &summary.failed {
        let separator = if key.is_empty() { "" } else { ": " };
        let text = format!("line {number}: {key}{separator}{why}");
        output.line(&text, &json!({"failed": {"line": number, "key": key, "error": why}}))?;
    }
    let seconds = elapsed.as_secs_f64();
    let failures = summary.failed.len();
    let Summary { lines, set, deleted, skipped, not_sent, .. } = summary;
    let mut text = format!("{lines} lines: {set} set, {deleted} deleted, {failures} failed");
    for (count, what) in [(*skipped, "skipped"), (*not_sent, "not sent")] {
        text += &if count > 0 { format!(", {count} {what}") } else { String::new() };
    }
    let object = json!({"import": {
        "lines": lines, "set": set, "deleted": deleted, "failed": failures, "skipped": skipped, "not_sent": not_sent,
        "seconds": seconds,
    }});
    output.line(&format!("{text}, in {seconds:.2} s"), &object)
}

struct Import<'a> {
    args: &'a ImportArgs,
    client: Client,
    lines: Lines<Box<dyn AsyncRead + Send + Unpin>>,
    window: Window,
    /// Opened for the first mutation, and again after it has ended.
    stream: Option<WriteStream>,
    /// When the stream was opened, took a message or delivered something.
    last_progress: Instant,
    progress_bar: ProgressBar,
    summary: Summary,
}

impl Import<'_> {
    /// Returns what was written, and why the input could not be read to its end.
    async fn run(mut self) -> Result<(Summary, Option<Failure>), Failure> {
        let (mut is_read, mut unreadable) = (false, None);
        loop {
            if self.summary.failed.len() as u64 >= self.args.max_failures {
                is_read = true;
                self.summary.not_sent += self.window.give_up_waiting() as u64;
            }
            if is_read && self.window.is_empty() {
                break;
            }
            let may_send = self.window.has_ready();
            if may_send && self.stream.is_none() {
                (self.stream, self.last_progress) = (Some(WriteStream::open(self.client.clone())), Instant::now());
            }
            let may_read = !is_read && self.window.has_room() && !self.window.is_message_full();
            let (wake, messages) = (self.wake(), self.stream.as_ref().and_then(WriteStream::messages));
            // More lines are read before a message is sent, so that messages are large.
            tokio::select! {
                biased;
                event = event(self.stream.as_mut()) => self.event(event),
                line = self.lines.next(), if may_read => match line.map(|line| line.map(read)) {
                    Ok(Some(line)) => self.line(line).await,
                    Ok(None) => is_read = true,
                    // No line was read before it.
                    Err(error @ InputError::Encoding(_)) if self.summary.is_empty() && self.window.is_empty() => {
                        return Err(Failure::Usage(format!("FILE: {error}")));
                    }
                    Err(error) => (is_read, unreadable) = (true, Some(Failure::Usage(format!("FILE: {error}")))),
                },
                permit = room(messages), if may_send => match permit {
                    Some(permit) => {
                        self.last_progress = Instant::now();
                        permit.send(v1::WriteRequest { mutations: self.window.take(self.last_progress) });
                    }
                    None => self.stream.as_mut().into_iter().for_each(WriteStream::stop_sending),
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.check_progress(),
            }
            self.window.tick(Instant::now());
            self.progress_bar.set_position(self.lines.bytes());
            self.window.outcomes().into_iter().for_each(|outcome| self.summary.count(outcome));
        }
        if let Some(stream) = self.stream.take() {
            stream.close().await;
        }
        self.progress_bar.finish_and_clear();
        self.summary.lines = self.lines.count();
        self.summary.failed.sort_by_key(|f| f.number);
        Ok((self.summary, unreadable))
    }

    fn event(&mut self, event: Event) {
        self.last_progress = Instant::now();
        match event {
            Event::Verdicts(verdicts) => {
                for verdict in verdicts {
                    self.window.verdict(verdict, self.last_progress);
                }
            }
            Event::Ended(status) => self.stream_ended(&status, self.last_progress),
        }
    }

    fn stream_ended(&mut self, status: &Status, now: Instant) {
        let last_taken = self.stream.take().map_or(u64::MAX, |stream| stream.last_taken());
        self.window.stream_ended(status, last_taken, now);
    }

    async fn line(&mut self, (number, line): (u64, Result<Option<Change>, BadLine>)) {
        match line {
            Ok(None) => self.summary.skipped += 1,
            Err(BadLine { key, why }) => self.summary.failed.push(Failed { number, key, why }),
            Ok(Some(change)) => {
                let (key, mutation) = (change.key.clone(), mutation(change));
                let bytes = message_bytes(&mutation);
                // It would end the stream, and not only fail itself.
                match self.args.client.smaller_request_limit(&mut self.client, bytes).await {
                    Some(limit) => self.summary.failed.push(Failed { number, key, why: too_large(bytes, limit) }),
                    None => self.window.add(number, mutation),
                }
            }
        }
    }

    /// When a stream without progress is given up.
    fn stuck_at(&self) -> Option<Instant> {
        let is_awaited = self.stream.is_some() && (self.window.is_any_in_flight() || self.window.has_ready());
        is_awaited.then(|| self.last_progress + self.args.client.unary_timeout())
    }

    fn wake(&self) -> Option<Instant> {
        self.window.next_tick().into_iter().chain(self.stuck_at()).min()
    }

    /// What is sent after a line that took too long would wait behind it, if the whole stream has stopped.
    fn check_progress(&mut self) {
        let now = Instant::now();
        if self.stuck_at().is_some_and(|at| at <= now) {
            let limit = self.args.client.unary_timeout();
            let text = format!("the server took and sent nothing for {limit:?} (--timeout)");
            self.stream_ended(&Status::deadline_exceeded(text), now);
        }
    }
}

impl Summary {
    /// Whether no line but blank ones was read, apart from those in the window.
    fn is_empty(&self) -> bool {
        self.set + self.deleted == 0 && self.failed.is_empty()
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Set => self.set += 1,
            Outcome::Deleted => self.deleted += 1,
            Outcome::Failed { number, key, why } => self.failed.push(Failed { number, key, why }),
        }
    }
}

/// What a line says.
fn read(line: InputLine<'_>) -> (u64, Result<Option<Change>, BadLine>) {
    let change = match line.text {
        Ok("") => Ok(None),
        Ok(text) => parse(text),
        Err(why) => Err(BadLine { key: String::new(), why }),
    };
    (line.number, change)
}

async fn event(stream: Option<&mut WriteStream>) -> Event {
    match stream {
        Some(stream) => stream.event().await,
        None => pending().await,
    }
}

/// `None` if the server takes no more messages.
async fn room(messages: Option<Messages>) -> Option<OwnedPermit<v1::WriteRequest>> {
    match messages {
        Some(messages) => messages.reserve_owned().await.ok(),
        None => pending().await,
    }
}

//! Log lines: text on a terminal, JSON otherwise. They go to stderr, because stdout is for the output of commands.
//!
//! Promises: a log line never holds up its caller. Lines that the reader of stderr does not take are lost and counted.
//! No place in the code writes more than a few lines a second, whatever clients do. The limit on lines of calls is for
//! each kind of calls.

mod json;
mod limit;
#[cfg(test)]
mod testing;
mod text;
mod writer;

use std::{
    io::{IsTerminal, Write, stderr},
    sync::LazyLock,
};

use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter, Layer, fmt,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

pub use limit::{LogLimit, PERIOD as LOG_LIMIT_PERIOD};
pub use writer::lost_lines;

use changelog_core::model::Printable;
use json::JsonLines;
use text::TextFields;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// A log filter that can't be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(String);

/// Parses a filter such as `info` or `changelog=debug,librdkafka=warn`.
pub fn parse_filter(text: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::builder().parse(text).map_err(|e| BadFilter(e.to_string()))
}

impl LogFormat {
    /// The format that is asked for. By default text on a terminal, else JSON.
    pub fn in_effect(asked: Option<Self>) -> Self {
        asked.unwrap_or(if stderr().is_terminal() { Self::Text } else { Self::Json })
    }
}

/// Writes why the process ends. It waits 1.1 s at most for a stderr that is not read.
pub fn exit_message(format: LogFormat, text: &str) {
    let (mut lines, _guard) = writer::start();
    let line = match format {
        LogFormat::Text => format!("changelogd: {}\n", Printable(text)),
        LogFormat::Json => json::message("ERROR", text) + "\n",
    };
    // It never fails.
    let _ = lines.write_all(line.as_bytes());
}

/// Lines a second that one place in the code may write, at info and above. Libraries write some for each frame that a
/// client sends.
const MAX_LINES_OF_A_PLACE: u64 = 50;

/// Of the process, because its log is, too.
static PLACES: LazyLock<LogLimit<Place>> = LazyLock::new(|| LogLimit::new(MAX_LINES_OF_A_PLACE));

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    callsite: Identifier,
    target: &'static str,
}

/// The lines of calls. Their own limit is one for each kind of calls, and counts what it leaves out by kind.
const CALLS: &str = "changelogd::server::observe";

/// Leaves out lines of a place that writes too many.
struct Limited;

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Whoever asks for debug wants all of it.
        *metadata.level() > Level::INFO
            || metadata.target() == CALLS
            || PLACES.admits(Place { callsite: metadata.callsite(), target: metadata.target() })
    }
}

/// Writes how many lines of each place were left out. Called each [`LOG_LIMIT_PERIOD`].
pub fn log_left_out() {
    for (Place { target, .. }, lines) in PLACES.end_period() {
        tracing::warn!(source = target, lines, "more lines from the same place were left out");
    }
}

/// A started log. Dropping it waits until the lines are written, 1.1 s at most.
#[derive(Debug)]
pub struct Logging(#[allow(dead_code)] WorkerGuard);

/// Starts logging for the process, panics included. A second call changes nothing.
pub fn start(format: LogFormat, filter: EnvFilter) -> Logging {
    let (lines, guard) = writer::start();
    let subscriber = tracing_subscriber::registry().with(filter).with(Limited);
    let layer = fmt::layer().with_writer(move || lines.clone());
    let _ = match format {
        LogFormat::Text => subscriber.with(layer.with_ansi(stderr().is_terminal()).fmt_fields(TextFields)).try_init(),
        LogFormat::Json => subscriber.with(layer.event_format(JsonLines)).try_init(),
    };
    // The default hook writes to stderr itself, and waits for its reader.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let cause = panic.payload_as_str().unwrap_or("a panic without a text");
        tracing::error!(place, cause, "a task or thread of changelogd panicked; this is a fault of changelogd");
    }));
    Logging(guard)
}

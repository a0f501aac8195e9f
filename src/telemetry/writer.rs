//! Passes log lines to a thread that writes them to stderr.
//!
//! Promises: what waits for the thread is bounded in lines and bytes, and a line is bounded, too. A pipe that is not
//! read, or whose reader is gone, loses lines and nothing else.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait for the thread.
const MAX_WAITING_LINES: usize = 8_192;
/// Bytes of all lines that wait.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a line. Longer ones are cut.
pub const MAX_LINE_BYTES: usize = 16 * 1024;
/// How the end of a cut line looks.
const CUT: &str = " [cut]\n";
/// The pause before a line is written again to a stderr that does not block and is full.
const FULL_PIPE_RETRY: Duration = Duration::from_millis(5);

/// Of the process, because its log is, too.
static LOST_LINES: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Counts lines that were lost: too many waited, or stderr could not be written.
pub fn lost_lines() -> Counter {
    LOST_LINES.clone()
}

/// Lines that wait for the thread.
#[derive(Debug, Default)]
struct Waiting {
    lines: usize,
    bytes: usize,
}

/// Passes lines to the thread. Never blocks, and never fails.
#[derive(Debug, Clone)]
pub struct LineWriter {
    thread: NonBlocking,
    waiting: Arc<Mutex<Waiting>>,
}

/// Starts the thread.
pub fn start() -> (LineWriter, WorkerGuard) {
    // A file of our own, because the standard library locks stderr for a writer that waits. All others would wait, too.
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(stderr) => start_on(File::from(stderr)),
        // Without a descriptor for it, a writer that waits holds up others.
        Err(_) => start_on(io::stderr()),
    }
}

fn start_on(output: impl Write + Send + 'static) -> (LineWriter, WorkerGuard) {
    let waiting = Arc::<Mutex<Waiting>>::default();
    let sink = Sink { output, waiting: waiting.clone() };
    // One more than may wait, so that the request to end finds room.
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING_LINES + 1);
    let (thread, guard) = builder.thread_name("log").finish(sink);
    (LineWriter { thread, waiting }, guard)
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let cut = cut(line);
        {
            let mut waiting = self.waiting.lock();
            if waiting.lines == MAX_WAITING_LINES || waiting.bytes + cut.len() > MAX_WAITING_BYTES {
                LOST_LINES.inc();
                return Ok(line.len());
            }
            waiting.lines += 1;
            waiting.bytes += cut.len();
        }
        self.thread.write_all(&cut)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line, or its beginning and a mark.
fn cut(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= MAX_LINE_BYTES {
        return line.into();
    }
    let kept = String::from_utf8_lossy(&line[..MAX_LINE_BYTES - CUT.len()]);
    // A character that was cut in two has become a longer one.
    [kept.trim_end_matches(char::REPLACEMENT_CHARACTER), CUT].concat().into_bytes().into()
}

/// Where the thread writes.
struct Sink<W> {
    output: W,
    waiting: Arc<Mutex<Waiting>>,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    /// Writes a whole line, or counts it as lost.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let mut left = line;
        while !left.is_empty() {
            match self.output.write(left) {
                Ok(written @ 1..) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever started this process made stderr a pipe that does not block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(FULL_PIPE_RETRY),
                Ok(0) | Err(_) => {
                    LOST_LINES.inc();
                    break;
                }
            }
        }
        let mut waiting = self.waiting.lock();
        waiting.lines -= 1;
        waiting.bytes -= line.len();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use proptest::prelude::*;

    use super::*;

    /// Writes a line only when it is told to, as a pipe whose reader is slow.
    struct Gate {
        open: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            let _ = self.written.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LineWriter, WorkerGuard, Sender<()>, Receiver<Vec<u8>>) {
        let ((open, opened), (written, lines)) = (channel(), channel());
        let (writer, guard) = start_on(Gate { open: opened, written });
        (writer, guard, open, lines)
    }

    /// Covers R41.
    #[test]
    fn lines_beyond_the_limits_are_lost_and_later_ones_are_written_again() {
        for (line, limit) in [("short\n".to_owned(), MAX_WAITING_LINES), ("x".repeat(8_192), 512)] {
            let (mut writer, _guard, open, written) = gated();
            for _ in 0..2 * limit {
                writer.write_all(line.as_bytes()).unwrap();
            }
            assert_eq!(writer.waiting.lock().lines, limit, "{} bytes each", line.len());
            for _ in 0..limit {
                open.send(()).unwrap();
                assert_eq!(written.recv().unwrap(), line.as_bytes());
            }
            writer.write_all(b"last\n").unwrap();
            open.send(()).unwrap();
            assert_eq!(written.recv().unwrap(), b"last\n");
        }
    }

    /// Covers R41.
    #[test]
    fn a_reader_that_is_gone_loses_lines_and_fails_nothing() {
        let (mut writer, guard, open, written) = gated();
        drop((open, written));
        let before = lost_lines().get();
        for _ in 0..3 * MAX_WAITING_LINES {
            writer.write_all(b"a line\n").unwrap();
        }
        drop(guard);
        assert!(lost_lines().get() >= before + 3 * MAX_WAITING_LINES as u64, "each is counted");
    }

    proptest! {
        /// Covers R41.
        #[test]
        fn a_line_is_cut_between_two_characters(
            start in "[aé€😀]{0,4}", filler in prop::sample::select(vec!["a", "é", "€", "😀"]), extra in 0..9_usize,
        ) {
            let filled = start + &filler.repeat(MAX_LINE_BYTES / filler.len() + extra) + "\n";
            let kept = cut(filled.as_bytes());
            prop_assert!(kept.len() <= MAX_LINE_BYTES);
            let kept = std::str::from_utf8(&kept).unwrap();
            prop_assert!(kept == filled || filled.starts_with(kept.strip_suffix(CUT).unwrap()));
        }
    }
}

//! Waits until the number of a process's threads or files has stopped falling.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// librdkafka's threads end a moment after the answer.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// Returns the numbers of threads and files when they are at most as before, or have stopped falling.
pub async fn settled(look: impl Fn() -> (usize, usize), before: Option<(usize, usize)>) -> (usize, usize) {
    let mut now = look();
    let mut still = 0;
    let started = Instant::now();
    while started.elapsed() < SETTLES_WITHIN && still < 10 && before.is_none_or(|b| now.0 > b.0 || now.1 > b.1) {
        sleep(Duration::from_millis(200)).await;
        let next = look();
        still = if next == now { still + 1 } else { 0 };
        now = next;
    }
    now
}

//! When what a process has of something has stopped to fall.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Threads of librdkafka end a moment after the answer.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// Threads and files once they are no more than before, or have stopped to fall.
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

//! Watches of a workspace that is written all the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use changelogd::proto::v1;
use changelogd_testkit::{Random, Watched, Written};
use tokio_util::sync::CancellationToken;

use super::{
    server::{Client, TestServer},
    watches::of,
    watching::Watching,
};

/// Each has one watch from a token, and one without.
const ROUNDS: usize = 4;
/// Keys that are written again and again.
const KEYS: u64 = 12;
/// How many changes a watch without a token follows.
const FOLLOWS: u64 = 30;
const PAUSE: Duration = Duration::from_millis(1);

/// What was written, and what watches saw of it.
pub struct Busy {
    pub written: Vec<Written>,
    /// What each watch knew at its `Synced`, and the end offset of that.
    states: Vec<(i64, Watched)>,
    /// What each watch knew when it ended.
    pub ended: Vec<Watched>,
}

impl Busy {
    /// Asserts that each state is whole, and that no final change is missing.
    pub fn assert_whole(&self) {
        for (end, seen) in &self.states {
            assert_eq!(seen.differs(&self.written, *end), None, "at {end}");
        }
        for seen in &self.ended {
            assert_eq!(seen.differs_at_last_change(&self.written), None);
        }
        let changes = self.ended.iter().map(Watched::changes).max();
        println!("{} writes, {} watches, at most {changes:?} changes", self.written.len(), self.ended.len());
    }
}

/// Writes all the time. One watch stays. Another is resumed again and again, by the token of its state or by a
/// bookmark that came between changes, and others start. Ends when that `is_enough`, by the number of writes.
pub async fn watch_while_writing(server: &TestServer, mut is_enough: impl AsyncFnMut(usize) -> bool) -> Busy {
    let mut steady = Watching::start(server, of("busy")).await;
    steady.synced().await;
    let following = tokio::spawn(async move {
        steady.until(|entry| entry.key == "busy/t/last").await;
        steady.seen
    });
    let (stop, count) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let writing = tokio::spawn(write(server.client.clone(), stop.clone(), count.clone()));

    let (mut resuming, mut states, mut ended) = (Watched::new(), Vec::new(), Vec::new());
    let mut round = 0;
    while round < ROUNDS || !is_enough(count.load(SeqCst)).await {
        let request = v1::WatchRequest { resume_token: resuming.resume().into(), ..of("busy") };
        let mut watching = Watching::resumed(server, request, resuming).await;
        let (_, snapshot) = watching.synced().await;
        states.push((snapshot.end_offset, watching.seen.clone()));
        watching.until(|_| true).await;
        if round % 2 == 1 {
            watching.bookmark().await;
            watching.until(|_| true).await;
        }
        resuming = watching.seen;
        ended.push(resuming.clone());

        let mut starting = Watching::start(server, of("busy")).await;
        let (_, snapshot) = starting.synced().await;
        states.push((snapshot.end_offset, starting.seen.clone()));
        while starting.seen.changes() < FOLLOWS {
            starting.until(|_| true).await;
        }
        ended.push(starting.seen);
        round += 1;
    }

    stop.cancel();
    let written = writing.await.expect("each write is acknowledged");
    let steady = following.await.expect("a watch goes on");
    states.push((i64::MAX, steady.clone()));
    ended.push(steady);
    Busy { written, states, ended }
}

async fn write(mut client: Client, stop: CancellationToken, count: Arc<AtomicUsize>) -> Vec<Written> {
    let (mut random, mut written) = (Random::new(7), Vec::new());
    for round in 0.. {
        let stops = stop.is_cancelled();
        let key = match round % 2 {
            _ if stops => "busy/t/last".to_owned(),
            // A later write of the same key would hide that this one is missing.
            0 => format!("busy/t/once-{round}"),
            _ => format!("busy/t/{}", random.below(KEYS)),
        };
        let value = (stops || random.below(4) > 0).then(|| round.to_string());
        let position = match &value {
            Some(value) => {
                let raw = v1::set_request::Value::Raw(Bytes::copy_from_slice(value.as_bytes()));
                let request = v1::SetRequest { changelog_id: key.clone(), value: Some(raw), ..Default::default() };
                client.set(request).await.expect("a set").into_inner().position
            }
            None => {
                let request = v1::DeleteRequest { changelog_id: key.clone(), ..Default::default() };
                client.delete(request).await.expect("a delete").into_inner().position
            }
        };
        written.push(Written { key, value, offset: position.map(|position| position.offset) });
        count.store(written.len(), SeqCst);
        if stops {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    written
}

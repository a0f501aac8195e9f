//! Watches over a simulated log that follow for a while, break and resume by token. At each `Synced` and each bookmark
//! the client has all that was acknowledged before, and nothing else, or it has got an error that tells it to start
//! again.

use std::{collections::HashSet, ops::AddAssign, sync::Arc, time::Duration};

use changelog_core::{
    changelog::{Changelog, Limits, LoadError, Metrics, Peer, Snapshot, TokenError, Watch, WatchEvent, WatchRequest},
    log::ReadError,
    model::{Record, WorkspaceId},
};
use changelogd_testkit::{SnapshotFacts, Watched};
use tokio::time::Instant;

use super::{
    FOUND,
    check::{check_state, check_state_below, check_written},
    faults::Fault,
    partition_log::{Kind, Millis},
    resume::simulated_log,
    rng::Rng,
    seeds,
    world::{FollowFor, SharedWorld, World},
};

/// What happened to the watches of one world.
#[derive(Default, Debug)]
struct Counts {
    synced: u64,
    /// Bookmarks of watches that followed.
    bookmarks: u64,
    resumed: u64,
    /// The part of `resumed` whose token was that of a bookmark.
    resumed_from_bookmark: u64,
    started_again: u64,
    changes: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.synced += other.synced;
        self.bookmarks += other.bookmarks;
        self.resumed += other.resumed;
        self.resumed_from_bookmark += other.resumed_from_bookmark;
        self.started_again += other.started_again;
        self.changes += other.changes;
    }
}

/// The client of a watch.
struct Client {
    seen: Watched,
    /// Its newest token is that of a bookmark.
    has_bookmark: bool,
    counts: Counts,
}

/// One call of a client.
struct Attempt<'a> {
    world: &'a SharedWorld,
    /// The topic and the partition of the watch.
    of: (u64, i32),
    /// When the replay was requested that delivers now.
    requested_at: Millis,
    /// Everything below this offset must have come.
    read_to: i64,
    client: &'a mut Client,
}

/// One watch, until it breaks or `stop_after` events have come.
async fn attempt(
    world: &SharedWorld,
    changelog: &Changelog,
    workspace: &str,
    client: &mut Client,
    stop_after: u64,
) -> Result<Option<LoadError>, String> {
    let (requested_at, topic) = (world.borrow().now, world.borrow().topic);
    let request = WatchRequest {
        workspace: WorkspaceId::parse(workspace).expect("a workspace"),
        types: HashSet::new(),
        resume_token: client.seen.resume().into(),
    };
    let had_token = !request.resume_token.is_empty();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut watch: Watch = match changelog.watch(request, Peer::default(), deadline).await {
        Ok(watch) => watch,
        Err(error) => return Ok(Some(error)),
    };
    let of = (topic, watch.partition().number());
    let was_bookmark = client.has_bookmark;
    let mut attempt = Attempt { world, of, requested_at, read_to: 0, client };
    for _ in 0..stop_after {
        let event = match watch.next().await.expect("a watch has no end") {
            Ok(event) => event,
            Err(error) => return Ok(Some(error)),
        };
        let is_synced = matches!(event, WatchEvent::State(_) | WatchEvent::Synced(_));
        attempt.take(event)?;
        if is_synced && had_token {
            attempt.client.counts.resumed += 1;
            attempt.client.counts.resumed_from_bookmark += u64::from(was_bookmark);
        }
    }
    Ok(None)
}

impl Attempt<'_> {
    fn take(&mut self, event: WatchEvent) -> Result<(), String> {
        match event {
            WatchEvent::Batch { records, .. } => self.entries(&records),
            WatchEvent::State(load) => {
                self.entries(load.records())?;
                self.synced(&load.snapshot)?;
                // The changes are asked for next.
                self.requested_at = self.world.borrow().now;
                Ok(())
            }
            WatchEvent::Synced(snapshot) => self.synced(&snapshot),
            WatchEvent::Bookmark(token) => {
                self.client.seen.bookmark(&token)?;
                self.client.has_bookmark = true;
                self.client.counts.bookmarks += 1;
                self.check_changes()
            }
        }
    }

    fn entries(&mut self, records: &[Record]) -> Result<(), String> {
        for record in records {
            let key = std::str::from_utf8(&record.key).expect("a key");
            let value = record.value.as_ref().map(|value| std::str::from_utf8(value).expect("a value"));
            self.client.seen.entry(key, record.offset, value)?;
            self.read_to = self.read_to.max(record.offset + 1);
        }
        check_written(&self.world.borrow(), self.of, self.requested_at, &self.client.seen.state())
    }

    fn synced(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let Snapshot { end, entries, tombstones, resume_token } = snapshot;
        self.client.seen.synced(SnapshotFacts {
            start: end.start,
            end: end.end,
            records_read: end.counts.read,
            entries: *entries,
            tombstones: *tombstones,
            token: resume_token,
        })?;
        self.read_to = end.end;
        self.client.has_bookmark = false;
        self.client.counts.synced += 1;
        self.check_now()
    }

    /// Changes have no end. Up to the last of them nothing is missing.
    fn check_changes(&self) -> Result<(), String> {
        let (world, state) = (self.world.borrow(), self.client.seen.state());
        check_state_below(&world, self.of, self.read_to, self.requested_at, world.delivered_at, &state)
    }

    fn check_now(&self) -> Result<(), String> {
        let world = self.world.borrow();
        check_state(&world, self.of, self.requested_at, world.delivered_at, &self.client.seen.state())
    }
}

/// Changes the leader when no watch runs, more often than a world does by itself. A truncated log may have grown to the
/// place of a token again, and hardly beyond it.
fn change_leader(world: &mut World, rng: &mut Rng) {
    if world.faults.contains(&Fault::Elected) && rng.one_in(2) {
        world.partitions.get_mut(&0).expect("a partition").elect();
    }
    if world.faults.contains(&Fault::Truncated) && rng.one_in(2) {
        let (low, high) = (world.partitions[&0].low, world.partitions[&0].high);
        let cut = (high - 1 - rng.below(8) as i64).max(low);
        world.truncate(0, cut);
        for _ in 0..(high - cut) as u64 + rng.below(3) {
            world.write(0, Kind::Plain);
        }
    }
}

/// With `follows` the log is followed for some time after the state.
async fn run_seed(seed: u64, follows: bool) -> Result<Counts, String> {
    let mut rng = Rng::new(!seed);
    let possible = [Fault::OpenTransaction, Fault::Deleted, Fault::Truncated, Fault::Recreated, Fault::Frozen];
    let mut faults: Vec<_> = possible.into_iter().filter(|_| rng.one_in(4)).collect();
    // Chosen apart, so that the other choices of a seed stay.
    if Rng::new(seed ^ 0xe1ec).one_in(2) {
        faults.push(Fault::Elected);
    }
    let mut following = Rng::new(seed ^ 0xf0_110e);
    let may_lose = faults.iter().any(|f| matches!(f, Fault::Deleted | Fault::Truncated | Fault::Recreated));
    let mut world = World::new(seed, faults);
    world.delete_retention = 86_400_000;
    world.aborts = follows;
    let workspace = world.workspace_of_partition(0);
    let world = SharedWorld::new(world);
    let process = || Changelog::new(Arc::new(simulated_log(&world)), Limits::for_tests(), Metrics::default());
    let seen = if may_lose { Watched::of_a_log_that_may_lose() } else { Watched::new() };
    let mut client = Client { seen, has_bookmark: false, counts: Counts::default() };
    let mut changelog = process();
    for _ in 0..8 {
        for _ in 0..rng.below(40) {
            let took = rng.pick(&[0, 1, 20, 200]);
            world.borrow_mut().step(took);
        }
        if rng.one_in(4) {
            changelog = process();
        }
        if follows {
            change_leader(&mut world.borrow_mut(), &mut following);
            let at_least = following.pick(&[0, 6_000, 15_000, 40_000, 90_000]);
            world.borrow_mut().follow_for = Some(FollowFor { at_least, until_progress: following.one_in(2) });
        }
        let stop_after = if rng.one_in(3) { rng.below(6) } else { u64::MAX };
        let error = attempt(&world, &changelog, &workspace, &mut client, stop_after).await?;
        if let Some(
            error @ (LoadError::Token(TokenError::Resync(_))
            | LoadError::Read(ReadError::Truncated { .. } | ReadError::Moved { .. })),
        ) = error
        {
            let moved = matches!(error, LoadError::Read(ReadError::Moved { .. }));
            if !may_lose && !moved {
                return Err(format!("nothing was lost, and the client must start again: {error}"));
            }
            client.counts.started_again += 1;
            client.seen.start_again();
        }
    }
    client.counts.changes = client.seen.changes();
    Ok(client.counts)
}

/// Covers C71, C49, R1, R4, R14, R37, R40, R67.
#[test]
fn in_every_simulated_world_a_watch_misses_nothing_or_must_start_again() {
    // The clock of tokio moves only as the world's does, so that bookmarks are due.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let seeds = seeds();
    let (count, mut all) = (seeds.end - seeds.start, Counts::default());
    for seed in seeds.chain(FOUND) {
        for follows in [false, true] {
            match runtime.block_on(run_seed(seed, follows)) {
                Ok(counts) => all += counts,
                Err(error) => {
                    let how = if follows { "following" } else { "not following" };
                    panic!("seed {seed}, {how} (CHANGELOGD_TEST_SEED={seed} runs it again): {error}")
                }
            }
        }
    }
    println!("{all:?} over {count} seeds");
    let Counts { resumed, resumed_from_bookmark, started_again, changes, .. } = all;
    let enough = resumed > count && resumed_from_bookmark > count && started_again > count / 10 && changes > 10 * count;
    assert!(enough || count < 10, "{all:?} prove nothing");
}

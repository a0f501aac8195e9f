//! Replays over a simulated cluster: the code that reads a real cluster, in worlds that are each made from a seed.
//!
//! `CHANGELOGD_TEST_SEEDS` sets the number of worlds (200), and `CHANGELOGD_TEST_FIRST_SEED` the seed of the first (0).
//! `CHANGELOGD_TEST_SEED` runs one of them again.

mod broker;
mod check;
mod faults;
mod load;
mod partition_log;
mod resume;
mod rng;
mod rules;
mod throttle;
mod watch;
mod world;

use std::{collections::HashMap, ops::Range, time::Duration};

use changelog_core::log::ReadError;

use self::{
    check::check,
    faults::{FAULTS, Fault},
    load::{DEADLINE, NO_PROGRESS, load},
    rng::Rng,
    world::{SharedWorld, World},
};

/// Runs one world: a few loads, with events before, between and during them.
fn run_seed(seed: u64) -> Result<(bool, Vec<Fault>), String> {
    let mut rng = Rng::new(!seed);
    let mut faults: Vec<_> = FAULTS.into_iter().filter(|_| rng.one_in(5)).collect();
    if rng.one_in(4) {
        faults.clear();
    }
    let world = SharedWorld::new(World::new(seed, faults.clone()));
    let mut whole = false;
    for _ in 0..3 {
        for _ in 0..rng.below(80) {
            let took = rng.pick(&[0, 1, 20, 200]);
            world.borrow_mut().step(took);
        }
        if !faults.contains(&Fault::OpenTransaction) {
            world.borrow_mut().settle();
        }
        if world.borrow().count != world.borrow().partitions.len() as i64 {
            // The topic has grown, so a load of it would find misplaced records.
            break;
        }
        let outcome = load(&world);
        let world = world.borrow();
        check(&world, &outcome).map_err(|e| {
            let (lag, retention) = (world.min_compaction_lag, world.delete_retention);
            format!("{e}; lag {lag} ms, retention {retention} ms, {faults:?}, ends {:?}", outcome.ends)
        })?;
        let took = Duration::from_millis(world.now - outcome.requested_at);
        if took > DEADLINE + 3 * NO_PROGRESS {
            return Err(format!("it took {took:?}"));
        }
        match &outcome.error {
            None if outcome.ends.len() != outcome.high_watermarks.len() => {
                return Err(format!("it ended without error and without all ends: {:?}", outcome.ends));
            }
            None => whole = true,
            // A world that writes faster than it is read, or purges tombstones at once, may outrun a reader. A
            // transaction may be open for longer than the replay waits.
            Some(ReadError::Moved { .. } | ReadError::OpenTransaction { .. }) => {}
            // A deadline is.
            Some(error @ ReadError::NoProgress { .. }) if faults == [Fault::Throttled] => {
                return Err(format!("a throttled broker is no stalled one: {error}"));
            }
            Some(error) if faults.is_empty() => return Err(format!("without any fault: {error}")),
            Some(_) => {}
        }
    }
    Ok((whole, faults))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn seeds() -> Range<u64> {
    if let Some(seed) = number("CHANGELOGD_TEST_SEED") {
        return seed..seed + 1;
    }
    let first = number("CHANGELOGD_TEST_FIRST_SEED").unwrap_or(0);
    first..first + number("CHANGELOGD_TEST_SEEDS").unwrap_or(200)
}

/// Worlds in which a test once failed. In the first a resumed reader missed a write: a log with nothing but aborted
/// records was truncated, and grew again. In the second the check was wrong: a truncated topic was created again. In
/// the third such a log had the changes of a watch below the end of its state. In the fourth a token had the offset
/// above aborted records and the epoch of a record below them, so an election looked like a truncation. In the fifth it
/// had the epoch of a later leader, so a truncation was not noticed.
const FOUND: [u64; 5] = [1_795_782_112_374, 1_795_782_297_025, 3_064, 29, 1_651];

/// Covers C42, C43, R1, R4, R6, R15, R16, R37, R40, R49.
#[test]
fn in_every_simulated_world_a_load_is_whole_or_an_error() {
    let seeds = seeds();
    let (first, count) = (seeds.start, seeds.end - seeds.start);
    let (mut whole, mut seen) = (0, HashMap::<Fault, u64>::new());
    for seed in seeds.chain(FOUND) {
        match std::panic::catch_unwind(|| run_seed(seed)) {
            Ok(Ok((loaded, faults))) => {
                whole += u64::from(loaded);
                for fault in faults {
                    *seen.entry(fault).or_default() += 1;
                }
            }
            Ok(Err(error)) => panic!("seed {seed} (CHANGELOGD_TEST_SEED={seed} runs it again): {error}"),
            Err(panic) => {
                println!("seed {seed} panicked (CHANGELOGD_TEST_SEED={seed} runs it again)");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("simulation: {count} seeds from {first}, {whole} with a whole load");
    // One world alone may rightly end with an error.
    assert!(count == 1 || whole * 2 > count, "hardly any load succeeds, which proves nothing: {whole} of {count}");
    assert!(count < 200 || seen.len() == FAULTS.len(), "every fault is seen: {seen:?}");
}

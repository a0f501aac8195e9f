//! Brokers that delay their answers by a quota.

use std::time::Duration;

use changelog_core::log::ReadError;

use super::{
    super::limits::StopReason,
    load::{DEADLINE, NO_PROGRESS, load},
    partition_log::{Kind, Millis},
    rules::{fill, still, stopped_following, whole},
};

/// Covers R49.
#[test]
fn a_throttled_load_is_late_and_whole() {
    let world = still(1);
    fill(&world, 10);
    world.borrow_mut().throttled_until = 4 * NO_PROGRESS.as_millis() as Millis;
    let outcome = whole(&world);
    let took = Duration::from_millis(world.borrow().now - outcome.requested_at);
    assert!(took > 4 * NO_PROGRESS, "{took:?}");
}

/// Covers R6, R49.
#[test]
fn a_log_that_stalls_after_it_was_throttled_is_an_error() {
    let world = still(1);
    fill(&world, 10);
    world.borrow_mut().throttled_until = 2 * NO_PROGRESS.as_millis() as Millis;
    world.borrow_mut().partitions.get_mut(&0).unwrap().lag = Some((4, u64::MAX));
    let outcome = load(&world);
    let took = Duration::from_millis(world.borrow().now - outcome.requested_at);
    assert!(matches!(outcome.error, Some(ReadError::NoProgress { .. })), "{:?}", outcome.error);
    assert!((3 * NO_PROGRESS..3 * NO_PROGRESS + Duration::from_secs(1)).contains(&took), "{took:?}");
}

/// Covers R49.
#[test]
fn a_load_that_is_throttled_to_its_deadline_says_how_far_it_came() {
    let world = still(1);
    fill(&world, 10);
    world.borrow_mut().throttled_until = 2 * DEADLINE.as_millis() as Millis;
    let outcome = load(&world);
    let error = outcome.error.expect("the deadline");
    assert!(matches!(error, ReadError::Deadline { position: 0, end: 10, .. }), "{error:?}");
}

/// Covers C31, R49.
#[test]
fn a_follower_that_is_throttled_is_not_a_stalled_log() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        world.throttled_until = world.now + 90_000;
        world.partitions.get_mut(&0).unwrap().delivers_nothing = true;
        world.put(0, Kind::Plain, "w/t/late".to_owned(), Some(1));
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::NoProgress { .. })), "{stop:?}");
    assert!((Duration::from_secs(150)..Duration::from_secs(170)).contains(&after), "{after:?}");
}

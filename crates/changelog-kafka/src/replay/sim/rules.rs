//! One rule per test, in worlds where nothing else happens.

use std::{sync::Arc, time::Duration};

use changelog_core::{
    log::{Follow, ReadError, ReplayRequest, Selection, StartAt, Topic, TopicProblem},
    model::Partition,
};

use super::{
    super::{
        limits::{ReplayLimits, StopReason},
        range,
        reader::ReplayReader,
    },
    broker::SimulatedCluster,
    check::check,
    faults::Fault,
    load::{DEADLINE, NO_PROGRESS, Outcome, load},
    partition_log::{Kind, Millis},
    world::{SharedWorld, World},
};

pub fn still(count: i64) -> SharedWorld {
    SharedWorld::new(World::still(count))
}

pub fn put(world: &SharedWorld, key: &str, value: Option<u64>) -> i64 {
    world.borrow_mut().put(0, Kind::Plain, key.to_owned(), value)
}

/// Writes this many keys once each.
pub fn fill(world: &SharedWorld, keys: u64) {
    for n in 0..keys {
        put(world, &format!("w/t/{n}"), Some(n));
    }
}

/// Reads the only partition. `meanwhile` runs between the end offset and the first record.
fn stopped(world: &SharedWorld, meanwhile: impl FnOnce(&mut World), topic: Arc<Topic>) -> StopReason {
    stopped_from(world, StartAt::Low, meanwhile, topic)
}

pub fn stopped_from(
    world: &SharedWorld,
    start: StartAt,
    meanwhile: impl FnOnce(&mut World),
    topic: Arc<Topic>,
) -> StopReason {
    let mut cluster = SimulatedCluster::new(world, &topic);
    let request = request(world, topic, start, Follow::No);
    let ranges = range::resolve_ranges(&mut cluster, &request, NO_PROGRESS).unwrap();
    meanwhile(&mut world.borrow_mut());
    let mut reader = ReplayReader::new(cluster, request, ranges, LIMITS, Box::new(|_, _, _| {}));
    reader.read(&mut None).expect_err("it is not whole")
}

/// Follows every partition, and runs `action` when this many ends were reported. Returns how the replay stopped, and
/// how long after that.
fn stopped_following_after(
    ends: usize,
    world: &SharedWorld,
    action: impl FnOnce(&mut World) + Send + 'static,
) -> (StopReason, Duration) {
    let topic = world.borrow().described();
    let mut cluster = SimulatedCluster::new(world, &topic);
    cluster.after_ends = Some((ends, Box::new(action)));
    let request = request(world, topic, StartAt::Low, Follow::AfterEnds);
    let ranges = range::resolve_ranges(&mut cluster, &request, NO_PROGRESS).unwrap();
    let mut reader = ReplayReader::new(cluster, request, ranges, LIMITS, Box::new(|_, _, _| {}));
    let stop = reader.read(&mut None).expect_err("it follows until something happens");
    let completed_at = reader.cluster.ends[ends - 1].1;
    (stop, Duration::from_millis(world.borrow().now - completed_at))
}

pub fn stopped_following(
    world: &SharedWorld,
    after_end: impl FnOnce(&mut World) + Send + 'static,
) -> (StopReason, Duration) {
    stopped_following_after(1, world, after_end)
}

pub const LIMITS: ReplayLimits = ReplayLimits {
    open_transaction_wait: NO_PROGRESS,
    no_progress: NO_PROGRESS,
    min_compaction_lag: Duration::from_secs(60),
    delete_retention: Duration::from_secs(86_400),
};

pub fn request(world: &SharedWorld, topic: Arc<Topic>, start: StartAt, follow: Follow) -> ReplayRequest {
    ReplayRequest {
        selection: Selection::all(topic.partition_count),
        partitions: topic.partition_count.all().map(|p| (p, start)).collect(),
        topic,
        follow,
        owned_records: false,
        deadline: (world.borrow().instant() + DEADLINE).into(),
    }
}

/// Loads a world with one partition, and checks the outcome.
pub fn whole(world: &SharedWorld) -> Outcome {
    let outcome = load(world);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.ends.len(), 1);
    check(&world.borrow(), &outcome).unwrap();
    outcome
}

/// Covers C42, R1.
#[test]
fn every_load_takes_its_end_after_the_request() {
    let world = still(1);
    for n in 0..10 {
        let offset = put(&world, &format!("w/t/{n}"), Some(n));
        assert_eq!(whole(&world).ends[0].0.end, offset + 1);
    }
}

/// Covers R2.
#[test]
fn a_load_ends_at_its_last_record_without_another_poll() {
    let world = still(1);
    fill(&world, 10);
    assert_eq!(whole(&world).records.len(), 10);
    assert_eq!(world.borrow().polls, 10);
}

/// Covers R3, F9.
#[test]
fn markers_aborted_batches_and_holes_at_the_tail_are_an_end() {
    for commit in [true, false] {
        let world = still(1);
        put(&world, "w/t/a", Some(1));
        let number = world.borrow_mut().open(0);
        world.borrow_mut().end(0, number, commit);
        let outcome = whole(&world);
        assert_eq!((outcome.records.len(), outcome.ends[0].0.end), (1 + usize::from(commit), 3));
        // The cleaner removes the aborted records and leaves a hole before the marker.
        world.borrow_mut().now += 120_000;
        world.borrow_mut().clean(0);
        assert_eq!(whole(&world).ends[0].0.end, 3);
    }
}

/// Covers R3, R4, F8.
#[test]
fn records_behind_an_open_transaction_are_waited_for_or_an_error() {
    let world = still(1);
    put(&world, "w/t/a", Some(1));
    let number = world.borrow_mut().open(0);
    put(&world, "w/t/b", Some(2));
    let outcome = load(&world);
    let partition = Partition::new(0).unwrap();
    assert_eq!(outcome.error, Some(ReadError::OpenTransaction { partition, last_stable: 1, high: 3 }));
    assert!(outcome.ends.is_empty());
    world.borrow_mut().end(0, number, false);
    assert_eq!(whole(&world).records.len(), 2);
}

/// Covers R5.
#[test]
fn empty_partitions_need_no_consumer() {
    let world = still(64);
    let outcome = load(&world);
    assert_eq!((outcome.error, outcome.ends.len()), (None, 64));
    assert_eq!(world.borrow().consumers, 0);
}

/// Covers R6, R7.
#[test]
fn an_end_event_below_the_end_is_ignored() {
    let world = still(1);
    fill(&world, 10);
    // A new leader lags, and catches up.
    world.borrow_mut().partitions.get_mut(&0).unwrap().lag = Some((4, 3_000));
    assert_eq!(whole(&world).records.len(), 10);
    // A new leader lags, and never catches up.
    world.borrow_mut().partitions.get_mut(&0).unwrap().lag = Some((4, u64::MAX));
    let outcome = load(&world);
    assert!(matches!(outcome.error, Some(ReadError::NoProgress { .. })), "{:?}", outcome.error);
    assert!(outcome.ends.is_empty());
}

/// Covers R6, R7.
#[test]
fn no_progress_is_an_error_at_its_deadline() {
    let world = still(1);
    fill(&world, 10);
    world.borrow_mut().partitions.get_mut(&0).unwrap().lag = Some((4, u64::MAX));
    let outcome = load(&world);
    let took = Duration::from_millis(world.borrow().now - outcome.requested_at);
    assert!(matches!(outcome.error, Some(ReadError::NoProgress { .. })), "{:?}", outcome.error);
    assert!((NO_PROGRESS..NO_PROGRESS + Duration::from_secs(1)).contains(&took), "{took:?}");
}

/// Covers R6, R7, R14, F13.
#[test]
fn a_log_that_became_shorter_is_an_error_at_once() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let cut = |world: &mut World| {
        let log = world.partitions.get_mut(&0).unwrap();
        log.slots.truncate(5);
        (log.high, log.epoch) = (5, 1);
    };
    let stop = stopped(&world, cut, topic);
    assert!(matches!(stop, StopReason::Failed(ReadError::Truncated { .. })), "{stop:?}");
}

/// Covers C31.
#[test]
fn a_follower_that_receives_no_new_records_gets_an_error() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        world.partitions.get_mut(&0).unwrap().delivers_nothing = true;
        world.put(0, Kind::Plain, "w/t/late".to_owned(), Some(1));
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::NoProgress { .. })), "{stop:?}");
    assert!((Duration::from_secs(60)..Duration::from_secs(80)).contains(&after), "{after:?}");
}

/// The time in which the caller took nothing does not count.
/// Covers C31.
#[test]
fn a_follower_whose_client_stalls_is_not_a_stalled_log() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        world.partitions.get_mut(&0).unwrap().delivers_nothing = true;
        world.put(0, Kind::Plain, "w/t/late".to_owned(), Some(1));
        world.stall = Some((world.now + 20_000, world.now + 90_000));
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::NoProgress { .. })), "{stop:?}");
    assert!((Duration::from_secs(150)..Duration::from_secs(170)).contains(&after), "{after:?}");
}

/// One of two partitions goes on, and the leader of the other does not answer.
/// Covers C31.
#[test]
fn a_follower_gets_an_error_when_one_partition_cannot_be_read() {
    let world = still(2);
    for partition in 0..2 {
        world.borrow_mut().put(partition, Kind::Plain, "w/t/a".to_owned(), Some(1));
    }
    let (stop, after) = stopped_following_after(2, &world, |world| {
        world.quiet = false;
        world.partitions.get_mut(&1).unwrap().frozen_until = Millis::MAX;
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::Unreachable { .. })), "{stop:?}");
    assert!((Duration::from_secs(60)..Duration::from_secs(80)).contains(&after), "{after:?}");
}

/// One partition receives records after its end while the other delivers nothing.
/// Covers R7.
#[test]
fn records_of_a_finished_partition_are_no_progress_of_another() {
    let world = still(2);
    for n in 0..1_000 {
        world.borrow_mut().put(1, Kind::Plain, format!("w/t/{n}"), Some(1));
    }
    world.borrow_mut().put(0, Kind::Plain, "w/t/a".to_owned(), Some(1));
    let (stop, after) = stopped_following(&world, |world| {
        world.quiet = false;
        world.partitions.get_mut(&1).unwrap().delivers_nothing = true;
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::NoProgress { .. })), "{stop:?}");
    assert!((NO_PROGRESS..NO_PROGRESS + Duration::from_secs(5)).contains(&after), "{after:?}");
}

/// Covers R14, F13.
#[test]
fn a_follower_whose_log_became_shorter_gets_an_error() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        let log = world.partitions.get_mut(&0).unwrap();
        log.delivers_nothing = true;
        log.slots.truncate(5);
        (log.high, log.epoch) = (5, 1);
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::Truncated { .. })), "{stop:?}");
    assert!(after < Duration::from_secs(20), "{after:?}");
}

/// Covers R9, F11.
#[test]
fn a_load_slower_than_half_of_the_delete_retention_is_an_error() {
    let world = still(1);
    fill(&world, 2_000);
    {
        let mut world = world.borrow_mut();
        world.delete_retention = 2_000;
        world.faults = vec![Fault::SlowReader];
    }
    let outcome = load(&world);
    assert!(matches!(outcome.error, Some(ReadError::Moved { .. })), "{:?}", outcome.error);
    assert!(outcome.ends.is_empty());
}

/// Covers R9.
#[test]
fn a_topic_that_keeps_no_tombstones_is_refused_unless_nothing_is_to_be_read() {
    for retention in [0, 5, 999] {
        let world = still(1);
        world.borrow_mut().delete_retention = retention;
        whole(&world);
        fill(&world, 2_000);
        world.borrow_mut().faults = vec![Fault::SlowReader];
        let outcome = load(&world);
        let Some(ReadError::RetentionTooShort { retention_ms, .. }) = outcome.error else {
            panic!("{retention}: {:?}", outcome.error)
        };
        assert_eq!((retention_ms, outcome.ends.len()), (u128::from(retention), 0));
    }
}

/// Covers R9.
#[test]
fn a_load_that_is_faster_than_half_of_a_tiny_retention_is_served_with_its_records() {
    let loaded = |retention| {
        let world = still(1);
        fill(&world, 10);
        world.borrow_mut().delete_retention = retention;
        let outcome = load(&world);
        (outcome.error, outcome.records.len(), world.borrow().now - outcome.requested_at)
    };
    let (_, _, took) = loaded(86_400_000);
    let tiny = 2 * took + 2;
    assert!(tiny < 1_000, "{tiny} ms");
    assert_eq!(loaded(tiny), (None, 10, took));
    assert!(matches!(loaded(took / 2).0, Some(ReadError::RetentionTooShort { .. })));
}

/// Covers R14, F12.
#[test]
fn records_deleted_before_they_are_read_are_an_error() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let stop = stopped(&world, |world| world.partitions.get_mut(&0).unwrap().low = 8, topic);
    assert!(matches!(stop, StopReason::Failed(ReadError::Truncated { .. })), "{stop:?}");
}

/// Covers R15, F15.
#[test]
fn a_load_of_a_topic_that_is_recreated_is_an_error() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let stop = stopped(&world, |world| world.topic += 1, topic);
    assert!(matches!(stop, StopReason::Failed(ReadError::Topic(TopicProblem::Recreated { .. }))), "{stop:?}");
}

/// Covers R16, F16.
#[test]
fn a_load_of_a_topic_that_grows_is_an_error() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let stop = stopped(&world, |world| world.count += 1, topic);
    assert!(
        matches!(stop, StopReason::Failed(ReadError::Topic(TopicProblem::PartitionCountChanged { .. }))),
        "{stop:?}"
    );
}

/// The key is superseded above the end during the load, and the cleaner removes the record below it.
/// Covers R40, F10.
#[test]
fn a_key_that_the_cleaner_removes_during_a_load_is_still_in_it() {
    let world = still(1);
    fill(&world, 600);
    {
        let mut world = world.borrow_mut();
        world.min_compaction_lag = 50;
        world.faults = vec![Fault::SlowReader];
        world.overwrite = Some("w/t/599".to_owned());
    }
    let outcome = whole(&world);
    assert!(outcome.records.iter().any(|(_, r)| &r.key[..] == b"w/t/599"));
}

/// The cleaner follows a lowered lag at once, so a load must not rely on the earlier value.
/// Covers R40, F10.
#[test]
fn a_compaction_lag_lowered_during_a_load_applies_to_it() {
    let world = still(1);
    fill(&world, 600);
    {
        let mut world = world.borrow_mut();
        world.faults = vec![Fault::SlowReader];
        world.overwrite = Some("w/t/599".to_owned());
        world.lowered_lag = Some(50);
    }
    let outcome = whole(&world);
    assert!(outcome.records.iter().any(|(_, r)| &r.key[..] == b"w/t/599"));
}

/// Covers C31.
#[test]
fn a_follower_behind_an_open_transaction_gets_an_error_after_a_minute() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        world.open(0);
        world.put(0, Kind::Plain, "w/t/hidden".to_owned(), Some(1));
    });
    assert!(matches!(stop, StopReason::Failed(ReadError::OpenTransaction { .. })), "{stop:?}");
    assert!((Duration::from_secs(60)..Duration::from_secs(80)).contains(&after), "{after:?}");
}

/// Both partitions get a record when the ends are taken and nothing has been read.
/// Covers C27.
#[test]
fn the_ends_of_all_partitions_are_taken_before_the_first_record() {
    let world = still(2);
    let put_in_both = |key: &str| {
        for partition in 0..2 {
            world.borrow_mut().put(partition, Kind::Plain, key.to_owned(), Some(1));
        }
    };
    put_in_both("w/t/a");
    let topic = world.borrow().described();
    let mut cluster = SimulatedCluster::new(&world, &topic);
    let request = request(&world, topic, StartAt::Low, Follow::No);
    let ranges = range::resolve_ranges(&mut cluster, &request, NO_PROGRESS).unwrap();
    put_in_both("w/t/later");
    let mut reader = ReplayReader::new(cluster, request, ranges, LIMITS, Box::new(|_, _, _| {}));
    reader.read(&mut None).expect("it is whole");
    let ends: Vec<_> = reader.cluster.ends.iter().map(|(end, ..)| end.end).collect();
    assert_eq!(ends, [1, 1]);
}

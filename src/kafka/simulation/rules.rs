//! One rule a test, in worlds where nothing else happens.

use super::*;

fn still(count: i64) -> Shared {
    Shared::new(World::still(count))
}

fn put(world: &Shared, key: &str, value: Option<u64>) -> i64 {
    world.borrow_mut().put(0, Kind::Plain, key.to_owned(), value)
}

/// So many keys, once each, from offset 0 on.
fn fill(world: &Shared, keys: u64) {
    for n in 0..keys {
        put(world, &format!("w/t/{n}"), Some(n));
    }
}

/// Reads the only partition, after something has happened between its end offset and its first record.
fn stopped(world: &Shared, meanwhile: impl FnOnce(&mut World), topic: Arc<Topic>) -> Stop {
    stopped_from(world, StartAt::Low, meanwhile, topic)
}

fn stopped_from(world: &Shared, start: StartAt, meanwhile: impl FnOnce(&mut World), topic: Arc<Topic>) -> Stop {
    let mut cluster = SimulatedCluster::new(world, &topic);
    let request = request(world, topic, start, false);
    let spans = span::spans(&mut cluster, &request, NO_PROGRESS).unwrap();
    meanwhile(&mut world.borrow_mut());
    let mut reading = Reading::new(cluster, request, spans, BOUNDS, Box::new(|_, _, _| {}));
    reading.read(&mut None).expect_err("it is not whole")
}

/// Follows every partition, with something happening when so many have said their ends. How it stopped, and after how long.
fn stopped_following_after(
    ends: usize,
    world: &Shared,
    happens: impl FnOnce(&mut World) + Send + 'static,
) -> (Stop, Duration) {
    let topic = world.borrow().described();
    let mut cluster = SimulatedCluster::new(world, &topic);
    cluster.after_ends = Some((ends, Box::new(happens)));
    let request = request(world, topic, StartAt::Low, true);
    let spans = span::spans(&mut cluster, &request, NO_PROGRESS).unwrap();
    let mut reading = Reading::new(cluster, request, spans, BOUNDS, Box::new(|_, _, _| {}));
    let stop = reading.read(&mut None).expect_err("it follows until something happens");
    let said = reading.cluster.ends[ends - 1].1;
    (stop, Duration::from_millis(world.borrow().now - said))
}

fn stopped_following(world: &Shared, after_end: impl FnOnce(&mut World) + Send + 'static) -> (Stop, Duration) {
    stopped_following_after(1, world, after_end)
}

const BOUNDS: Bounds = Bounds {
    open_transaction_wait: NO_PROGRESS,
    no_progress: NO_PROGRESS,
    min_compaction_lag: Duration::from_secs(60),
    delete_retention: Duration::from_secs(86_400),
};

fn request(world: &Shared, topic: Arc<Topic>, start: StartAt, follow: bool) -> ReplayRequest {
    ReplayRequest {
        selection: Selection::all(topic.partition_count),
        partitions: topic.partition_count.all().map(|p| (p, start)).collect(),
        topic,
        follow,
        owned_records: false,
        deadline: (world.borrow().instant() + DEADLINE).into(),
    }
}

/// Of a world with one partition.
fn whole(world: &Shared) -> Outcome {
    let outcome = load(world);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.ends.len(), 1);
    check(&world.borrow(), &outcome).unwrap();
    outcome
}

#[test]
fn r1_every_load_takes_its_end_after_it_was_asked_for() {
    let world = still(1);
    for n in 0..10 {
        let offset = put(&world, &format!("w/t/{n}"), Some(n));
        assert_eq!(whole(&world).ends[0].0.end, offset + 1);
    }
}

#[test]
fn r2_a_load_ends_with_the_record_at_its_end_and_asks_for_nothing_after_it() {
    let world = still(1);
    fill(&world, 10);
    assert_eq!(whole(&world).records.len(), 10);
    assert_eq!(world.borrow().polls, 10);
}

#[test]
fn r3_markers_aborted_batches_and_holes_at_the_tail_are_an_end() {
    for commit in [true, false] {
        let world = still(1);
        put(&world, "w/t/a", Some(1));
        let number = world.borrow_mut().open(0);
        world.borrow_mut().end(0, number, commit);
        let outcome = whole(&world);
        assert_eq!((outcome.records.len(), outcome.ends[0].0.end), (1 + usize::from(commit), 3));
        // What was aborted goes, and leaves a hole before the marker.
        world.borrow_mut().now += 120_000;
        world.borrow_mut().clean(0);
        assert_eq!(whole(&world).ends[0].0.end, 3);
    }
}

#[test]
fn r4_records_behind_an_open_transaction_are_waited_for_or_named() {
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

#[test]
fn r5_empty_partitions_are_answered_without_a_consumer() {
    let world = still(64);
    let outcome = load(&world);
    assert_eq!((outcome.error, outcome.ends.len()), (None, 64));
    assert_eq!(world.borrow().consumers, 0);
}

#[test]
fn r6_an_end_event_below_the_end_is_none() {
    let world = still(1);
    fill(&world, 10);
    // A new leader that lags, and catches up.
    world.borrow_mut().parts.get_mut(&0).unwrap().lag = Some((4, 3_000));
    assert_eq!(whole(&world).records.len(), 10);
    // One that does not.
    world.borrow_mut().parts.get_mut(&0).unwrap().lag = Some((4, u64::MAX));
    let outcome = load(&world);
    assert!(matches!(outcome.error, Some(ReadError::Unreachable { .. })), "{:?}", outcome.error);
    assert!(outcome.ends.is_empty());
}

#[test]
fn r7_no_progress_is_an_error_at_its_deadline() {
    let world = still(1);
    fill(&world, 10);
    world.borrow_mut().parts.get_mut(&0).unwrap().lag = Some((4, u64::MAX));
    let outcome = load(&world);
    let took = Duration::from_millis(world.borrow().now - outcome.asked);
    assert!(matches!(outcome.error, Some(ReadError::Unreachable { .. })), "{:?}", outcome.error);
    assert!((NO_PROGRESS..NO_PROGRESS + Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[test]
fn r7_a_log_that_went_back_is_truncated_and_not_waited_for() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let cut = |world: &mut World| {
        let part = world.parts.get_mut(&0).unwrap();
        part.slots.truncate(5);
        (part.high, part.epoch) = (5, 1);
    };
    let stop = stopped(&world, cut, topic);
    assert!(matches!(stop, Stop::Failed(ReadError::Truncated { .. })), "{stop:?}");
}

#[test]
fn r7_a_follower_that_gets_nothing_of_what_is_written_is_told_so() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        world.parts.get_mut(&0).unwrap().deaf = true;
        world.put(0, Kind::Plain, "w/t/late".to_owned(), Some(1));
    });
    assert!(matches!(stop, Stop::Failed(ReadError::Unreachable { .. })), "{stop:?}");
    assert!((Duration::from_secs(60)..Duration::from_secs(80)).contains(&after), "{after:?}");
}

/// The time in which its caller took nothing is the caller's.
#[test]
fn r7_a_follower_s_caller_who_stalls_is_not_taken_for_a_log_that_stands_still() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        world.parts.get_mut(&0).unwrap().deaf = true;
        world.put(0, Kind::Plain, "w/t/late".to_owned(), Some(1));
        world.stall = Some((world.now + 20_000, world.now + 90_000));
    });
    assert!(matches!(stop, Stop::Failed(ReadError::Unreachable { .. })), "{stop:?}");
    assert!((Duration::from_secs(150)..Duration::from_secs(170)).contains(&after), "{after:?}");
}

/// Of two partitions the one goes on, and the other's leader is gone.
#[test]
fn r7_a_follower_is_told_of_the_one_partition_that_can_t_be_read() {
    let world = still(2);
    for partition in 0..2 {
        world.borrow_mut().put(partition, Kind::Plain, "w/t/a".to_owned(), Some(1));
    }
    let (stop, after) = stopped_following_after(2, &world, |world| {
        world.quiet = false;
        world.parts.get_mut(&1).unwrap().frozen_until = Millis::MAX;
    });
    assert!(matches!(stop, Stop::Failed(ReadError::Unreachable { .. })), "{stop:?}");
    assert!((Duration::from_secs(60)..Duration::from_secs(80)).contains(&after), "{after:?}");
}

/// What the one brings after its end is no progress of the other.
#[test]
fn r7_a_partition_that_is_done_does_not_keep_another_from_having_made_no_progress() {
    let world = still(2);
    for n in 0..1_000 {
        world.borrow_mut().put(1, Kind::Plain, format!("w/t/{n}"), Some(1));
    }
    world.borrow_mut().put(0, Kind::Plain, "w/t/a".to_owned(), Some(1));
    let (stop, after) = stopped_following(&world, |world| {
        world.quiet = false;
        world.parts.get_mut(&1).unwrap().deaf = true;
    });
    assert!(matches!(stop, Stop::Failed(ReadError::Unreachable { .. })), "{stop:?}");
    assert!((NO_PROGRESS..NO_PROGRESS + Duration::from_secs(5)).contains(&after), "{after:?}");
}

#[test]
fn r14_a_follower_whose_log_went_back_is_told_so() {
    let world = still(1);
    fill(&world, 10);
    let (stop, after) = stopped_following(&world, |world| {
        let part = world.parts.get_mut(&0).unwrap();
        part.deaf = true;
        part.slots.truncate(5);
        (part.high, part.epoch) = (5, 1);
    });
    assert!(matches!(stop, Stop::Failed(ReadError::Truncated { .. })), "{stop:?}");
    assert!(after < Duration::from_secs(20), "{after:?}");
}

#[test]
fn r9_a_load_slower_than_half_the_delete_retention_is_not_called_whole() {
    let world = still(1);
    fill(&world, 2_000);
    {
        let mut world = world.borrow_mut();
        world.delete_retention = 2_000;
        world.troubles = vec![Trouble::SlowReader];
    }
    let outcome = load(&world);
    assert!(matches!(outcome.error, Some(ReadError::Moved { .. })), "{:?}", outcome.error);
    assert!(outcome.ends.is_empty());
}

#[test]
fn r14_records_deleted_below_the_reader_are_no_silent_gap() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let stop = stopped(&world, |world| world.parts.get_mut(&0).unwrap().low = 8, topic);
    assert!(matches!(stop, Stop::Failed(ReadError::Truncated { .. })), "{stop:?}");
}

/// Cut, and grown again to the very offset at which a reader resumes: nothing but the leader epoch tells.
#[test]
fn r14_a_resumed_reader_at_an_end_that_was_cut_and_grew_again_is_told() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    {
        let mut world = world.borrow_mut();
        let part = world.parts.get_mut(&0).unwrap();
        part.slots.truncate(5);
        (part.high, part.epoch) = (5, 1);
        part.cuts.push((1, 5));
    }
    fill(&world, 5);
    let stop = stopped_from(&world, StartAt::Offset { offset: 10, leader_epoch: 0 }, |_| {}, topic);
    assert!(matches!(stop, Stop::Failed(ReadError::Truncated { .. })), "{stop:?}");
}

#[test]
fn r15_a_topic_that_was_created_anew_under_a_load_is_never_called_whole() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let stop = stopped(&world, |world| world.topic += 1, topic);
    assert!(matches!(stop, Stop::Failed(ReadError::Topic(TopicProblem::Recreated { .. }))), "{stop:?}");
}

#[test]
fn r16_a_topic_that_grew_under_a_load_is_never_called_whole() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    let stop = stopped(&world, |world| world.count += 1, topic);
    assert!(matches!(stop, Stop::Failed(ReadError::Topic(TopicProblem::PartitionCountChanged { .. }))), "{stop:?}");
}

/// The key is superseded above the end while the load is under way, and the cleaner takes what is below.
#[test]
fn r40_a_key_that_the_cleaner_takes_from_under_a_load_is_in_it_all_the_same() {
    let world = still(1);
    fill(&world, 600);
    {
        let mut world = world.borrow_mut();
        world.min_compaction_lag = 50;
        world.troubles = vec![Trouble::SlowReader];
        world.overwrite = Some("w/t/599".to_owned());
    }
    let outcome = whole(&world);
    assert!(outcome.records.iter().any(|(_, r)| &r.key[..] == b"w/t/599"));
}

/// The cleaner may do at once what it is told, and a load must not lean on what it was told before.
#[test]
fn r40_a_compaction_lag_that_is_lowered_under_a_load_is_what_bounds_it() {
    let world = still(1);
    fill(&world, 600);
    {
        let mut world = world.borrow_mut();
        world.troubles = vec![Trouble::SlowReader];
        world.overwrite = Some("w/t/599".to_owned());
        world.lowered_lag = Some(50);
    }
    let outcome = whole(&world);
    assert!(outcome.records.iter().any(|(_, r)| &r.key[..] == b"w/t/599"));
}

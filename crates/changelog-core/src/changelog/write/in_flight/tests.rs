use std::time::Duration;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

fn partition() -> Partition {
    Partition::new(0).unwrap()
}

fn key(n: usize) -> Key {
    Key::parse(&format!("w/t/{n}")).unwrap()
}

fn accept(writes: &Arc<InFlightWrites>) -> InFlightGuard {
    writes.accept(partition(), key(0))
}

fn fail(writes: &InFlightWrites, n: usize) {
    writes.record_failure(partition(), key(n), WriteError::Draining);
}

/// Covers C20, R31.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_earlier_writes_only() {
    let writes = Arc::new(InFlightWrites::default());
    let (first, second) = (accept(&writes), accept(&writes));
    let flush = {
        let writes = writes.clone();
        tokio::spawn(async move { writes.flush(0, Instant::now() + Duration::from_secs(60)).await })
    };
    tokio::task::yield_now().await;
    let _later = accept(&writes);
    drop(second);
    tokio::task::yield_now().await;
    assert!(!flush.is_finished());
    drop(first);
    assert_eq!(flush.await.unwrap().remaining, 0);
    assert_eq!(writes.undelivered(0).count, 1);
}

/// Covers C19, C20, R31.
#[tokio::test(start_paused = true)]
async fn a_flush_counts_writes_still_in_flight_at_its_timeout() {
    let writes = Arc::new(InFlightWrites::default());
    let (_a, b, _c) = (accept(&writes), accept(&writes), accept(&writes));
    drop(b);
    assert_eq!(writes.flush(0, soon()).await.remaining, 2);
}

/// Covers C21, R31.
#[tokio::test(start_paused = true)]
async fn a_flush_returns_every_failure_after_the_given_id() {
    let writes = Arc::new(InFlightWrites::default());
    (0..3).for_each(|n| fail(&writes, n));
    let ids = |f: Flushed| f.failures.iter().map(|f| f.id).collect::<Vec<_>>();
    assert_eq!(ids(writes.flush(0, soon()).await), [1, 2, 3]);
    assert_eq!(ids(writes.flush(0, soon()).await), [1, 2, 3], "a lost answer is asked again");
    assert_eq!(ids(writes.flush(2, soon()).await), [3]);
    assert_eq!(ids(writes.flush(3, soon()).await), [0u64; 0]);
}

/// Covers C21.
#[tokio::test(start_paused = true)]
async fn an_id_of_another_process_hides_no_failure() {
    let seen = |f: Flushed| (f.failures.iter().map(|f| f.id).collect::<Vec<_>>(), f.omitted, f.after);
    let writes = Arc::new(InFlightWrites::with_ids_above(1_000));
    assert_eq!(seen(writes.flush(7, soon()).await), (vec![], 0, 0));
    (0..3).for_each(|n| fail(&writes, n));
    for other in [0, 1, 2, 999, 1_000, 1_004, u64::MAX] {
        assert_eq!(seen(writes.flush(other, soon()).await), (vec![1_001, 1_002, 1_003], 0, 0), "{other}");
    }
    assert_eq!(seen(writes.flush(1_002, soon()).await), (vec![1_003], 0, 1_002));
    assert_eq!(seen(writes.flush(1_003, soon()).await), (vec![], 0, 1_003));
    (0..MAX_KEPT_FAILURES).for_each(|n| fail(&writes, n));
    assert_eq!(writes.flush(3, soon()).await.omitted, 3);
}

#[test]
fn ids_are_greater_than_those_of_earlier_processes_and_exact_as_a_double() {
    let of_a_process = || InFlightWrites::new(TaskTracker::new()).newest_failure();
    let first = of_a_process();
    // After 2020, and below the largest whole number that JavaScript holds exactly.
    assert!((1_577_836_800_000_000..1 << 53).contains(&first), "{first}");
    assert!(of_a_process() >= first);
}

/// Covers R32.
#[test]
fn undelivered_writes_are_named_and_earlier_failures_are_not() {
    let writes = Arc::new(InFlightWrites::default());
    fail(&writes, 1);
    let before = writes.newest_failure();
    let settled = writes.accept(partition(), key(2));
    let open = writes.accept(Partition::new(3).unwrap(), Key::parse("w/t/\u{202e}").unwrap());
    fail(&writes, 4);
    drop(settled);
    let found = writes.undelivered(before);
    assert_eq!(found.count, 2);
    assert_eq!(found.partitions.iter().map(|p| p.number()).collect::<Vec<_>>(), [0, 3]);
    assert!(found.keys[0].contains("w/t/4") && found.keys[1].is_ascii(), "{:?}", found.keys);
    drop(open);
    (0..200).for_each(|n| fail(&writes, n));
    let found = writes.undelivered(before);
    assert_eq!((found.count, found.keys.len()), (201, MAX_NAMED_KEYS));
}

/// Covers C21.
#[tokio::test(start_paused = true)]
async fn the_last_ten_thousand_failures_are_kept_and_the_rest_counted() {
    let writes = Arc::new(InFlightWrites::default());
    (0..MAX_KEPT_FAILURES + 5).for_each(|n| fail(&writes, n));
    let flushed = writes.flush(0, soon()).await;
    assert_eq!((flushed.failures.len(), flushed.omitted), (MAX_KEPT_FAILURES, 5));
    assert_eq!(flushed.failures[0].id, 6);
    assert_eq!(writes.flush(3, soon()).await.omitted, 2);
}

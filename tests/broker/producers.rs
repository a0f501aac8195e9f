//! Writes to a real broker: their order, and their answers when the log closes.

use std::collections::BTreeMap;

use changelog_core::log::{Log, WriteError};

use crate::kit::{append_all, on, read, record};

/// A hundred thousand writes over several producers, without waiting for each.
/// Covers C45, C47, R25, R26.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_a_thousand_sets_of_each_key_is_the_one_read() {
    const KEYS: usize = 100;
    const ROUNDS: usize = 1_000;
    let (_, log) = on(10).await;
    let mut pending = Vec::with_capacity(KEYS * ROUNDS);
    for round in 0..ROUNDS {
        for key in 0..KEYS {
            let new = record(10, &format!("w{key}/t/a"), Some(format!("{round}").as_bytes()));
            let partition = new.partition.number();
            loop {
                match log.append(new.clone()) {
                    Ok(one) => break pending.push((partition, one)),
                    Err(WriteError::QueueFull { .. }) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    let mut last = BTreeMap::<i32, i64>::new();
    for (partition, one) in pending {
        let offset = one.await.unwrap().unwrap().position.offset;
        assert!(last.insert(partition, offset).is_none_or(|before| before < offset), "offsets rise as it was sent");
    }
    let (records, ends) = read(&log, &(0..10).collect::<Vec<_>>()).await.unwrap();
    for end in ends {
        assert_eq!(end.end, last.get(&end.partition.number()).map_or(0, |o| o + 1), "each write once");
    }
    let found: BTreeMap<_, _> = records.iter().map(|r| (&r.key, r.value.as_deref().unwrap())).collect();
    assert_eq!(found.len(), KEYS);
    assert!(found.values().all(|v| *v == format!("{}", ROUNDS - 1).as_bytes()), "{found:?}");
}

/// Partitions without a producer so far, and a log that is closed and counts the writes that are left.
/// Covers R32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_log_refuses_new_writes_and_delivers_the_accepted_ones() {
    let (_, log) = on(10).await;
    append_all(&log, (0..10).map(|i| record(10, &format!("w{i}/t/a"), Some(b"1")))).await;
    let pending: Vec<_> =
        (0..1_000).map(|i| log.append(record(10, &format!("w{}/t/{i}", i % 10), Some(b"1"))).unwrap()).collect();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    assert_eq!(log.close(deadline).await, 0);
    assert!(matches!(log.append(record(10, "w/t/late", None)), Err(WriteError::Draining)));
    for one in pending {
        one.await.unwrap().unwrap();
    }
}

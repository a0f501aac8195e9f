//! Working producers that are replaced, because the settings or the topic's limit changed.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{replaced_settings::producers_are_replaced, *};
use crate::{
    clients::ClientSettings,
    produce::ProducerPool,
    timeouts::{LEADER_MAX_AGE, SWAP_FLUSH_TIMEOUT},
};

/// Makes all producers outdated, and waits until the first attempt to replace them holds their partitions. Without a
/// look at files, because no broker would answer another client in time.
async fn hold(log: &KafkaLog) -> &ProducerPool {
    let clients = &log.inner.clients;
    clients.replace(ClientSettings::new(Settings::clone(&clients.settings()), clients.held()), None).unwrap();
    log.inner.producer_events.notify_one();
    let pool = log.inner.pool.get().unwrap();
    wait_until("the partitions are held", Duration::from_secs(2), || pool.is_holding()).await;
    pool
}

/// Covers R53.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_limit_of_the_topic_fails_no_write() {
    let MockServer { cluster, log } = mock_server(2, |s| s.producers = 1).await;
    log.append(record(0, "w/t/first", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, Duration::from_millis(100)).unwrap();
    let log = Arc::new(log);
    for limit in [500_000, 900_000] {
        // In flight, queued in librdkafka, and queued above it.
        let mut pending: Vec<_> = (0..200).map(|i| log.append(record(i % 2, "w/t/a", Some(b"1"))).unwrap()).collect();
        let replacing = log.clone();
        let replace = move || replacing.inner.pool.get().unwrap().replace_outdated(limit);
        let replaced = tokio::task::spawn_blocking(replace);
        while !replaced.is_finished() {
            pending.push(log.append(record(1, "w/t/b", Some(b"1"))).unwrap());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(replaced.await.unwrap());
        for pending in pending {
            pending.await.unwrap().expect("acknowledged");
        }
    }
}

/// Longer than writes are held, and shorter than they may take.
const SLOW: Duration = Duration::from_secs(3);

/// Covers R53.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_broker_is_slow_goes_on_and_is_replaced_later() {
    let MockServer { cluster, log } = mock_server(1, |s| s.write_timeout = 2 * SLOW).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, SLOW).unwrap();
    let sent = log.append(record(0, "w/t/sent", Some(b"1"))).unwrap();
    let pool = hold(&log).await;
    let held = log.append(record(0, "w/t/held", Some(b"1"))).unwrap();
    wait_until("they are held for a bound", SWAP_FLUSH_TIMEOUT + Duration::from_secs(1), || !pool.is_holding()).await;
    assert!(!pool.is_up_to_date(), "the old producer has writes in flight");
    for pending in [sent, held] {
        let delivered = tokio::time::timeout(3 * SLOW, pending).await.expect("bounded").unwrap();
        delivered.expect("no write fails that its producer can deliver");
    }
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    producers_are_replaced(&log, Duration::from_secs(30)).await;
    log.append(record(0, "w/t/last", Some(b"1"))).unwrap().await.unwrap().expect("written by the new producer");
}

/// Covers R53.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_the_brokers_reject_is_replaced_within_a_bound() {
    let MockServer { cluster, log } = mock_server(1, |s| s.write_timeout = 2 * SLOW).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, SLOW).unwrap();
    let stuck = log.append(record(0, "w/t/stuck", Some(b"1"))).unwrap();
    let pool = hold(&log).await;
    let held = log.append(record(0, "w/t/held", Some(b"1"))).unwrap();
    assert_eq!(log.close(Instant::now() + Duration::from_millis(50)).await, 2, "a drain reports held writes");
    // The mock cluster rejects no client, so this is the line of a rejected connection.
    pool.reject_logins(
        "sasl://b:9092/1: SASL authentication error: Authentication failed (after 2ms in state AUTH_REQ)",
    );
    producers_are_replaced(&log, SWAP_FLUSH_TIMEOUT + Duration::from_secs(1)).await;
    let error = tokio::time::timeout(Duration::from_secs(1), stuck).await.expect("bounded").unwrap().unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown { .. }), "it was sent: {error:?}");
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let held = tokio::time::timeout(Duration::from_secs(20), held).await.expect("bounded");
    println!("held: {held:?}");
}

/// Without the brokers a new producer delivers no more than the old one, and the old one may still deliver.
/// Covers R53.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_for_lost_brokers_are_not_discarded_for_new_settings() {
    let MockServer { cluster, log } = mock_server(1, |s| s.write_timeout = Duration::from_secs(30)).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_down(1).unwrap();
    let mut state = log.topic_state();
    let lost = state.wait_for(|s| matches!(s, TopicState::Unreachable { .. }));
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("noticed").expect("alive");
    let waiting = log.append(record(0, "w/t/waiting", Some(b"1"))).unwrap();
    let clients = &log.inner.clients;
    clients.replace(ClientSettings::new(Settings::clone(&clients.settings()), clients.held()), None).unwrap();
    let pool = log.inner.pool.get().unwrap();
    let limit = log.inner.watcher.config().max_message_bytes;
    assert!(!pool.replace_outdated(limit), "it is to be tried again");
    assert!(!pool.is_holding() && !pool.is_up_to_date());
    cluster.broker_up(1).unwrap();
    waiting.await.unwrap().expect("sent when the broker was back");
    producers_are_replaced(&log, Duration::from_secs(20)).await;
}

/// A demoted leader that has the record answers NOT_LEADER, and for librdkafka the record is then in its queue.
/// Covers C54, C55, R28, R29.
#[tokio::test(flavor = "multi_thread")]
async fn a_purged_write_that_was_tried_before_the_brokers_were_lost_is_unknown() {
    let MockServer { cluster, log } = mock_server(1, |s| s.write_timeout = Duration::from_secs(60)).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    let not_leader = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 1_000];
    cluster.request_errors(RDKafkaApiKey::Produce, &not_leader);
    let tried = log.append(record(0, "w/t/tried", Some(b"1"))).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.broker_down(1).unwrap();
    let mut state = log.topic_state();
    let lost = state.wait_for(|s| matches!(s, TopicState::Unreachable { .. }));
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("noticed").expect("alive");
    tokio::time::sleep(LEADER_MAX_AGE).await;
    let never_tried = log.append(record(0, "w/t/never", Some(b"1"))).unwrap();
    let pool = log.inner.pool.get().unwrap();
    wait_until("both are submitted", Duration::from_secs(5), || pool.has_submitted_all()).await;
    pool.inject_fatal_error();
    let answer = async |pending: PendingAppend| {
        tokio::time::timeout(Duration::from_secs(10), pending).await.expect("bounded").unwrap()
    };
    let error = answer(tried).await.unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown { .. }), "an election may have hidden it: {error:?}");
    let error = answer(never_tried).await.unwrap_err();
    assert!(matches!(error, WriteError::Unreachable { .. }), "no broker was there: {error:?}");
}

/// Covers R29, R53.
#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_while_writes_are_held_ends_the_wait() {
    let MockServer { cluster, log } = mock_server(2, |_| {}).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, Duration::from_secs(8)).unwrap();
    let sent: Vec<_> = (0..2).map(|p| log.append(record(p, "w/t/sent", Some(b"1"))).unwrap()).collect();
    let pool = hold(&log).await;
    let held: Vec<_> = (0..2).map(|p| log.append(record(p, "w/t/held", Some(b"1"))).unwrap()).collect();
    pool.inject_fatal_error();
    producers_are_replaced(&log, SWAP_FLUSH_TIMEOUT + Duration::from_secs(2)).await;
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    for pending in sent.into_iter().chain(held) {
        let answered =
            tokio::time::timeout(Duration::from_secs(12), pending).await.expect("bounded").expect("answered");
        println!("{answered:?}");
    }
    write_last(&log, 1, Duration::from_secs(20)).await;
}

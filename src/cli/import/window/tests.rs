use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;

const LIMITS: Limits = Limits { in_flight: 4, timeout: Duration::from_secs(30), retry_for: Duration::from_secs(10) };

fn change(key: &str, value: &str) -> v1::Mutation {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    mutation(Change { key: key.to_owned(), value, headers: Vec::new() })
}

fn keys(mutations: &[v1::Mutation]) -> Vec<&str> {
    mutations.iter().map(|mutation| &*mutation.changelog_id).collect()
}

fn written(id: u64) -> v1::Verdict {
    v1::Verdict { id, outcome: Some(v1::verdict::Outcome::Written(v1::Written::default())) }
}

fn status_with(code: Code, reason: Option<&str>) -> Status {
    match reason {
        Some(reason) => {
            Status::with_error_details(code, "m", ErrorDetails::with_error_info(reason, "changelogd", HashMap::new()))
        }
        None => Status::new(code, "m"),
    }
}

fn refused(id: u64, status: &Status) -> v1::Verdict {
    v1::Verdict { id, outcome: Some(v1::verdict::Outcome::Error(status.into())) }
}

/// Covers C65.
#[test]
fn a_line_waits_for_the_outcome_of_the_one_before_it_with_the_same_key() {
    let (mut window, now) = (Window::new(LIMITS), Instant::now());
    for (number, key) in ["a", "a", "b", "a"].into_iter().enumerate() {
        window.add(number as u64, change(key, "1"));
    }
    let first = window.take(now);
    assert_eq!(keys(&first), ["a", "b"]);
    assert!(!window.has_ready());
    window.verdict(written(first[1].id), now);
    assert!(!window.has_ready());
    // It was certainly not written: it is sent again before the later ones.
    window.verdict(refused(first[0].id, &status_with(Code::Unavailable, Some("DRAINING"))), now);
    assert!(!window.has_ready());
    let due = window.next_tick().unwrap();
    assert_eq!(due, now + FIRST_PAUSE);
    window.tick(due);
    let again = window.take(due);
    assert_eq!((keys(&again), again[0].id > first[1].id), (vec!["a"], true));
    window.verdict(written(again[0].id), due);
    assert_eq!(keys(&window.take(due)), ["a"]);
    assert_eq!(window.outcomes(), [Outcome::Set, Outcome::Set]);
}

/// Covers C54, C56, C65.
#[test]
fn a_line_is_sent_again_only_if_it_was_certainly_not_written_and_for_a_limited_time() {
    for (code, reason, is_again) in [
        (Code::Unavailable, Some("BROKERS_UNREACHABLE"), true),
        (Code::ResourceExhausted, Some("PRODUCER_QUEUE_FULL"), true),
        (Code::Unavailable, None, false),
        (Code::ResourceExhausted, None, false),
        (Code::DeadlineExceeded, Some("OUTCOME_UNKNOWN"), false),
        (Code::InvalidArgument, Some("VALUE_NOT_JSON"), false),
        (Code::Cancelled, None, false),
        (Code::Unknown, None, false),
    ] {
        let status = status_with(code, reason);
        for by_verdict in [true, false] {
            let (mut window, mut now) = (Window::new(LIMITS), Instant::now());
            let begun = now;
            window.add(7, change("a", "1"));
            let mut sent = 0;
            while window.has_ready() {
                let id = window.take(now)[0].id;
                sent += 1;
                if by_verdict {
                    window.verdict(refused(id, &status), now);
                } else {
                    window.stream_ended(&status, id, now);
                }
                now = window.next_tick().unwrap_or(now);
                window.tick(now);
            }
            assert_eq!(sent > 1, is_again, "{status:?}");
            assert!(now < begun + LIMITS.retry_for, "{status:?}");
            let outcomes = window.outcomes();
            let [Outcome::Failed { number: 7, key, why }] = &outcomes[..] else { panic!("{outcomes:?}") };
            let is_unknown = why.contains("outcome of the write is not known");
            assert_eq!((&**key, is_unknown), ("a", reason.is_none()), "{why}");
            assert!(window.is_empty() && window.next_tick().is_none());
        }
    }
}

/// Covers C56, C65.
#[test]
fn a_stream_that_ends_at_a_message_says_nothing_about_earlier_ones() {
    let (mut window, now) = (Window::new(LIMITS), Instant::now());
    window.add(1, change("a", "1"));
    window.take(now);
    window.stream_ended(&Status::out_of_range("decoded message length too large"), u64::MAX, now);
    let outcomes = window.outcomes();
    let [Outcome::Failed { why, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(why.contains("too large") && why.contains("not known"), "{why}");
}

/// Covers C56, C65.
#[test]
fn a_line_that_the_transport_has_not_taken_was_not_written_and_is_sent_again() {
    for (status, is_again) in [
        (Status::unavailable("tcp connect error"), true),
        (Status::unknown("h2 protocol error"), true),
        (Status::cancelled("the connection was closed"), true),
        (Status::unimplemented("no such method"), false),
    ] {
        let (mut window, mut now) = (Window::new(LIMITS), Instant::now());
        for (number, key) in ["a", "b"].into_iter().enumerate() {
            window.add(number as u64, change(key, "1"));
        }
        let sent = window.take(now);
        window.stream_ended(&status, sent[0].id, now);
        let outcomes = window.outcomes();
        let Some(Outcome::Failed { number: 0, why, .. }) = outcomes.first() else { panic!("{outcomes:?}") };
        assert!(why.contains("not known"), "{why}");
        assert_eq!((outcomes.len(), window.is_empty()), (if is_again { 1 } else { 2 }, !is_again), "{outcomes:?}");
        // It is given up after a limited time.
        while let Some(tick) = window.next_tick() {
            now = tick;
            window.tick(now);
            let ids: Vec<_> = window.take(now).iter().map(|mutation| mutation.id).collect();
            assert_eq!(ids.len(), 1);
            window.stream_ended(&status, 0, now);
        }
        let why = match outcomes.get(1).cloned().or_else(|| window.outcomes().pop()) {
            Some(Outcome::Failed { number: 1, why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert!(why.contains("nothing was written") && !why.contains("not known"), "{why}");
    }
}

/// Covers C65.
#[test]
fn a_verdict_that_takes_too_long_fails_its_line_only() {
    let (mut window, now) = (Window::new(LIMITS), Instant::now());
    window.add(1, change("a", "1"));
    let slow = window.take(now)[0].id;
    let later = now + Duration::from_secs(1);
    window.add(2, change("b", "1"));
    let other = window.take(later)[0].id;
    let late = window.next_tick().unwrap();
    assert_eq!(late, now + LIMITS.timeout);
    window.tick(late);
    let outcomes = window.outcomes();
    let [Outcome::Failed { number: 1, why, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(why.contains("30s") && why.contains("not known"), "{why}");
    // Its verdict comes after all, and counts nothing.
    window.verdict(written(slow), late);
    window.verdict(written(other), late);
    assert_eq!((window.outcomes(), window.is_empty()), (vec![Outcome::Set], true));
}

/// Covers C65.
#[test]
fn what_is_held_and_sent_is_bounded() {
    let (mut window, now) = (Window::new(LIMITS), Instant::now());
    let mut number = 0;
    while window.has_room() {
        window.add(number, change(&number.to_string(), "1"));
        number += 1;
    }
    assert_eq!(number as usize, LIMITS.in_flight * (1 + WAITING_FACTOR));
    assert_eq!(window.take(now).len(), LIMITS.in_flight);
    assert!(!window.has_ready());

    let mut window = Window::new(LIMITS);
    let large = "x".repeat(MAX_MESSAGE_BYTES / 2);
    for (number, value) in ["1", &large, &large, &large].into_iter().enumerate() {
        window.add(number as u64, change(&number.to_string(), value));
    }
    assert!(window.is_message_full());
    // A message has less than the limit, or one mutation.
    assert_eq!([window.take(now).len(), window.take(now).len(), window.take(now).len()], [2, 1, 1]);
    let mut window = Window::new(LIMITS);
    window.add(0, change("a", &"x".repeat(MAX_HELD_BYTES)));
    assert!(!window.has_room());
    let id = window.take(now)[0].id;
    window.verdict(written(id), now);
    assert!(window.has_room());
}

/// Covers C65.
#[test]
fn what_is_given_up_is_counted_and_what_is_on_its_way_is_waited_for() {
    let (mut window, now) = (Window::new(LIMITS), Instant::now());
    for number in 0..9 {
        window.add(number, change(if number < 3 { "a" } else { "b" }, "1"));
    }
    let sent = window.take(now);
    assert_eq!((keys(&sent), window.give_up_waiting()), (vec!["a", "b"], 7));
    assert!(!window.is_empty() && !window.has_ready());
    window.verdict(written(sent[0].id), now);
    window.verdict(refused(sent[1].id, &status_with(Code::Unavailable, Some("DRAINING"))), now);
    assert_eq!((window.outcomes(), window.give_up_waiting(), window.is_empty()), (vec![Outcome::Set], 1, true));
}

proptest! {
    /// Covers C65.
    #[test]
    fn whatever_is_refused_each_line_has_one_outcome_and_a_key_keeps_its_order(
        lines in prop::collection::vec(0..5_u8, 1..60),
        answers in prop::collection::vec(0..4_u8, 400),
    ) {
        let (mut window, mut now) = (Window::new(LIMITS), Instant::now());
        let (mut lines, mut answers) = (lines.into_iter().enumerate().peekable(), answers.into_iter());
        let (mut given, mut applied, mut done) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new(), 0);
        let mut count = 0;
        while lines.peek().is_some() || !window.is_empty() {
            while window.has_room() && let Some((number, key)) = lines.next() {
                let (key, value) = (key.to_string(), number.to_string());
                window.add(number as u64, change(&key, &value));
                given.entry(key).or_default().push(value);
                count += 1;
            }
            let mut sent = window.take(now);
            prop_assert!(sent.len() <= LIMITS.in_flight);
            // Verdicts of several workspaces come in any order.
            sent.reverse();
            for mutation in sent {
                match answers.next().unwrap_or(0) {
                    0 | 1 => {
                        let Some(mutation::Change::Raw(value)) = mutation.change else { unreachable!() };
                        let value = String::from_utf8(value.to_vec()).unwrap();
                        applied.entry(mutation.changelog_id).or_default().push(value);
                        window.verdict(written(mutation.id), now);
                    }
                    2 => window.verdict(refused(mutation.id, &status_with(Code::Unavailable, Some("STARTING"))), now),
                    _ => {
                        // Some were not taken by the transport.
                        let (code, reason, last) = if answers.next() == Some(0) {
                            (Code::Unknown, None, mutation.id - 1)
                        } else {
                            (Code::Unavailable, Some("DRAINING"), u64::MAX)
                        };
                        window.stream_ended(&status_with(code, reason), last, now);
                        break;
                    }
                }
            }
            now = window.next_tick().filter(|_| !window.has_ready()).unwrap_or(now);
            window.tick(now);
            done += window.outcomes().len();
        }
        prop_assert_eq!(done, count);
        for (key, values) in applied {
            let mut rest = given[&key].iter();
            prop_assert!(values.iter().all(|value| rest.any(|given| given == value)), "{}: {:?}", key, values);
        }
    }
}

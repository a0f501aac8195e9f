//! The contract of a load, checked against everything that was ever written to a simulated world.

use std::collections::HashMap;

use super::{
    load::Outcome,
    partition_log::Millis,
    world::{World, Write},
};

/// Checks the contract for each partition whose end was reported.
pub fn check(world: &World, outcome: &Outcome) -> Result<(), String> {
    for (end, completed_at, topic) in &outcome.ends {
        let partition = end.partition.number();
        let fail = |what: String| Err(format!("partition {partition}, {end:?}: {what}"));
        if **topic != *outcome.served {
            return fail(format!("the topic is {topic:?} by now"));
        }
        // A log that was truncated meanwhile may end earlier.
        let cut = world.was_truncated(outcome.topic, partition);
        if end.end < outcome.high_watermarks[&partition] && !cut {
            return fail(format!(
                "its high watermark was {} when it was asked for",
                outcome.high_watermarks[&partition]
            ));
        }
        let mut state = State::new();
        let mut before = -1;
        for (_, record) in outcome.records.iter().filter(|(p, _)| *p == end.partition) {
            if record.offset <= before {
                return fail(format!("offset {} after {before}", record.offset));
            }
            before = record.offset;
            let key = std::str::from_utf8(&record.key).expect("a key");
            let value = record.value.as_deref().map(|value| std::str::from_utf8(value).expect("a value"));
            if !world.writes.iter().any(|w| is_of(w, (outcome.topic, partition), key, (record.offset, value))) {
                return fail(format!("{record:?} was never written"));
            }
            state.insert(key, (record.offset, value));
        }
        check_state(world, (outcome.topic, partition), outcome.requested_at, *completed_at, &state).or_else(fail)?;
    }
    Ok(())
}

/// By key: the offset of its last record, and the value.
pub type State<'a> = HashMap<&'a str, (i64, Option<&'a str>)>;

/// Whether a record is this write of a topic and partition.
fn is_of(write: &Write, (topic, partition): (u64, i32), key: &str, (offset, value): (i64, Option<&str>)) -> bool {
    (write.topic, write.partition, write.offset, &*write.key) == (topic, partition, offset, key)
        && write.value.map(|value| format!("{topic}:{value}")).as_deref() == value
}

/// Checks that each entry of a state is a write of this topic and partition. A reader that was started at `read_from`
/// must not have kept a write that a truncation had removed before.
pub fn check_written(world: &World, of: (u64, i32), read_from: Millis, state: &State<'_>) -> Result<(), String> {
    for (key, entry) in state {
        let mut written = world.writes.iter().filter(|write| is_of(write, of, key, *entry));
        if !written.any(|write| write.truncated.is_none_or(|at| at >= read_from)) {
            return Err(format!("{key} is {entry:?}, which is no write of {of:?}, or was lost before {read_from}"));
        }
    }
    Ok(())
}

/// Checks a state that was requested at one time and reported complete at another. It must have each write acknowledged
/// before the request, or a later one of its key. It must not have a key that was deleted before the request. It
/// must not have what was never written.
pub fn check_state(
    world: &World,
    of: (u64, i32),
    requested_at: Millis,
    completed_at: Millis,
    state: &State<'_>,
) -> Result<(), String> {
    check_state_below(world, of, i64::MAX, requested_at, completed_at, state)
}

/// The same of what stands below an offset.
pub fn check_state_below(
    world: &World,
    (topic, partition): (u64, i32),
    end: i64,
    requested_at: Millis,
    completed_at: Millis,
    state: &State<'_>,
) -> Result<(), String> {
    check_written(world, (topic, partition), requested_at, state)?;
    let written = || world.writes.iter().filter(|w| (w.topic, w.partition) == (topic, partition));
    let of_partition = || written().filter(|w| w.offset < end);
    let mut expected: HashMap<&str, &Write> = HashMap::new();
    for write in of_partition() {
        if write.acknowledged <= requested_at && write.gone.is_none_or(|at| at > completed_at) {
            let last = expected.entry(&write.key).or_insert(write);
            if write.offset > last.offset {
                *last = write;
            }
        }
    }
    for (key, write) in expected {
        let found = state.get(key);
        let deleted_since = || {
            let mut later = of_partition().filter(|w| &*w.key == key && w.offset > write.offset);
            later.any(|w| w.value.is_none() && w.acknowledged <= completed_at)
        };
        match (write.value, found) {
            (_, Some((offset, _))) if *offset >= write.offset => {}
            (None, None | Some((_, None))) => {}
            (Some(_), None | Some((_, None))) if deleted_since() => {}
            _ => return Err(format!("{write:?} was acknowledged before {requested_at}, found {found:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::partition_log::Kind, *};

    /// A key that was overwritten, one that was deleted, and one that a truncation removed at 50 ms.
    fn world() -> World {
        let mut world = World::still(1);
        for (key, value) in [("a", Some(1)), ("a", Some(2)), ("b", Some(3)), ("b", None), ("c", Some(4))] {
            world.put(0, Kind::Plain, key.to_owned(), value);
            world.now += 10;
        }
        world.truncate(0, 4);
        world.now += 50;
        world
    }

    fn checked(more: &[(&'static str, i64, Option<&'static str>)]) -> Result<(), String> {
        let mut state = State::from([("a", (1, Some("0:2"))), ("b", (3, None))]);
        state.extend(more.iter().map(|(key, offset, value)| (*key, (*offset, *value))));
        check_state(&world(), (0, 0), 100, 100, &state)
    }

    #[test]
    fn a_state_with_another_value_offset_topic_or_key_is_wrong() {
        checked(&[]).unwrap();
        for (wrong, why) in [
            (("a", 1, Some("0:1")), "another value"),
            (("a", 1, None), "a delete"),
            (("a", 1, Some("1:2")), "the value of another topic"),
            (("a", 2, Some("0:2")), "the offset of another key"),
            (("a", 5, Some("0:2")), "an offset that has not been written"),
            (("x", 1, Some("0:2")), "a key that was never written"),
            (("c", 4, Some("0:4")), "a write that was lost before the read"),
        ] {
            let error = checked(&[wrong]).expect_err(why);
            assert!(error.contains("is no write of (0, 0)"), "{why}: {error}");
        }
        let error = checked(&[("a", 0, Some("0:1"))]).expect_err("an older write");
        assert!(error.contains("was acknowledged before 100"), "{error}");
        let state = State::from([("a", (1, Some("0:2")))]);
        check_state(&world(), (1, 0), 100, 100, &state).expect_err("another topic");
        // A reader that was started before the truncation may still have the write.
        let state = State::from([("a", (1, Some("0:2"))), ("c", (4, Some("0:4")))]);
        check_written(&world(), (0, 0), 50, &state).unwrap();
        check_written(&world(), (0, 0), 51, &state).expect_err("it was lost before");
    }
}

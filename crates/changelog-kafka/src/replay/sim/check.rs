//! The contract of a load, checked against everything that was ever written to a simulated world.

use std::collections::HashMap;

use changelog_core::model::Record;

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
        let mut state: HashMap<&str, &Record> = HashMap::new();
        let mut before = -1;
        for (_, record) in outcome.records.iter().filter(|(p, _)| *p == end.partition) {
            if record.offset <= before {
                return fail(format!("offset {} after {before}", record.offset));
            }
            before = record.offset;
            let key = std::str::from_utf8(&record.key).expect("a key");
            let written = world.writes.iter().any(|w| {
                let value = w.value.map(|v| format!("{}:{v}", outcome.topic).into_bytes());
                w.topic == outcome.topic
                    && (w.partition, w.offset, &*w.key) == (partition, record.offset, key)
                    && value.as_deref() == record.value.as_deref()
            });
            if !written {
                return fail(format!("{record:?} was never written"));
            }
            state.insert(key, record);
        }
        let state = state.into_iter().map(|(key, r)| (key, (r.offset, r.value.is_some()))).collect();
        check_state(world, (outcome.topic, partition), outcome.requested_at, *completed_at, &state).or_else(fail)?;
    }
    Ok(())
}

/// By key: the offset of its last record, and whether that record has a value.
pub type State<'a> = HashMap<&'a str, (i64, bool)>;

/// Checks a state that was requested at one time and reported complete at another. It must have each write acknowledged
/// before the request, or a later one of its key. It must not have a key that was deleted before the request.
pub fn check_state(
    world: &World,
    (topic, partition): (u64, i32),
    requested_at: Millis,
    completed_at: Millis,
    state: &State<'_>,
) -> Result<(), String> {
    let of_partition = || world.writes.iter().filter(|w| (w.topic, w.partition) == (topic, partition));
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
            (None, None | Some((_, false))) => {}
            (Some(_), None | Some((_, false))) if deleted_since() => {}
            _ => return Err(format!("{write:?} was acknowledged before {requested_at}, found {found:?}")),
        }
    }
    Ok(())
}

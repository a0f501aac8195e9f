//! The checks of a history: linearizability of each key (porcupine, in `tools/linearize`), and two direct checks by
//! offsets. The direct checks find the same errors in another way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use changelogd_testkit::workspace_root;

use super::history::{History, Load, Outcome, Write};

#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: u64,
    /// Keys whose search did not end: neither right nor wrong.
    pub undecided: u64,
    pub lost: u64,
    pub incomplete: u64,
    pub detail: Vec<String>,
}

/// `saved` is the history in a file. `last` is the load of everything after all writes had ended.
pub fn check(history: &History, last: &Load, saved: &Path) -> Result<Verdict, String> {
    let mut verdict = linearizability(saved)?;
    let mut by_key: BTreeMap<&str, Vec<&Write>> = BTreeMap::new();
    for write in &history.writes {
        by_key.entry(&write.key).or_default().push(write);
    }
    for (key, writes) in &by_key {
        verdict.lost += lost(key, writes, last.keys.get(*key).and_then(Option::as_ref), &mut verdict.detail);
    }
    for load in &history.loads {
        if let Some(reason) = incomplete(load, &by_key) {
            verdict.incomplete += 1;
            verdict.detail.push(reason);
        }
    }
    Ok(verdict)
}

/// Acknowledged writes of a key that the last load neither returns nor explains.
fn lost(key: &str, writes: &[&Write], last: Option<&(String, i64)>, detail: &mut Vec<String>) -> u64 {
    let acked = writes.iter().filter_map(|w| match w.outcome {
        Outcome::Acked(offset) => Some((offset, *w)),
        _ => None,
    });
    let acked: BTreeMap<_, _> = acked.collect();
    let Some((newest, write)) = acked.last_key_value() else { return 0 };
    let lost: Vec<_> = match last {
        // The offset is above the one that is there.
        Some((value, at)) => acked
            .iter()
            .filter(|(offset, w)| *offset > at || *offset == at && w.value.as_ref() != Some(value))
            .map(|(offset, _)| *offset)
            .collect(),
        None => {
            let deleted =
                write.value.is_none() || writes.iter().any(|w| w.value.is_none() && w.outcome == Outcome::Unknown);
            if deleted { Vec::new() } else { vec![*newest] }
        }
    };
    if !lost.is_empty() {
        detail.push(format!("{key}: acknowledged at offsets {lost:?}, and the last load has {last:?}"));
    }
    lost.len() as u64
}

/// Why an answer that claimed to be whole is not, by the writes acknowledged before its call.
fn incomplete(load: &Load, by_key: &BTreeMap<&str, Vec<&Write>>) -> Option<String> {
    if let Some(reason) = &load.not_whole {
        return Some(format!("{} of client {} at {}: {reason}", load.how, load.client, load.call));
    }
    let wrong: BTreeSet<_> = load
        .keys
        .iter()
        .filter_map(|(key, shown)| missing(load, by_key.get(key.as_str())?, shown.as_ref()).map(|o| (key, o)))
        .collect();
    (!wrong.is_empty()).then(|| {
        format!(
            "{} of client {}, {} to {}, is older than acknowledged: {wrong:?}",
            load.how, load.client, load.call, load.end
        )
    })
}

/// The offset that should have been seen.
fn missing(load: &Load, writes: &[&Write], shown: Option<&(String, i64)>) -> Option<i64> {
    let offset_of = |w: &Write| match w.outcome {
        Outcome::Acked(offset) => Some(offset),
        _ => None,
    };
    let before = writes.iter().filter(|w| w.end < load.call).filter_map(|w| Some((offset_of(w)?, w)));
    let (newest, write) = before.max_by_key(|(offset, _)| *offset)?;
    let explained = match shown {
        Some((_, offset)) => *offset >= newest,
        None => {
            write.value.is_none()
                || writes.iter().any(|w| {
                    w.value.is_none()
                        && w.call < load.end
                        && match w.outcome {
                            Outcome::Acked(offset) => offset > newest,
                            Outcome::Unknown => true,
                            Outcome::Nothing => false,
                        }
                })
        }
    };
    (!explained).then_some(newest)
}

fn linearizability(saved: &Path) -> Result<Verdict, String> {
    let tool = workspace_root().join("target/tools/bin/linearize");
    let output = Command::new(&tool).args(["-timeout", "60s"]).arg(saved).output();
    let output = output.map_err(|error| format!("cannot run {} (tools/build.sh makes it): {error}", tool.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("linearize said: {e}"))?;
    let number = |name: &str| answer[name].as_u64().ok_or_else(|| format!("linearize said {answer}, without {name}"));
    let detail = answer["detail"].as_array().into_iter().flatten();
    Ok(Verdict {
        violations: number("violations")?,
        undecided: number("undecided")?,
        detail: detail.map(|line| line.as_str().unwrap_or("?").to_owned()).collect(),
        ..Verdict::default()
    })
}

/// Runs the checks on histories that are known to be good or bad, before any of their results counts.
///
/// # Panics
/// If one of them is not judged as it should be.
pub fn prove(directory: &Path) {
    let key = || "w/t/a".to_owned();
    let write = |value: Option<&str>, call, outcome| Write {
        client: 0,
        key: key(),
        value: value.map(str::to_owned),
        call,
        end: call + 1,
        outcome,
    };
    let load = |seen: Option<(&str, i64)>, call| Load {
        client: 1,
        how: "load",
        call,
        end: call + 1,
        keys: [(key(), seen.map(|(value, offset)| (value.to_owned(), offset)))].into(),
        not_whole: None,
    };
    let (one, two, gone) = (Outcome::Acked(1), Outcome::Acked(2), Outcome::Unknown);
    let saved = directory.join("prove.jsonl");
    let judged = |what: &str, writes: Vec<Write>, loads: Vec<Load>, expected: (bool, u64, u64)| {
        let history = History { writes, loads, ..History::default() };
        history.save(&saved).expect("a history is saved");
        let last = history.loads.last().expect("a last load");
        let verdict = check(&history, last, &saved).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = (verdict.violations > 0, verdict.lost, verdict.incomplete);
        assert_eq!(found, expected, "{what}: {:?}", verdict.detail);
    };
    let set = |value, call, outcome: &Outcome| write(Some(value), call, outcome.clone());
    let delete = |call, outcome: &Outcome| write(None, call, outcome.clone());
    judged("good", vec![set("1", 1, &one), set("2", 3, &two)], vec![load(Some(("2", 2)), 5)], (false, 0, 0));
    judged("deleted", vec![set("1", 1, &one), delete(3, &two)], vec![load(None, 5)], (false, 0, 0));
    judged("perhaps deleted", vec![set("1", 1, &one), delete(3, &gone)], vec![load(None, 5)], (false, 0, 0));
    judged("lost", vec![set("1", 1, &one)], vec![load(None, 3)], (true, 1, 1));
    judged("stale", vec![set("1", 1, &one), set("2", 3, &two)], vec![load(Some(("1", 1)), 5)], (true, 1, 1));
    judged("back from the dead", vec![set("1", 1, &one), delete(3, &two)], vec![load(Some(("1", 1)), 5)], (true, 1, 1));
    let once_stale = vec![load(Some(("1", 1)), 5), load(Some(("2", 2)), 7)];
    judged("incomplete once", vec![set("1", 1, &one), set("2", 3, &two)], once_stale, (true, 0, 1));
    judged("refused, and read", vec![set("1", 1, &Outcome::Nothing)], vec![load(Some(("1", 1)), 3)], (true, 0, 0));
    let torn = Load { not_whole: Some("no snapshot".to_owned()), ..load(Some(("1", 1)), 3) };
    judged("without its snapshot", vec![set("1", 1, &one)], vec![torn], (false, 0, 1));
    let _ = std::fs::remove_file(&saved);
}

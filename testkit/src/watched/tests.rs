//! Each guarantee, kept and broken.

use super::*;

const TOKEN: &[u8] = b"token";

/// `Synced` of a range in which every offset has a record.
fn synced(seen: &mut Watched, start: i64, end: i64, entries: u64, tombstones: u64) -> Result<(), String> {
    let records_read = end.abs_diff(start);
    seen.synced(SnapshotFacts { start, end, records_read, entries, tombstones, token: TOKEN })
}

/// A client of a state `[0, 4)` with one key at offset 2, and a change at offset 5 that came after the token.
fn with_a_state() -> Watched {
    let mut seen = Watched::new();
    seen.entry("a", 2, Some("1")).unwrap();
    synced(&mut seen, 0, 4, 1, 0).unwrap();
    seen.entry("a", 5, Some("2")).unwrap();
    seen
}

fn resumed(mut seen: Watched) -> Watched {
    assert_eq!(seen.resume(), TOKEN);
    seen
}

#[track_caller]
fn refused(outcome: Result<(), String>, why: &str) {
    let error = outcome.expect_err("it is a violation");
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_watch_that_keeps_its_promises_is_accepted() {
    let mut seen = with_a_state();
    seen.bookmark(TOKEN).unwrap();
    seen.entry("b", 6, None).unwrap();
    let mut seen = resumed(seen);
    assert_eq!(seen.state(), HashMap::from([("a", (5, Some("2")))]), "what came after the token is forgotten");
    seen.entry("b", 6, None).unwrap();
    seen.entry("a", 7, Some("3")).unwrap();
    synced(&mut seen, 6, 9, 1, 1).unwrap();
    seen.entry("c", 9, Some("1")).unwrap();
    assert_eq!((seen.changes(), seen.values()), (3, BTreeMap::from([("a", "3"), ("c", "1")])));
}

#[test]
fn entries_out_of_order_twice_or_below_the_end_of_the_state_are_violations() {
    let mut seen = Watched::new();
    seen.entry("a", 2, Some("1")).unwrap();
    refused(seen.clone().entry("b", 1, Some("1")), "came after offset 2");
    refused(seen.entry("a", 3, Some("1")), "in the state twice");
    let mut seen = with_a_state();
    refused(seen.entry("b", 5, Some("1")), "came after offset 5");
    let mut seen = Watched::new();
    synced(&mut seen, 0, 4, 0, 0).unwrap();
    refused(seen.entry("a", 3, Some("1")), "came again");
    let mut seen = Watched::of_a_log_that_may_lose();
    synced(&mut seen, 0, 4, 0, 0).unwrap();
    refused(seen.entry("a", 3, Some("1")), "below the end 4 of the state");
}

#[test]
fn a_state_that_was_not_resumed_has_no_tombstones() {
    refused(Watched::new().entry("a", 1, None), "not resumed");
    let mut again = with_a_state();
    again.start_again();
    refused(again.entry("a", 1, None), "not resumed");
    Watched::with_a_token_of_another_call().entry("a", 1, None).unwrap();
}

#[test]
fn synced_counts_what_came() {
    let state = || {
        let mut seen = Watched::with_a_token_of_another_call();
        seen.entry("a", 2, Some("1")).unwrap();
        seen.entry("b", 3, None).unwrap();
        seen
    };
    synced(&mut state(), 0, 4, 1, 1).unwrap();
    refused(synced(&mut state(), 0, 4, 2, 1), "counts 2 entries and 1 tombstones, 1 and 1 came");
    refused(synced(&mut state(), 0, 4, 1, 0), "counts 1 entries and 0 tombstones, 1 and 1 came");
    let counts = SnapshotFacts { start: 0, end: 4, records_read: 1, entries: 1, tombstones: 1, token: TOKEN };
    refused(state().synced(counts), "of 1 records of [0, 4)");
    refused(state().synced(SnapshotFacts { records_read: 5, ..counts }), "of 5 records of [0, 4)");
    // Without a token tombstones are counted and not delivered.
    let mut seen = Watched::new();
    seen.entry("a", 2, Some("1")).unwrap();
    refused(synced(&mut seen.clone(), 0, 4, 0, 2), "counts 0 entries");
    synced(&mut seen, 0, 4, 1, 2).unwrap();
}

#[test]
fn synced_is_about_the_range_of_what_came() {
    let mut seen = Watched::new();
    seen.entry("a", 2, Some("1")).unwrap();
    seen.entry("b", 3, Some("1")).unwrap();
    for (start, end) in [(3, 4), (0, 3), (5, 4)] {
        refused(synced(&mut seen.clone(), start, end, 2, 0), "after entries at offsets Some((2, 3))");
    }
    synced(&mut seen, 0, 4, 2, 0).unwrap();
    refused(synced(&mut seen, 0, 5, 0, 0), "Synced came twice");
}

#[test]
fn a_resumed_state_starts_at_the_place_of_its_token() {
    let with_bookmark = || {
        let mut seen = with_a_state();
        seen.bookmark(TOKEN).unwrap();
        seen.entry("b", 8, Some("1")).unwrap();
        resumed(seen)
    };
    let again = |start| {
        let mut seen = with_bookmark();
        seen.entry("b", 8, Some("1")).unwrap();
        synced(&mut seen, start, 9, 1, 0)
    };
    for start in 6..=8 {
        again(start).unwrap();
    }
    refused(again(5), "resumed at 5, and its token is of a place in [6, 8]");
    // A token of `Synced` is not above its end, and not below the records that were read.
    let mut seen = Watched::new();
    synced(&mut seen, 0, 4, 0, 0).unwrap();
    for start in [3, 5] {
        refused(synced(&mut resumed(seen.clone()), start, 9, 0, 0), "is of a place in [4, 4]");
    }
    synced(&mut resumed(seen), 4, 9, 0, 0).unwrap();
}

#[test]
fn what_came_before_the_token_does_not_come_again() {
    refused(resumed(with_a_state()).entry("a", 2, Some("1")), "came again");
    // Nothing was delivered before the token, because the workspace was empty or its keys were deleted.
    for with_bookmark in [false, true] {
        let mut seen = Watched::new();
        synced(&mut seen, 0, 4, 0, 1).unwrap();
        if with_bookmark {
            seen.bookmark(TOKEN).unwrap();
        }
        refused(resumed(seen).entry("a", 3, None), "came again");
    }
    // A log without any record may have been truncated below the end, and have new records there.
    let mut seen = Watched::of_a_log_that_may_lose();
    seen.synced(SnapshotFacts { start: 0, end: 4, records_read: 0, entries: 0, tombstones: 0, token: TOKEN }).unwrap();
    resumed(seen).entry("a", 3, Some("1")).unwrap();
}

#[test]
fn what_came_after_the_token_comes_again() {
    let again = |mut seen: Watched| {
        seen.entry("b", 6, Some("1")).unwrap();
        synced(&mut seen, 4, 9, 1, 0)
    };
    refused(again(resumed(with_a_state())), "a at offset 5 came after the token, and then not again");
    // Also if the watch breaks once more before `Synced`.
    refused(again(resumed(resumed(with_a_state()))), "a at offset 5 came after the token, and then not again");
    let mut seen = resumed(with_a_state());
    seen.entry("a", 7, None).unwrap();
    synced(&mut seen, 4, 9, 0, 1).unwrap();
    // A later change of the key counts, and it is enough once.
    synced(&mut resumed(seen), 9, 9, 0, 0).unwrap();
}

#[test]
fn a_log_that_loses_nothing_does_not_get_shorter() {
    let mut seen = with_a_state();
    seen.bookmark(TOKEN).unwrap();
    let mut seen = resumed(seen);
    refused(seen.clone().synced(facts_at(5)), "is of a place in [6,");
    seen.to_come_again.clear();
    seen.highest_end = 10;
    refused(synced(&mut seen, 6, 9, 0, 0), "the log had reached 10 before");
}

fn facts_at(offset: i64) -> SnapshotFacts<'static> {
    SnapshotFacts { start: offset, end: offset, records_read: 0, entries: 0, tombstones: 0, token: TOKEN }
}

#[test]
fn bookmarks_come_after_synced_and_have_a_token() {
    refused(Watched::new().bookmark(TOKEN), "before Synced");
    refused(with_a_state().bookmark(b""), "empty");
    let mut seen = Watched::new();
    refused(seen.synced(SnapshotFacts { token: b"", ..facts_at(0) }), "empty");
}

#[test]
fn a_state_differs_from_other_writes() {
    let write = |key: &str, value: Option<&str>, offset| Written {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        offset,
    };
    let mut seen = with_a_state();
    seen.entry("b", 6, None).unwrap();
    let right = [write("a", Some("1"), Some(2)), write("a", Some("2"), Some(5)), write("b", None, Some(6))];
    assert_eq!(seen.differs(&right, i64::MAX), None);
    let later = [&right[..], &[write("b", None, Some(7))]].concat();
    assert!(seen.differs(&later, i64::MAX).unwrap().contains("acknowledged at 7"), "the last change is final");
    assert_eq!(seen.differs(&later, 7), None, "below the end only");
    let other = [write("a", Some("3"), Some(5))];
    assert!(seen.differs(&other, i64::MAX).unwrap().contains("there is"));
    assert!(seen.differs(&[], i64::MAX).unwrap().contains("was never written"));
    assert_eq!(seen.differs(&[write("a", Some("2"), None)], i64::MAX), None, "an unknown outcome explains it");
}

#[test]
fn a_change_is_skipped_if_a_later_one_came_and_a_final_one_makes_the_state_differ() {
    let write = |key: &str, value: &str, offset| Written {
        key: key.to_owned(),
        value: Some(value.to_owned()),
        offset: Some(offset),
    };
    let mut seen = with_a_state();
    seen.entry("b", 7, Some("1")).unwrap();
    // The state ends at 4, and the last change is at 7.
    let all = [write("x", "1", 3), write("a", "1", 2), write("a", "2", 5), write("b", "1", 7), write("c", "1", 8)];
    assert!(seen.skipped(&all).is_none());
    assert_eq!(seen.differs_at_last_change(&all[1..]), None);
    for (missing, is_final) in [(write("c", "0", 6), false), (write("a", "3", 6), true), (write("d", "1", 4), true)] {
        let all = [&all[1..], std::slice::from_ref(&missing)].concat();
        assert_eq!(seen.skipped(&all).map(|write| write.offset), Some(missing.offset));
        assert_eq!(seen.differs_at_last_change(&all).is_some(), is_final, "{missing:?}");
    }
    let mut resumed = resumed(seen);
    synced(&mut resumed, 5, 9, 0, 0).unwrap_err();
    assert!(resumed.skipped(&all).is_none(), "there is no change of this call yet");
}

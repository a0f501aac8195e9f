//! The scripts of `Watch`. A client without a token must get the state, and then `Synced`.

use std::time::Duration;

use tonic::{Code, Status};

use super::{
    failure::Failure,
    reads::{Answer, End, batch, entry, snapshot, tombstone, versioned},
    script::no_script,
};
use crate::api::{
    WatchEvent, WatchResponse,
    v1::{Bookmark, Deletion, EntryBatch, Synced},
};

/// Scripts with tokens.
const SCRIPTS: [&str; 16] = [
    "resume",
    "resync",
    "moved",
    "truncated",
    "crowded",
    "recreated",
    "unsynced",
    "unknown-event",
    "lost",
    "phantom",
    "too-large",
    "stuck",
    "outage",
    "lagging",
    "many",
    "mute",
];

const NO_TOKEN: &[u8] = b"";
const TOKEN_1: &[u8] = b"token-1";
const TOKEN_2: &[u8] = b"token-2";
const TOKEN_3: &[u8] = b"token-3";
const TOKEN_4: &[u8] = b"token-4";

/// The response to the `nth` watch of a workspace, from 1.
pub fn watch(script: &str, workspace: &str, nth: u64, token: &[u8]) -> Result<Answer<WatchResponse>, Status> {
    let set = |id, offset| WatchEvent::Batch(batch(entry(workspace, id, offset)));
    let delete = |id, offset| WatchEvent::Batch(batch(tombstone(workspace, id, offset)));
    let other = |id, offset, version| WatchEvent::Batch(batch(versioned(workspace, id, offset, version)));
    let bookmark = |token: &[u8]| WatchEvent::Bookmark(Bookmark { resume_token: token.into() });
    // `many-3` is the script `many` with 3 entities, and `mute-3` has 3 calls without an answer.
    let counted = script.rsplit_once('-').and_then(|(name, count)| Some((name, count.parse().ok()?)));
    let (script, count): (_, i64) = counted.unwrap_or((script, 0));
    let (events, end) = match (script, token, nth) {
        ("resume", NO_TOKEN, _) => {
            (vec![set("a", 0), synced(0, TOKEN_1), set("a", 1), bookmark(TOKEN_2), set("b", 2)], draining())
        }
        // It breaks again before `Synced`, so its token is still the newest one.
        ("resume", TOKEN_2, 2) => (vec![set("b", 2), delete("a", 3)], draining()),
        ("resume", TOKEN_2, _) => (vec![set("b", 2), delete("a", 3), set("c", 4), synced(4, TOKEN_3)], draining()),
        ("resume", TOKEN_3, _) => (vec![synced(4, TOKEN_4), set("d", 5)], End::Never),
        ("resync" | "moved" | "truncated", NO_TOKEN, 1) => {
            (vec![set("a", 0), synced(0, TOKEN_1), set("a", 9)], draining())
        }
        ("resync", TOKEN_1, _) => return Err(start_again(Code::OutOfRange, "RESYNC_REQUIRED")),
        ("moved", TOKEN_1, _) => return Err(start_again(Code::Aborted, "LOG_MOVED")),
        ("truncated", TOKEN_1, _) => return Err(start_again(Code::Aborted, "LOG_TRUNCATED")),
        // Another log may have lower offsets.
        ("resync" | "moved" | "truncated", NO_TOKEN, _) => {
            (vec![set("b", 7), synced(7, TOKEN_2), set("c", 8)], End::Never)
        }
        ("crowded", NO_TOKEN, 1) => return Err(crowded("TOO_MANY_REPLAYS")),
        // A server resets a stream whose client reads too slowly.
        ("crowded", NO_TOKEN, _) => (vec![set("a", 0), synced(0, TOKEN_1)], End::Status(Status::cancelled("reset"))),
        ("crowded", TOKEN_1, 3) => return Err(crowded("TOO_MANY_FOLLOWS")),
        ("crowded", TOKEN_1, 4) => return Err(too_slow()),
        ("crowded", TOKEN_1, _) => (vec![set("b", 1), synced(1, TOKEN_2)], End::Never),
        ("recreated", NO_TOKEN, _) => {
            let recreated = Failure::new(Code::FailedPrecondition, "TOPIC_RECREATED", "the topic is another one");
            (vec![set("a", 0), synced(0, TOKEN_1)], End::Status(recreated.into()))
        }
        ("unsynced", NO_TOKEN, 1) => (vec![set("a", 0)], End::Ok),
        ("unsynced", NO_TOKEN, 2) => (vec![set("a", 0)], draining()),
        ("unsynced", NO_TOKEN, _) => (vec![set("b", 1), synced(1, TOKEN_1)], End::Never),
        ("unknown-event", NO_TOKEN, _) => {
            (vec![later(), set("a", 0), synced(0, TOKEN_1), later(), set("b", 1)], End::Never)
        }
        // An unclean election takes what is at 4 and above. Later writes get offsets that were delivered.
        ("lost", NO_TOKEN, _) => {
            let before = [set("a", 0), synced(0, TOKEN_1), set("z", 1), bookmark(TOKEN_2)];
            let after = [set("a", 2), set("b", 3), set("a", 4), set("c", 5), set("e", 6)];
            (before.into_iter().chain(after).collect(), draining())
        }
        ("lost", TOKEN_2, _) => {
            let kept = [set("a", 2), set("b", 3), set("c", 4), other("e", 6, 60), synced(6, TOKEN_3)];
            (kept.into_iter().chain([set("d", 7)]).collect(), End::Never)
        }
        // `b` comes again in one stream, and is gone in the next one.
        ("phantom", NO_TOKEN, 1) => (vec![set("a", 0), synced(0, TOKEN_1), set("b", 1)], draining()),
        ("phantom", TOKEN_1, 2) => (vec![set("b", 1)], draining()),
        ("phantom", TOKEN_1, _) => (vec![set("c", 1), synced(1, TOKEN_2), set("d", 2)], End::Never),
        ("phantom", NO_TOKEN, _) => {
            (vec![set("a", 0), set("c", 1), set("d", 2), synced(2, TOKEN_3), set("e", 3)], End::Never)
        }
        // The call is open, and no message comes.
        ("mute", NO_TOKEN, _) => (vec![set("a", 0), synced(0, TOKEN_1)], draining()),
        ("mute", TOKEN_1, nth) if nth <= 1 + count.cast_unsigned() => (vec![], End::Never),
        // What was missed has no timeout once it comes.
        ("mute", TOKEN_1, _) => (vec![set("b", 1)], End::Never),
        ("many", ..) => return many(workspace, count, nth, token),
        ("too-large", NO_TOKEN, _) => return Err(crowded("REPLAY_TOO_LARGE")),
        ("stuck", NO_TOKEN, _) => (vec![set("a", 0), synced(0, TOKEN_1)], draining()),
        // What was missed takes longer than the server allows.
        ("stuck", TOKEN_1, _) => (vec![set("b", 1)], End::Status(too_slow())),
        ("outage", NO_TOKEN, 1..=3) => {
            let failure = Failure::new(Code::Unavailable, "BROKERS_UNREACHABLE", "no broker answers");
            return Err(failure.retry_after(Duration::from_millis(300)).into());
        }
        ("outage", NO_TOKEN, _) => (vec![set("a", 0), synced(0, TOKEN_1)], End::Never),
        // The token is too old before a change has come.
        ("lagging", NO_TOKEN, 1..=5) => {
            let end = End::Status(start_again(Code::OutOfRange, "RESYNC_REQUIRED"));
            (vec![set("a", 0), synced(0, TOKEN_1)], end)
        }
        ("lagging", NO_TOKEN, _) => (vec![set("a", 0), synced(0, TOKEN_1), set("b", 1)], draining()),
        ("lagging", TOKEN_1, _) => (vec![set("b", 1), synced(1, TOKEN_2), set("c", 2)], End::Never),
        _ if SCRIPTS.contains(&script) => {
            return Err(Failure::new(Code::InvalidArgument, "TOKEN_INVALID", "not the newest token").into());
        }
        _ => return Err(no_script(script)),
    };
    Ok(answer(events, end))
}

/// `count` entities, which a client that resumes gets again.
fn many(workspace: &str, count: i64, nth: u64, token: &[u8]) -> Result<Answer<WatchResponse>, Status> {
    let set = |id, offset| WatchEvent::Batch(batch(entry(workspace, id, offset)));
    let entries: Vec<_> = (1..=count).map(|offset| entry(workspace, &format!("x{offset}"), offset)).collect();
    let all = entries.chunks(1_000).map(|entries| WatchEvent::Batch(EntryBatch { entries: entries.to_vec() }));
    Ok(match (token, nth) {
        (NO_TOKEN, 1) => answer([set("a", 0), synced(0, TOKEN_1)].into_iter().chain(all), draining()),
        (NO_TOKEN, _) => answer([set("b", count + 1), synced(count + 1, TOKEN_2)], End::Never),
        (TOKEN_1, _) => answer(all.chain([synced(count, TOKEN_2), set("b", count + 1)]), End::Never),
        _ => return Err(Failure::new(Code::InvalidArgument, "TOKEN_INVALID", "not the newest token").into()),
    })
}

fn answer(events: impl IntoIterator<Item = WatchEvent>, end: End) -> Answer<WatchResponse> {
    Answer { events: events.into_iter().map(|event| WatchResponse { event: Some(event) }).collect(), end }
}

fn synced(offset: i64, token: &[u8]) -> WatchEvent {
    WatchEvent::Synced(Synced { snapshot: Some(snapshot(offset, token)) })
}

fn later() -> WatchEvent {
    WatchEvent::Later(Deletion {})
}

fn draining() -> End {
    End::Status(Failure::new(Code::Unavailable, "DRAINING", "the server stops").into())
}

fn start_again(code: Code, reason: &str) -> Status {
    Failure::new(code, reason, "start again").into()
}

fn too_slow() -> Status {
    Failure::new(Code::DeadlineExceeded, "DEADLINE", "the read took too long").into()
}

fn crowded(reason: &str) -> Status {
    Failure::new(Code::ResourceExhausted, reason, "try again").retry_after(Duration::from_millis(200)).into()
}

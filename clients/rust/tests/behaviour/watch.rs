//! A workspace that is watched.

use std::time::{Duration, Instant};

use changelogd_client::{Change, Client, Code, Entity, Entry, Error};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{
    Deployment, SCRIPTED, assert_error, next, observed, on_both, scripted, until_observed, variable, workspace,
};

/// An event as text, such as `a@1` for the change of `a` at offset 1.
async fn event(changes: &mut (impl Stream<Item = Result<Change, Error>> + Unpin)) -> String {
    let text = |entry: &Entry| format!("{}@{}", entry.key.id, entry.position.offset);
    match next(changes).await.unwrap() {
        Change::Loaded(entries) => format!("loaded {:?}", entries.iter().map(text).collect::<Vec<_>>()),
        Change::Changed(entry) => text(&entry),
        Change::Deleted(key) => format!("deleted {}", key.id),
    }
}

#[tokio::test]
async fn watch_loads_and_then_delivers_changes() {
    on_both(async |client, workspace| {
        let deployment = |name: &str, version| Deployment::new(&workspace, name, version);
        let first = client.set(&deployment("a", 1)).await.unwrap().offset;
        let mut changes = client.watch(&workspace, &[Deployment::TYPE]);
        assert_eq!(event(&mut changes).await, format!("loaded [\"a@{first}\"]"));
        // One by one: the embedded store removes a record when a later one of its key comes.
        for version in 2..12 {
            for name in ["a", "b"] {
                let offset = client.set(&deployment(name, version)).await.unwrap().offset;
                assert_eq!(event(&mut changes).await, format!("{name}@{offset}"));
            }
        }
        client.delete(&deployment("a", 0).key()).await.unwrap();
        assert_eq!(event(&mut changes).await, "deleted a");
        client.set(&deployment("c", 77)).await.unwrap();
        let Change::Changed(entry) = next(&mut changes).await.unwrap() else { panic!("c was set") };
        assert_eq!(entry.decode::<Deployment>().unwrap().version, 77);
    })
    .await;
}

#[tokio::test]
async fn watch_resumes_after_a_broken_stream() {
    let (client, workspace) = (scripted(), workspace("resume"));
    let mut changes = client.watch(&workspace, &[]);
    // What was missed comes once, deletes too, although one stream breaks before all of it has come.
    for expected in [r#"loaded ["a@0"]"#, "a@1", "b@2", "deleted a", "c@4", "d@5"] {
        assert_eq!(event(&mut changes).await, expected);
    }
    assert_eq!(observed(&client, &workspace).await.calls, 4);
}

#[tokio::test]
async fn watch_reloads_when_it_must() {
    let client = scripted();
    for script in ["resync", "moved", "truncated"] {
        let workspace = workspace(script);
        let mut changes = client.watch(&workspace, &[]);
        for expected in [r#"loaded ["a@0"]"#, "a@9", r#"loaded ["b@7"]"#, "c@8"] {
            assert_eq!(event(&mut changes).await, expected, "{script}");
        }
        assert_eq!(observed(&client, &workspace).await.calls, 3, "{script}");
    }
}

#[tokio::test]
async fn watch_delivers_what_replaced_lost_changes() {
    let (client, workspace) = (scripted(), workspace("lost"));
    let mut changes = client.watch(&workspace, &[]);
    for expected in [r#"loaded ["a@0"]"#, "z@1", "a@2", "b@3", "a@4", "c@5", "e@6"] {
        assert_eq!(event(&mut changes).await, expected);
    }
    // The log lost what was at 4 and above. What it has instead comes, and what it still has does not come again.
    for expected in ["a@2", "c@4"] {
        assert_eq!(event(&mut changes).await, expected);
    }
    let Change::Changed(other) = next(&mut changes).await.unwrap() else { panic!("e has another value") };
    assert_eq!((other.position.offset, other.decode::<Deployment>().unwrap().version), (6, 60));
    assert_eq!(event(&mut changes).await, "d@7");
    assert_eq!(observed(&client, &workspace).await.calls, 2);
}

#[tokio::test]
async fn watch_reloads_when_a_delivered_entity_is_gone() {
    let (client, workspace) = (scripted(), workspace("phantom"));
    let mut changes = client.watch(&workspace, &[]);
    for expected in [r#"loaded ["a@0"]"#, "b@1", "c@1", r#"loaded ["a@0", "c@1", "d@2"]"#, "e@3"] {
        assert_eq!(event(&mut changes).await, expected);
    }
    assert_eq!(observed(&client, &workspace).await.calls, 4);
}

#[tokio::test]
async fn watch_remembers_ten_thousand_entities() {
    let client = scripted();
    for (count, last) in [(10_000, "b@10001"), (10_001, r#"loaded ["b@10002"]"#)] {
        let workspace = workspace(&format!("many-{count}"));
        let mut changes = client.watch(&workspace, &[]);
        assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
        for offset in 1..=count {
            assert_eq!(event(&mut changes).await, format!("x{offset}@{offset}"));
        }
        assert_eq!(event(&mut changes).await, last);
        assert_eq!(observed(&client, &workspace).await.calls, 2);
    }
}

#[tokio::test]
async fn watch_asks_again_if_a_resumed_call_is_not_answered() {
    let client = scripted().with_load_timeout(Duration::from_millis(300));
    let workspace = workspace("mute-1");
    let mut changes = client.watch(&workspace, &[]);
    assert_eq!([event(&mut changes).await, event(&mut changes).await], [r#"loaded ["a@0"]"#, "b@1"]);
    until_observed(&client, &workspace, |seen| seen.cancelled).await;
    // After its first message a resumed call has no timeout.
    assert!(timeout(Duration::from_millis(500), changes.next()).await.is_err(), "there is no other change");
    assert_eq!(observed(&client, &workspace).await.calls, 3);

    // Calls that are never answered end it.
    let workspace = crate::support::workspace("mute-9");
    let mut changes = client.watch(&workspace, &[]);
    assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
    assert_error(next(&mut changes).await, Code::DeadlineExceeded, None);
    assert_eq!(observed(&client, &workspace).await.calls, 3);
}

#[tokio::test]
async fn watch_ends_with_what_does_not_pass() {
    let client = scripted().with_load_timeout(Duration::from_millis(500));
    for (script, events, code, reason) in [
        ("too-large", &[][..], Code::ResourceExhausted, "REPLAY_TOO_LARGE"),
        ("stuck", &[r#"loaded ["a@0"]"#, "b@1"], Code::DeadlineExceeded, "DEADLINE"),
    ] {
        let workspace = workspace(script);
        let mut changes = client.watch(&workspace, &[]);
        for expected in events {
            assert_eq!(event(&mut changes).await, *expected, "{script}");
        }
        assert_error(next(&mut changes).await, code, Some(reason));
        assert!(observed(&client, &workspace).await.calls >= 3, "{script}");
    }
    // But an outage may last.
    let workspace = workspace("outage");
    assert_eq!(event(&mut client.watch(&workspace, &[])).await, r#"loaded ["a@0"]"#);
    assert_eq!(observed(&client, &workspace).await.calls, 4);
}

#[tokio::test]
async fn watch_waits_longer_until_a_later_event() {
    // A state ends a row of failures, so the timeout of loads does not end this watch.
    let client = scripted().with_load_timeout(Duration::from_millis(300));
    let (workspace, mut started) = (workspace("lagging"), Instant::now());
    let mut changes = client.watch(&workspace, &[]);
    for _ in 0..6 {
        assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
    }
    assert_eq!(event(&mut changes).await, "b@1");
    // Five pauses of at most 125 ms would take 0.6 s.
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    started = Instant::now();
    assert_eq!(event(&mut changes).await, "c@2");
    // A pause that is twice as long as the one before would be at least 3.2 s.
    assert!(started.elapsed() < Duration::from_millis(1_400), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_watch_without_synced_delivers_no_state() {
    let (client, workspace) = (scripted(), workspace("unsynced"));
    let mut changes = client.watch(&workspace, &[]);
    assert_eq!(event(&mut changes).await, r#"loaded ["b@1"]"#);
    assert_eq!(observed(&client, &workspace).await.calls, 3);
}

#[tokio::test]
async fn watch_outlives_what_passes() {
    let (client, workspace) = (scripted(), workspace("crowded"));
    let delay = Duration::from_millis(200);
    let started = Instant::now();
    let mut changes = client.watch(&workspace, &[]);
    assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
    assert!(started.elapsed() >= delay, "{:?}", started.elapsed());
    assert_eq!(event(&mut changes).await, "b@1");
    assert!(started.elapsed() >= 2 * delay, "{:?}", started.elapsed());
    assert_eq!(observed(&client, &workspace).await.calls, 5);

    // A state that does not come within its timeout is asked for again.
    let workspace = crate::support::workspace("hang");
    let mut hasty = client.with_load_timeout(Duration::from_millis(100)).watch(&workspace, &[]);
    assert_error(next(&mut hasty).await, Code::DeadlineExceeded, None);
    assert_eq!(observed(&client, &workspace).await.calls, 2);

    // The changes have no timeout.
    let quiet = crate::support::workspace("unknown-event");
    let limit = Duration::from_millis(300);
    let mut changes = client.with_load_timeout(limit).watch(&quiet, &[]);
    assert_eq!([event(&mut changes).await, event(&mut changes).await], [r#"loaded ["a@0"]"#, "b@1"]);
    assert!(timeout(limit + delay, changes.next()).await.is_err(), "there is no other change");
    assert_eq!(observed(&client, &quiet).await.calls, 1);
}

#[tokio::test]
async fn watch_resumes_after_a_long_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = AbortOnDropHandle::new(tokio::spawn(relay(listener)));
    let client = Client::connect(&address.to_string()).unwrap().with_load_timeout(Duration::from_millis(300));
    let mut changes = client.watch(&workspace("unknown-event"), &[]);
    assert_eq!([event(&mut changes).await, event(&mut changes).await], [r#"loaded ["a@0"]"#, "b@1"]);
    drop(relay);
    let again = async {
        sleep(Duration::from_millis(1_500)).await;
        self::relay(TcpListener::bind(address).await.unwrap()).await;
    };
    let refused = tokio::select! {
        refused = next(&mut changes) => refused,
        () = again => unreachable!("a relay has no end"),
    };
    // The script refuses the call that resumes.
    assert_error(refused, Code::InvalidArgument, Some("TOKEN_INVALID"));
}

/// Carries bytes between its clients and the scripted server, until it is dropped.
async fn relay(listener: TcpListener) {
    let mut carried = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = TcpStream::connect(variable(SCRIPTED)).await.unwrap();
        carried.spawn(async move { copy_bidirectional(&mut client, &mut server).await });
    }
}

#[tokio::test]
async fn watch_ends_with_an_error_that_stays() {
    let (client, workspace) = (scripted(), workspace("recreated"));
    let mut changes = client.watch(&workspace, &[]);
    assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
    assert_error(next(&mut changes).await, Code::FailedPrecondition, Some("TOPIC_RECREATED"));
    assert!(changes.try_next().await.unwrap().is_none());
    assert_eq!(observed(&client, &workspace).await.calls, 1);
}

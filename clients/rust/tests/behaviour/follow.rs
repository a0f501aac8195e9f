//! A workspace that is followed.

use std::time::{Duration, Instant};

use changelogd_client::{Change, Code, Entity, Entry, Error};
use futures_util::{Stream, TryStreamExt};

use crate::support::{Deployment, assert_error, next, observed, on_both, scripted, workspace};

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
async fn follow_loads_and_then_delivers_changes() {
    on_both(async |client, workspace| {
        let deployment = |name: &str, version| Deployment::new(&workspace, name, version);
        let first = client.set(&deployment("a", 1)).await.unwrap().offset;
        let mut changes = client.follow(&workspace, &[Deployment::TYPE]);
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
async fn follow_resumes_after_a_broken_stream() {
    let (client, workspace) = (scripted(), workspace("resume"));
    let mut changes = client.follow(&workspace, &[]);
    for expected in [r#"loaded ["a@0"]"#, "a@1", "b@2", "deleted a"] {
        assert_eq!(event(&mut changes).await, expected);
    }
    // The load, the stream that broke, and the one with the newest token.
    assert_eq!(observed(&client, &workspace).await.calls, 3);
}

#[tokio::test]
async fn follow_reloads_when_it_must() {
    let client = scripted();
    for script in ["resync", "moved", "truncated"] {
        let workspace = workspace(script);
        let mut changes = client.follow(&workspace, &[]);
        for expected in [r#"loaded ["a@0"]"#, r#"loaded ["b@7"]"#, "c@8"] {
            assert_eq!(event(&mut changes).await, expected, "{script}");
        }
        assert_eq!(observed(&client, &workspace).await.calls, 4, "{script}");
    }
}

#[tokio::test]
async fn follow_outlives_what_passes() {
    let (client, workspace) = (scripted(), workspace("crowded"));
    let delay = Duration::from_millis(200);
    let started = Instant::now();
    let mut changes = client.follow(&workspace, &[]);
    assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
    assert!(started.elapsed() >= delay, "{:?}", started.elapsed());
    assert_eq!(event(&mut changes).await, "b@1");
    assert!(started.elapsed() >= 2 * delay, "{:?}", started.elapsed());
    // Two loads and four streams.
    assert_eq!(observed(&client, &workspace).await.calls, 6);
}

#[tokio::test]
async fn follow_ends_with_an_error_that_stays() {
    let (client, workspace) = (scripted(), workspace("recreated"));
    let mut changes = client.follow(&workspace, &[]);
    assert_eq!(event(&mut changes).await, r#"loaded ["a@0"]"#);
    assert_error(next(&mut changes).await, Code::FailedPrecondition, Some("TOPIC_RECREATED"));
    assert!(changes.try_next().await.unwrap().is_none());
    assert_eq!(observed(&client, &workspace).await.calls, 2);
}

//! Loads and streams: whole, or an error.

use std::time::Duration;

use changelogd_client::{Change, Code, Entity, Entry, Selection, Snapshot, StreamEvent, proto::DescribeRequest};
use futures_util::TryStreamExt;
use tokio::time::timeout;

use crate::support::{Deployment, assert_error, next, on_both, scripted, until_observed, versions, workspace};

#[tokio::test]
async fn a_load_is_a_map_of_typed_values() {
    on_both(async |client, workspace| {
        assert!(client.load::<Deployment>(&workspace).await.unwrap().is_empty());
        for (name, version) in [("a", 1), ("b", 1), ("c", 1), ("a", 2)] {
            client.set(&Deployment::new(&workspace, name, version)).await.unwrap();
        }
        client.delete(&Deployment::new(&workspace, "b", 1).key()).await.unwrap();
        let other = format!("{workspace}.other");
        client.set(&Deployment::new(&other, "d", 1)).await.unwrap();
        assert_eq!(versions(&client.load(&workspace).await.unwrap()), [("a", 2), ("c", 1)]);
        assert_eq!(versions(&client.load(&other).await.unwrap()), [("d", 1)]);
    })
    .await;
}

#[tokio::test]
async fn a_partial_load_is_an_error() {
    let client = scripted();
    for script in ["partial", "broken"] {
        let loaded = client.load::<Deployment>(&workspace(script)).await;
        let error = assert_error(loaded, Code::Internal, None);
        assert!(!error.is_safe_to_retry(), "{error}");
        assert_eq!(script == "partial", error.message().contains("Snapshot"), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_event_is_ignored() {
    let loaded = scripted().load(&workspace("unknown-event")).await.unwrap();
    assert_eq!(versions(&loaded).len(), 1);
    let mut changes = scripted().watch(&workspace("unknown-event"), &[]);
    let Change::Loaded(entries) = next(&mut changes).await.unwrap() else { panic!("the state comes first") };
    assert_eq!(entries.len(), 1);
    assert!(matches!(next(&mut changes).await.unwrap(), Change::Changed(entry) if entry.key.id == "b"));
}

#[tokio::test]
async fn cancel_stops_a_load() {
    let (client, workspace) = (scripted(), workspace("hang"));
    let load = tokio::spawn({
        let (client, workspace) = (client.clone(), workspace.clone());
        async move { client.load::<Deployment>(&workspace).await }
    });
    until_observed(&client, &workspace, |seen| seen.calls == 1).await;
    load.abort();
    let cancelled = async {
        assert!(load.await.unwrap_err().is_cancelled());
        until_observed(&client, &workspace, |seen| seen.cancelled).await;
    };
    timeout(Duration::from_secs(1), cancelled).await.expect("the load is cancelled within a second");
}

/// The records and the Snapshots of a stream. All records of a partition come before its Snapshot.
fn split(events: Vec<StreamEvent>) -> (Vec<Entry>, Vec<Snapshot>) {
    let (mut records, mut snapshots) = (Vec::new(), Vec::<Snapshot>::new());
    for event in events {
        match event {
            StreamEvent::Record(record) => {
                assert!(!snapshots.iter().any(|snapshot| snapshot.partition == record.position.partition));
                records.push(record);
            }
            StreamEvent::Snapshot(snapshot) => snapshots.push(snapshot),
        }
    }
    (records, snapshots)
}

#[tokio::test]
async fn a_stream_has_tombstones_and_snapshots() {
    on_both(async |client, workspace| {
        // Records that a later one of their key supersedes may be gone.
        client.set(&Deployment::new(&workspace, "a", 1)).await.unwrap();
        client.set(&Deployment::new(&workspace, "b", 1)).await.unwrap();
        client.delete(&Deployment::new(&workspace, "b", 1).key()).await.unwrap();
        let last_of_each_key = [("a", Some(1)), ("b", None)];
        let stream = async |selection: Selection| {
            let events = client.stream(selection).await.unwrap().try_collect().await.unwrap();
            let (mut records, snapshots) = split(events);
            records.retain(|record| record.key.workspace == workspace);
            let found = ["a", "b"].map(|id| {
                let record = records.iter().rfind(|record| record.key.id == id).unwrap();
                assert_eq!(record.is_tombstone(), record.value.is_none());
                (id, record.value.is_some().then(|| record.decode::<Deployment>().unwrap().version))
            });
            assert_eq!(found, last_of_each_key);
            snapshots
        };
        let snapshots = stream(Selection::workspace(&workspace)).await;
        let [of_workspace] = &snapshots[..] else { panic!("{snapshots:?}") };
        assert!(of_workspace.entries >= 1 && of_workspace.tombstones == 1, "{of_workspace:?}");

        let partition = of_workspace.partition;
        let of_partition = stream(Selection { partitions: vec![partition], ..Selection::default() }).await;
        assert_eq!(of_partition.iter().map(|snapshot| snapshot.partition).collect::<Vec<_>>(), [partition]);
        let two = vec![workspace.clone(), format!("{workspace}.other")];
        let of_two = stream(Selection { workspaces: two, ..Selection::default() }).await;
        assert!(of_two.iter().any(|snapshot| snapshot.partition == partition), "{of_two:?}");
        let described = client.raw().describe(DescribeRequest::default()).await.unwrap();
        assert_eq!(stream(Selection::default()).await.len(), described.into_inner().partition_count as usize);
    })
    .await;
    for script in ["partial", "broken"] {
        let workspace = workspace(script);
        let mut events = scripted().stream(Selection::workspace(&workspace)).await.unwrap();
        let StreamEvent::Record(record) = next(&mut events).await.unwrap() else { panic!("no record") };
        assert_eq!(record.key.id, "a");
        assert_error(next(&mut events).await, Code::Internal, None);
        assert!(events.try_next().await.unwrap().is_none());
    }
}

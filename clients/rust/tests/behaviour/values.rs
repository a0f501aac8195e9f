//! Values, entities and keys.

use std::collections::BTreeMap;

use changelogd_client::{Code, Entity, Key, Selection, StreamEvent};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::support::{Deployment, assert_error, embedded, on_both, workspace};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Account {
    workspace: String,
    id: String,
    text: String,
    largest: u64,
    least: i64,
    nothing: Option<String>,
    parts: BTreeMap<String, Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Part {
    Ratio(f64),
    Flags { on: bool, count: i64 },
}

impl Entity for Account {
    const TYPE: &'static str = "account";

    fn key(&self) -> Key {
        Key::new(&self.workspace, Self::TYPE, &self.id)
    }
}

#[tokio::test]
async fn a_typed_value_is_set_read_and_deleted() {
    on_both(async |client, workspace| {
        let parts = vec![Part::Ratio(0.1), Part::Flags { on: true, count: 9_007_199_254_740_993 }];
        let account = Account {
            workspace: workspace.clone(),
            id: "ä/1".to_owned(),
            text: "\"quoted\" \\ \n\u{0} ß 漢字 🦀 e\u{301} \u{2028} \u{202e}".to_owned(),
            largest: u64::MAX,
            least: i64::MIN,
            nothing: None,
            parts: BTreeMap::from([("a".to_owned(), parts), ("empty".to_owned(), Vec::new())]),
        };
        let first = client.set(&account).await.unwrap();
        assert_eq!(client.get::<Account>(&workspace, &account.id).await.unwrap(), Some(account.clone()));
        let deleted = client.delete(&account.key()).await.unwrap();
        assert!(deleted.partition == first.partition && deleted.offset > first.offset, "{first:?} {deleted:?}");
        assert_eq!(client.get::<Account>(&workspace, &account.id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn an_absent_entity_is_no_error() {
    on_both(async |client, workspace| {
        assert_eq!(client.get::<Deployment>(&workspace, "a").await.unwrap(), None);
        let deployment = Deployment::new(&workspace, "a", 1);
        client.set(&deployment).await.unwrap();
        client.delete(&deployment.key()).await.unwrap();
        client.delete(&deployment.key()).await.unwrap();
        assert_eq!(client.get::<Deployment>(&workspace, "a").await.unwrap(), None);
    })
    .await;
}

/// A value with the type of [`Deployment`] and another form.
#[derive(Debug, Serialize, Deserialize)]
struct Other {
    workspace: String,
    name: i64,
}

impl Entity for Other {
    const TYPE: &'static str = Deployment::TYPE;

    fn key(&self) -> Key {
        Key::new(&self.workspace, Self::TYPE, "bad")
    }
}

#[tokio::test]
async fn a_value_of_another_form_is_an_error_with_its_key() {
    let (client, workspace) = (embedded(), workspace("form"));
    client.set(&Deployment::new(&workspace, "good", 1)).await.unwrap();
    client.set(&Other { workspace: workspace.clone(), name: 7 }).await.unwrap();
    let error = client.load::<Deployment>(&workspace).await.unwrap_err();
    let key = format!("{workspace}/deployment/bad");
    assert!(error.to_string().contains(&key) && error.metadata()["key"] == key, "{error}");
    assert!(!error.is_safe_to_retry());
}

#[tokio::test]
async fn a_key_is_split() {
    on_both(async |client, workspace| {
        let deployment = Deployment::new(&workspace, "a/b", 1);
        client.set(&deployment).await.unwrap();
        let loaded = client.load::<Deployment>(&workspace).await.unwrap();
        assert_eq!(loaded.keys().collect::<Vec<_>>(), ["a/b"]);
        let records = client.stream(Selection::workspace(&workspace)).await.unwrap();
        let records: Vec<_> = records.try_collect().await.unwrap();
        let [StreamEvent::Record(record), StreamEvent::Snapshot(_)] = &records[..] else { panic!("{records:?}") };
        let Key { workspace: of_key, entity_type, id } = &record.key;
        assert_eq!((of_key, entity_type.as_str(), id.as_str()), (&workspace, "deployment", "a/b"));
        assert_eq!(record.decode::<Deployment>().unwrap().version, 1);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_key_is_refused_with_its_field() {
    on_both(async |client, workspace| {
        for (key, field) in [
            (Key::new("", "deployment", "a"), "workspace_id"),
            (Key::new("a/b", "deployment", "a"), "workspace_id"),
            (Key::new(&workspace, "deployment", ""), "changelog_id"),
            (Key::new(&workspace, "", "a"), "changelog_id"),
            (Key::new(&workspace, "a/b", "c"), "changelog_id"),
            (Key::new(&workspace, "deployment", "a//b"), "changelog_id"),
        ] {
            let error = assert_error(client.delete(&key).await, Code::InvalidArgument, Some("KEY_INVALID"));
            assert_eq!(error.field(), Some(field), "{error}");
        }
        let unnamed = client.set(&Deployment::new(&workspace, "", 1)).await;
        let error = assert_error(unnamed, Code::InvalidArgument, Some("KEY_INVALID"));
        assert_eq!(error.field(), Some("changelog_id"), "{error}");
    })
    .await;
}

//! Errors, retries and deadlines.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use changelogd_client::{Code, Entity, Error, Key};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::support::{Deployment, assert_error, observed, scripted, workspace};

/// The error of a Set, and the one of a mutation of a Write.
async fn errors_of(script: &str) -> [Error; 2] {
    let client = scripted();
    let deployment = Deployment::new(&workspace(script), "a", 1);
    let of_call = client.set(&deployment).await.unwrap_err();
    let of_verdict = client.writer().await.unwrap().set(&deployment).await.unwrap().await.unwrap_err();
    [of_call, of_verdict]
}

fn metadata<const N: usize>(facts: [(&str, &str); N]) -> HashMap<String, String> {
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact.to_owned())).collect()
}

#[tokio::test]
async fn an_error_has_its_facts() {
    for busy in errors_of("busy").await {
        assert_eq!((busy.code(), busy.reason()), (Code::ResourceExhausted, Some("PRODUCER_QUEUE_FULL")));
        assert_eq!((busy.message(), busy.field()), ("the queue is full", None));
        assert_eq!(busy.retry_after(), Some(Duration::from_millis(1_500)));
        assert_eq!(*busy.metadata(), metadata([("limit", "1000")]));
        assert!(busy.is_safe_to_retry());
    }
    for refused in errors_of("refused").await {
        assert_eq!((refused.code(), refused.reason()), (Code::InvalidArgument, Some("VALUE_TOO_LARGE")));
        assert_eq!((refused.message(), refused.field()), ("too large", Some("raw")));
        assert_eq!(refused.retry_after(), None);
        assert_eq!(*refused.metadata(), metadata([("limit", "10"), ("got", "11")]));
        assert!(!refused.is_safe_to_retry());
    }
}

#[tokio::test]
async fn safe_to_retry_follows_the_status_table() {
    let client = scripted();
    let mut scripts: Vec<_> = (1..=16).flat_map(|code| [(code, Some("STARTING")), (code, None)]).collect();
    scripts.extend([(4, Some("DEADLINE")), (4, Some("OUTCOME_UNKNOWN")), (2, Some("OUTCOME_UNKNOWN")), (14, Some(""))]);
    let safe = [(14, Some("STARTING")), (8, Some("STARTING")), (10, Some("STARTING")), (4, Some("DEADLINE"))];
    // Together, because UNAVAILABLE is tried five times.
    let (client, safe) = (&client, &safe);
    join_all(scripts.into_iter().map(|(code, reason)| async move {
        let script = format!("status-{code}{}", reason.map(|reason: &str| format!("-{reason}")).unwrap_or_default());
        let error = client.set(&Deployment::new(&workspace(&script), "a", 1)).await.unwrap_err();
        // An empty reason is as good as none.
        let reason = reason.filter(|reason| !reason.is_empty());
        assert_eq!((error.code(), error.reason()), (Code::from_i32(code), reason), "{script}");
        assert_eq!(error.is_safe_to_retry(), safe.contains(&(code, reason)), "{script}");
    }))
    .await;
}

/// A value that is only a text.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text {
    #[serde(skip)]
    workspace: String,
    text: String,
}

impl Entity for Text {
    const TYPE: &'static str = "text";

    fn key(&self) -> Key {
        Key::new(&self.workspace, Self::TYPE, "a")
    }
}

#[tokio::test]
async fn unavailable_is_retried() {
    let client = scripted();
    // The quotes count.
    for bytes in [3, 300_000] {
        let workspace = workspace("starting");
        client.set(&Text { workspace: workspace.clone(), text: "x".repeat(bytes - 2) }).await.unwrap();
        assert_eq!(observed(&client, &workspace).await.calls, 3);
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_not_retried() {
    let (client, workspace) = (scripted(), workspace("unknown"));
    let outcome = client.set(&Deployment::new(&workspace, "a", 1)).await;
    let error = assert_error(outcome, Code::DeadlineExceeded, Some("OUTCOME_UNKNOWN"));
    assert!(!error.is_safe_to_retry());
    assert_eq!(observed(&client, &workspace).await.calls, 1);
}

#[tokio::test]
async fn the_deadline_is_passed_on() {
    let client = scripted();
    let (limit, hurried) = (Duration::from_millis(800), client.with_timeout(Duration::from_millis(800)));
    for is_load in [false, true] {
        let (workspace, started) = (workspace("hang"), Instant::now());
        let outcome = if is_load {
            hurried.load::<Deployment>(&workspace).await.map(drop)
        } else {
            hurried.set(&Deployment::new(&workspace, "a", 1)).await.map(drop)
        };
        let took = started.elapsed();
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        assert!(took >= limit - Duration::from_millis(50) && took < 3 * limit, "{took:?}");
        let seen = observed(&client, &workspace).await;
        assert!(seen.timeout_ms > 0 && seen.timeout_ms <= 800 && seen.calls == 1, "{seen:?}");
    }
}

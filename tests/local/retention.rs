//! `--delete-retention` below a second, on the stores that have it.

use changelogd::proto::v1;

use crate::contract::{
    retention::{
        a_stream_that_follows_is_refused_and_the_setting_is_named, a_watch_resumes_until_its_token_is_too_old,
    },
    server::{TestServer, directory},
};

/// The memory store keeps every tombstone, and a load of the embedded one reads a snapshot.
/// Covers R9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_tiny_delete_retention_loads_are_whole_and_only_streams_that_follow_are_refused() {
    for millis in ["0", "1"] {
        for store in ["memory", "embedded"] {
            let (_keep, path) = directory();
            let arguments = vec![
                format!("--store={store}"),
                format!("--data-dir={}", path.display()),
                format!("--delete-retention={millis}ms"),
            ];
            let server = TestServer::process(arguments).await.ready().await;
            let keys: Vec<_> = (0..100).map(|i| format!("ws/t/{i:02}")).collect();
            for key in &keys {
                server.set(key, "1").await;
            }
            server.delete("ws/t/00").await;
            for key in &keys[1..20] {
                assert_eq!(server.load("ws").await.entries.len(), keys.len() - 1, "{store}, {millis} ms");
                server.get(key).await.unwrap_or_else(|status| panic!("{store}, {millis} ms: {status:?}"));
                for content in [v1::Content::Records, v1::Content::Latest] {
                    let request = v1::StreamAllRequest { content: content.into(), ..Default::default() };
                    let streamed = server.stream(request).await.unwrap_or_else(|status| panic!("{store}: {status:?}"));
                    assert!(streamed.entries.len() >= keys.len() - 1, "{store}, {millis} ms");
                }
            }
            a_stream_that_follows_is_refused_and_the_setting_is_named(&server, "--delete-retention", millis).await;
        }
    }
}

/// Covers C71, C49.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_with_a_token_older_than_half_of_the_retention_must_start_again() {
    for store in ["memory", "embedded"] {
        let (_keep, path) = directory();
        let data = format!("--data-dir={}", path.display());
        let arguments = vec![format!("--store={store}"), data, "--delete-retention=4s".to_owned()];
        let server = TestServer::process(arguments).await.ready().await;
        a_watch_resumes_until_its_token_is_too_old(&server).await;
    }
}

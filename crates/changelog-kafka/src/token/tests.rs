use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use changelog_core::log::{Log as _, TopicState};
use changelogd_testkit::identity_provider::unsecured_jwt;
use tokio::time::timeout;

use crate::{
    KafkaLog, Metrics, Properties, Settings, clients::Clients, ffi::TokenTarget, settings::HeldFiles,
    timeouts::TOPIC_QUERY_SHORT, token::Token,
};

/// A broker that refuses connections, and a token file.
fn settings(file: &std::path::Path) -> Settings {
    let mut settings = Settings::new("127.0.0.1:1", "t");
    let properties = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "OAUTHBEARER")];
    settings.properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    settings.oauth_token_file = Some(file.to_owned());
    settings
}

/// Waits until the cause of an unreachable topic has these words. Returns all of it.
async fn cause(log: &KafkaLog, words: &str) -> String {
    let mut state = log.topic_state();
    let has = |state: &TopicState| matches!(state, TopicState::Unreachable { cause, .. } if cause.contains(words));
    let found = timeout(Duration::from_secs(20), state.wait_for(has)).await.map(|found| found.unwrap().clone());
    match found {
        Ok(TopicState::Unreachable { cause, .. }) => cause,
        _ => panic!("{words}: {:?}", log.topic_state().borrow()),
    }
}

/// Covers R63, R64.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_is_the_cause_until_there_is_one_and_then_that_of_the_brokers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let log = KafkaLog::start(settings(&file), Metrics::default()).unwrap();
    let missing = cause(&log, "No such file").await;
    assert!(missing.contains(&file.display().to_string()) && missing.contains("no token"), "{missing}");
    assert!(log.topic().await.unwrap_err().to_string().contains("No such file"));
    fs::write(&file, "opaque").unwrap();
    // A connection is tried as soon as there is a token.
    let refused = cause(&log, "127.0.0.1:1").await;
    assert!(!refused.contains("no token") && !refused.contains("opaque"), "{refused}");
}

/// Covers R60.
#[tokio::test]
async fn each_kind_of_client_takes_the_token() {
    struct Reports;
    impl rdkafka::ClientContext for Reports {}
    impl rdkafka::producer::ProducerContext for Reports {
        type DeliveryOpaque = ();
        fn delivery(&self, _: &rdkafka::producer::DeliveryResult<'_>, (): ()) {}
    }
    let clients = Clients::new(settings("/nonexistent".as_ref()), HeldFiles::default()).unwrap();
    let now = SystemTime::now();
    let first = Token::parse("first", None, now).unwrap();
    clients.tokens().unwrap().renew(0, first);
    let token = |life| Token::parse("hunter2", Some(Duration::from_millis(life)), now).unwrap();
    let extensions = vec![("logicalCluster".to_owned(), "lkc-1".to_owned())];
    let (good, bad) = (token(60_000).with_extensions(extensions), token(1));
    let opaque = Token::parse("hunter2", None, now).unwrap();
    let auth = opaque.clone().with_extensions(vec![("auth".to_owned(), "hunter2".to_owned())]);
    let (consumer, producer) = (clients.consumer().unwrap(), clients.producer(1_000_000, Reports).unwrap());
    let (handle, admin) = (consumer.handle().clone(), clients.admin());
    let targets: [Arc<dyn TokenTarget>; 3] = [handle, producer, admin];
    std::thread::sleep(Duration::from_millis(2));
    for target in targets {
        assert_eq!((target.set_token(&good), target.set_token(&opaque)), (Ok(()), Ok(())));
        for refused in [&bad, &auth] {
            let error = target.set_token(refused).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
    let mut without = settings("/nonexistent".as_ref());
    (without.properties, without.oauth_token_file) = (Properties::default(), None);
    let without = Clients::new(without, HeldFiles::default()).unwrap();
    assert!(without.tokens().is_none() && without.admin().set_token(&good).is_err());
}

/// Covers R64.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_the_cause_until_there_is_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let jwt = |life: Duration| unsecured_jwt("service", SystemTime::now(), SystemTime::now() + life);
    let log = KafkaLog::start(settings(&file), Metrics::default()).unwrap();
    for _ in 0..2 {
        fs::write(&file, jwt(Duration::from_secs(3))).unwrap();
        // With a token that counts, the brokers are asked.
        let refused = cause(&log, "127.0.0.1:1").await;
        assert!(!refused.contains("no token"), "{refused}");
        let expired = cause(&log, "the last one has expired at ").await;
        assert!(expired.contains("no token") && expired.contains(&file.display().to_string()), "{expired}");
        let started = std::time::Instant::now();
        assert!(log.topic().await.unwrap_err().to_string().contains("the last one has expired at "));
        assert!(started.elapsed() < TOPIC_QUERY_SHORT, "no query is waited for: {:?}", started.elapsed());
        // Queries go on, and say that no broker can have taken a write.
        let leader = log.inner.watcher.leader(0);
        assert!(!leader.may_have_changed(&leader));
        fs::write(&file, jwt(Duration::from_secs(3_600))).unwrap();
        let refused = cause(&log, "127.0.0.1:1").await;
        assert!(!refused.contains("no token"), "{refused}");
    }
}

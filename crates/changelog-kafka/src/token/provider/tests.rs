use std::{collections::VecDeque, path::Path};

use changelogd_testkit::identity_provider::{Granting, IdentityProvider};
use tokio::{task::JoinHandle, time::advance};

use super::*;
use crate::settings::{HeldFiles, Settings};

/// Seconds since the start at which a token was asked for.
type Asked = Arc<Mutex<Vec<u64>>>;

/// Answers with lives of tokens, or failures. The last one is repeated. The wall clock goes with the paused one.
struct Script {
    started: Instant,
    /// The wall clock at the start.
    wall: SystemTime,
    answers: Mutex<VecDeque<Result<Option<u64>, &'static str>>>,
    asked: Asked,
    changed: Arc<Mutex<bool>>,
    /// How far the wall clock has jumped.
    jump: Arc<Mutex<Duration>>,
    /// The settings of tokens that came from elsewhere.
    replaced: Arc<Mutex<Vec<TokenSettings>>>,
}

impl Source for Script {
    async fn get(&self) -> Result<Token, TokenError> {
        self.asked.lock().push(self.started.elapsed().as_secs());
        let mut answers = self.answers.lock();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        let value = format!("token-{}", self.asked.lock().len());
        match answer.expect("an answer") {
            Ok(life) => Ok(Token::parse(&value, life.map(Duration::from_secs), self.now()).unwrap()),
            Err(words) => Err(TokenError(words.to_owned())),
        }
    }

    async fn has_changed(&self) -> bool {
        std::mem::take(&mut *self.changed.lock())
    }

    fn replaced(&self, settings: TokenSettings) {
        self.replaced.lock().push(settings);
    }

    fn now(&self) -> SystemTime {
        self.wall + self.started.elapsed() + *self.jump.lock()
    }
}

struct Running {
    tokens: Arc<Tokens>,
    wall: SystemTime,
    asked: Asked,
    changed: Arc<Mutex<bool>>,
    jump: Arc<Mutex<Duration>>,
    replaced: Arc<Mutex<Vec<TokenSettings>>>,
    metrics: Metrics,
    task: JoinHandle<()>,
}

impl Running {
    /// The last token, also if it has expired meanwhile.
    fn last_token(&self) -> String {
        self.tokens.current_at(self.wall).unwrap().value().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn run(answers: &[Result<Option<u64>, &'static str>]) -> Running {
    let (tokens, asked, changed, jump) = (Arc::<Tokens>::default(), Asked::default(), Arc::default(), Arc::default());
    let (wall, replaced) = (SystemTime::now(), Arc::default());
    let source = Script {
        started: Instant::now(),
        wall,
        answers: Mutex::new(answers.iter().copied().collect()),
        asked: asked.clone(),
        changed: Arc::clone(&changed),
        jump: Arc::clone(&jump),
        replaced: Arc::clone(&replaced),
    };
    let metrics = Metrics::default();
    let provider = Provider { tokens: tokens.clone(), source, metrics: metrics.clone() };
    Running { tokens, wall, asked, changed, jump, replaced, metrics, task: tokio::spawn(provider.run()) }
}

/// Lets this many seconds pass. A thread that blocks does not stop the paused clock, so its work is waited for.
async fn pass(seconds: u64) {
    for _ in 0..seconds * 4 {
        advance(Duration::from_millis(250)).await;
        std::thread::sleep(Duration::from_millis(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

/// Covers R61.
#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_after_four_fifths_of_its_life() {
    let running = run(&[Ok(Some(100)), Ok(Some(1_000)), Ok(Some(50))]);
    pass(75).await;
    assert_eq!(*running.asked.lock(), [0]);
    assert_eq!(running.last_token(), "token-1");
    pass(10).await;
    assert_eq!(running.asked.lock().len(), 2);
    assert!((80..83).contains(&running.asked.lock()[1]), "{:?}", running.asked.lock());
    assert_eq!(running.last_token(), "token-2");
    pass(780).await;
    assert_eq!(running.asked.lock().len(), 2);
    pass(20).await;
    assert_eq!(running.asked.lock().len(), 3);
    assert_eq!((running.metrics.token_requests.get(), running.metrics.token_failures.get()), (3, 0));
}

/// Covers R61.
#[tokio::test(start_paused = true)]
async fn after_a_failure_the_last_token_is_kept_and_attempts_come_more_and_more_seldom() {
    let running = run(&[Ok(Some(100)), Err("HTTP 401")]);
    pass(130).await;
    let asked = running.asked.lock().clone();
    let pauses: Vec<_> = asked[1..].windows(2).map(|two| two[1] - two[0]).collect();
    let expected = [1, 2, 4, 8, 10, 10];
    assert!(pauses.len() >= 4, "{asked:?}");
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((expected..=expected + 2).contains(pause), "{asked:?}");
    }
    assert_eq!(running.last_token(), "token-1", "kept, because brokers decide on it");
    assert_eq!(running.metrics.token_failures.get(), running.metrics.token_requests.get() - 1);
    assert!(running.tokens.current_at(running.wall + Duration::from_secs(99)).is_ok());
    let expired = running.tokens.current_at(running.wall + Duration::from_secs(102)).unwrap_err();
    assert!(expired.to_string().starts_with("HTTP 401; the last one has expired at "), "{expired}");
}

/// Covers R61, R64.
#[tokio::test(start_paused = true)]
async fn the_first_token_is_asked_for_until_there_is_one() {
    let running = run(&[Err("no"), Err("no"), Ok(Some(1_000))]);
    pass(1).await;
    assert_eq!(running.tokens.wait_for_current(Duration::ZERO).await, Err(TokenError("no".to_owned())));
    pass(10).await;
    assert_eq!(running.last_token(), "token-3");
    assert!(running.tokens.wait_for_current(Duration::ZERO).await.is_ok());
}

/// Covers R63.
#[tokio::test(start_paused = true)]
async fn a_token_without_an_expiry_is_used_until_its_source_changes() {
    let running = run(&[Ok(None)]);
    pass(1_000).await;
    assert_eq!(*running.asked.lock(), [0]);
    *running.changed.lock() = true;
    pass(3).await;
    assert_eq!(running.asked.lock().len(), 2);
    assert_eq!(running.last_token(), "token-2");
}

/// Covers R61, R63.
#[tokio::test(start_paused = true)]
async fn a_change_ends_the_pause_after_a_failure_and_a_jump_of_the_clock_is_noticed() {
    let running = run(&[Err("a"), Err("b"), Err("c"), Err("d"), Err("e"), Ok(Some(10_000)), Ok(Some(10_000))]);
    pass(16).await;
    assert_eq!(running.asked.lock().len(), 5, "the next one is due ten seconds later");
    *running.changed.lock() = true;
    pass(3).await;
    assert_eq!(running.asked.lock().len(), 6);
    // The machine was suspended.
    *running.jump.lock() = Duration::from_secs(9_000);
    pass(3).await;
    assert_eq!(running.asked.lock().len(), 7);
}

/// Covers R61.
#[tokio::test(start_paused = true)]
async fn a_token_of_other_settings_is_renewed_when_it_is_due_and_ends_the_pause_after_a_failure() {
    let failing = [Err("no"), Err("no"), Err("no"), Err("no"), Ok(Some(1_000))];
    for answers in [&[Ok(Some(1_000))][..], &[Ok(None)], &failing] {
        let running = run(answers);
        pass(10).await;
        let asked = running.asked.lock().len();
        assert_eq!(asked, answers.len().min(4), "{:?}", running.asked.lock());
        let settings = TokenSettings { source: TokenSource::File("/other".into()), extensions: Vec::new() };
        let now = running.wall + Duration::from_secs(10);
        let other = Token::parse("other", Some(Duration::from_secs(100)), now).unwrap();
        running.tokens.replace(settings.clone(), other);
        pass(75).await;
        assert_eq!((running.asked.lock().len(), &*running.last_token()), (asked, "other"));
        assert_eq!(*running.replaced.lock(), [settings]);
        pass(10).await;
        assert_eq!(running.asked.lock().len(), asked + 1, "{:?}", running.asked.lock());
        assert_eq!(running.last_token(), format!("token-{}", asked + 1));
    }
}

fn settings(file: Option<&Path>, more: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::new("127.0.0.1:1", "t");
    let properties = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "OAUTHBEARER")];
    let properties = properties.iter().chain(more);
    settings.properties = properties.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings.oauth_token_file = file.map(ToOwned::to_owned);
    settings
}

/// Covers R60, R64.
#[tokio::test]
async fn one_token_is_got_with_other_settings_within_a_limit() {
    let (directory, limit) = (tempfile::tempdir().unwrap(), Duration::from_secs(10));
    let path = directory.path().join("token");
    let extensions = ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1");
    let of_file = settings(Some(&path), &[extensions]).token().unwrap().unwrap();
    let missing = fetch(&of_file, limit).await.unwrap_err().to_string();
    assert!(missing.contains(&path.display().to_string()) && missing.contains("No such file"), "{missing}");
    std::fs::write(&path, "opaque").unwrap();
    let token = fetch(&of_file, limit).await.unwrap();
    assert_eq!((token.value(), token.extensions(), token.expires_at()), ("opaque", &*of_file.extensions, None));
    let provider = IdentityProvider::start(Granting::Jwt("service".to_owned(), Duration::from_secs(60)));
    let oidc = [
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", "hunter2"),
        ("sasl.oauthbearer.token.endpoint.url", &*provider.url()),
        extensions,
    ];
    let of_provider = settings(None, &oidc).token().unwrap().unwrap();
    let token = fetch(&of_provider, limit).await.unwrap();
    assert_eq!((token.principal(), token.extensions()), ("service", &*of_file.extensions));
    provider.grant(Granting::Silence);
    let late = fetch(&of_provider, Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(late.contains("no answer within 0.05 s: could not"), "{late}");
}

/// Covers R60, R63.
#[tokio::test]
async fn another_token_is_got_if_its_settings_or_its_file_have_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "opaque").unwrap();
    let token_settings = |more: &[(&str, &str)]| settings(Some(&path), more).token().unwrap().unwrap();
    let clients = Arc::new(Clients::new(settings(Some(&path), &[]), HeldFiles::default()).unwrap());
    let source = SettingsSource::new(clients);
    assert!(source.has_changed().await, "none was got yet");
    source.get().await.unwrap();
    assert!(!source.has_changed().await);
    std::fs::write(&path, "another").unwrap();
    assert!(source.has_changed().await);
    source.get().await.unwrap();
    assert!(!source.has_changed().await);
    source.replaced(token_settings(&[]));
    assert!(source.has_changed().await, "the file is read once more");
    source.get().await.unwrap();
    for (more, is_other) in
        [(("client.id", "x"), false), (("linger.ms", "7"), false), (("sasl.oauthbearer.extensions", "a=b"), true)]
    {
        let mut last = source.last.lock().clone().unwrap();
        last.0 = token_settings(&[more]);
        *source.last.lock() = Some(last);
        assert_eq!(source.has_changed().await, is_other, "{more:?}");
    }
}

#[test]
fn a_short_life_is_no_busy_loop() {
    let now = SystemTime::UNIX_EPOCH;
    assert_eq!(renewal_delay(now + Duration::from_secs(100), now), Duration::from_secs(80));
    assert_eq!(renewal_delay(now + Duration::from_millis(3), now), MIN_TOKEN_RETRY_DELAY);
    assert_eq!(renewal_delay(now, now + Duration::from_secs(1)), MIN_TOKEN_RETRY_DELAY);
    let delays: Vec<_> = [1, 2, 4, 5, 40, u32::MAX].map(|n| retry_delay(n).as_secs()).into();
    assert_eq!(delays, [1, 2, 8, 10, 10, 10]);
}

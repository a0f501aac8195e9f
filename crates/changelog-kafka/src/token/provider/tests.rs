use std::collections::VecDeque;

use tokio::{task::JoinHandle, time::advance};

use super::*;

/// Seconds since the start at which a token was asked for.
type Asked = Arc<Mutex<Vec<u64>>>;

/// Answers with lives of tokens, or failures. The last one is repeated. The wall clock goes with the paused one.
struct Script {
    started: Instant,
    answers: Mutex<VecDeque<Result<Option<u64>, &'static str>>>,
    asked: Asked,
    changed: Arc<Mutex<bool>>,
    /// How far the wall clock has jumped.
    jump: Arc<Mutex<Duration>>,
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

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + self.started.elapsed() + *self.jump.lock()
    }
}

struct Running {
    tokens: Arc<Tokens>,
    asked: Asked,
    changed: Arc<Mutex<bool>>,
    jump: Arc<Mutex<Duration>>,
    metrics: Metrics,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn run(answers: &[Result<Option<u64>, &'static str>]) -> Running {
    let (tokens, asked, changed, jump) = (Arc::<Tokens>::default(), Asked::default(), Arc::default(), Arc::default());
    let source = Script {
        started: Instant::now(),
        answers: Mutex::new(answers.iter().copied().collect()),
        asked: asked.clone(),
        changed: Arc::clone(&changed),
        jump: Arc::clone(&jump),
    };
    let metrics = Metrics::default();
    let provider = Provider { tokens: tokens.clone(), source, metrics: metrics.clone() };
    Running { tokens, asked, changed, jump, metrics, task: tokio::spawn(provider.run()) }
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
    assert_eq!(running.tokens.token().unwrap().value(), "token-1");
    pass(10).await;
    assert_eq!(running.asked.lock().len(), 2);
    assert!((80..83).contains(&running.asked.lock()[1]), "{:?}", running.asked.lock());
    assert_eq!(running.tokens.token().unwrap().value(), "token-2");
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
    assert_eq!(running.tokens.token().unwrap().value(), "token-1", "kept, because brokers decide on it");
    assert_eq!(running.metrics.token_failures.get(), running.metrics.token_requests.get() - 1);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    assert_eq!(running.tokens.failure(wall + Duration::from_secs(99)), None);
    assert!(running.tokens.failure(wall + Duration::from_secs(102)).is_some());
}

/// Covers R61, R64.
#[tokio::test(start_paused = true)]
async fn the_first_token_is_asked_for_until_there_is_one() {
    let running = run(&[Err("no"), Err("no"), Ok(Some(1_000))]);
    pass(1).await;
    assert_eq!(running.tokens.wait_for_first(Duration::ZERO).await, Err(TokenError("no".to_owned())));
    pass(10).await;
    assert_eq!(running.tokens.token().unwrap().value(), "token-3");
    assert_eq!(running.tokens.wait_for_first(Duration::ZERO).await, Ok(()));
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
    assert_eq!(running.tokens.token().unwrap().value(), "token-2");
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

#[test]
fn a_short_life_is_no_busy_loop() {
    let now = SystemTime::UNIX_EPOCH;
    assert_eq!(renewal_delay(now + Duration::from_secs(100), now), Duration::from_secs(80));
    assert_eq!(renewal_delay(now + Duration::from_millis(3), now), MIN_TOKEN_RETRY_DELAY);
    assert_eq!(renewal_delay(now, now + Duration::from_secs(1)), MIN_TOKEN_RETRY_DELAY);
    let delays: Vec<_> = [1, 2, 4, 5, 40, u32::MAX].map(|n| retry_delay(n).as_secs()).into();
    assert_eq!(delays, [1, 2, 8, 10, 10, 10]);
}

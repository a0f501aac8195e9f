use super::*;

#[derive(Default)]
struct Client(Mutex<Vec<String>>);

impl TokenTarget for Client {
    fn set_token(&self, token: &Token) -> Result<(), String> {
        self.0.lock().push(token.value().to_owned());
        Ok(())
    }
}

fn token(value: &str, life: u64) -> Token {
    Token::parse(value, Some(Duration::from_secs(life)), SystemTime::UNIX_EPOCH).unwrap()
}

/// Covers R60.
#[test]
fn each_client_has_the_last_token_and_a_new_one_has_it_at_once() {
    let (tokens, before) = (Tokens::default(), Arc::<Client>::default());
    tokens.adopt(&before);
    assert!(before.0.lock().is_empty());
    tokens.renew(token("one", 10));
    let after = Arc::<Client>::default();
    tokens.adopt(&after);
    assert_eq!(*after.0.lock(), ["one"]);
    let left = Arc::<Client>::default();
    tokens.adopt(&left);
    drop(left);
    tokens.renew(token("two", 10));
    assert_eq!(
        (&*before.0.lock(), &*after.0.lock()),
        (&vec!["one".to_owned(), "two".to_owned()], &vec!["one".to_owned(), "two".to_owned()])
    );
    tokens.adopt(&Arc::<Client>::default());
    assert_eq!(tokens.clients.lock().len(), 3, "one that has left is forgotten");
}

/// Covers R64.
#[tokio::test(start_paused = true)]
async fn the_first_token_or_the_reason_for_its_absence_is_waited_for() {
    let tokens = Arc::new(Tokens::default());
    let wait = Duration::from_secs(2);
    assert!(tokens.wait_for_first(wait).await.unwrap_err().to_string().contains("has not answered yet"));
    let failure = TokenError("HTTP 401".to_owned());
    let waiting = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.wait_for_first(wait).await }
    });
    tokio::task::yield_now().await;
    tokens.failed(failure.clone());
    assert_eq!(waiting.await.unwrap(), Err(failure.clone()));
    assert_eq!(tokens.failure(SystemTime::UNIX_EPOCH), Some(failure.clone()));
    tokens.renew(token("one", 10));
    assert_eq!(tokens.wait_for_first(wait).await, Ok(()));
    assert_eq!(tokens.failure(SystemTime::UNIX_EPOCH), None);
    // The old token counts until it expires.
    tokens.failed(failure.clone());
    assert_eq!(tokens.wait_for_first(wait).await, Ok(()));
    assert_eq!(tokens.failure(SystemTime::UNIX_EPOCH + Duration::from_secs(9)), None);
    assert_eq!(tokens.failure(SystemTime::UNIX_EPOCH + Duration::from_secs(10)), Some(failure));
}

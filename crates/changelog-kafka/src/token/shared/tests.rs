use super::*;

#[derive(Default)]
struct Client(Mutex<Vec<String>>);

impl TokenTarget for Client {
    fn set_token(&self, token: &Token) -> Result<(), String> {
        self.0.lock().push(token.value().to_owned());
        Ok(())
    }
}

fn token(value: &str) -> Token {
    Token::parse(value, Some(Duration::from_secs(3_600)), SystemTime::now()).unwrap()
}

/// A token that expired ten seconds after the epoch.
fn expired(value: &str) -> Token {
    Token::parse(value, Some(Duration::from_secs(10)), SystemTime::UNIX_EPOCH).unwrap()
}

fn failure() -> TokenError {
    TokenError("provider idp: HTTP 401".to_owned())
}

fn settings() -> TokenSettings {
    TokenSettings { source: crate::settings::TokenSource::File("/token".into()), extensions: Vec::new() }
}

/// Covers R60.
#[test]
fn each_client_has_the_last_token_and_a_new_one_has_it_at_once() {
    let (tokens, before) = (Tokens::default(), Arc::<Client>::default());
    tokens.adopt(&before);
    assert!(before.0.lock().is_empty());
    tokens.renew(0, token("one"));
    let after = Arc::<Client>::default();
    tokens.adopt(&after);
    assert_eq!(*after.0.lock(), ["one"]);
    let left = Arc::<Client>::default();
    tokens.adopt(&left);
    drop(left);
    tokens.renew(0, token("two"));
    assert_eq!(
        (&*before.0.lock(), &*after.0.lock()),
        (&vec!["one".to_owned(), "two".to_owned()], &vec!["one".to_owned(), "two".to_owned()])
    );
    tokens.adopt(&Arc::<Client>::default());
    assert_eq!(tokens.clients.lock().len(), 3, "one that has left is forgotten");
}

/// Covers R60, R64.
#[test]
fn an_expired_token_is_none_and_no_client_gets_it() {
    let tokens = Tokens::default();
    let current = || tokens.current().map(|token| token.value().to_owned()).map_err(|e| e.to_string());
    let new_client = || {
        let client = Arc::<Client>::default();
        tokens.adopt(&client);
        client
    };
    assert_eq!(current(), Err("its source has not answered yet".to_owned()));
    tokens.failed(0, failure());
    assert_eq!((current(), tokens.had_one()), (Err("provider idp: HTTP 401".to_owned()), false));
    tokens.renew(0, expired("old"));
    assert!(tokens.had_one());
    let since = "the last one has expired at 1970-01-01T00:00:10Z";
    assert_eq!(current(), Err(format!("its source has not answered yet; {since}")));
    tokens.failed(0, failure());
    assert_eq!(current(), Err(format!("provider idp: HTTP 401; {since}")));
    let client = new_client();
    assert!(client.0.lock().is_empty(), "{:?}", client.0.lock());
    // It has the next one, also if that is the first one after the failure.
    tokens.renew(0, token("new"));
    assert_eq!((current(), &**client.0.lock()), (Ok("new".to_owned()), &["new".to_owned()][..]));
    // A failure does not end a token before its expiry.
    tokens.failed(0, failure());
    assert_eq!((current(), &**new_client().0.lock()), (Ok("new".to_owned()), &["new".to_owned()][..]));
    let opaque = Token::parse("opaque", None, SystemTime::UNIX_EPOCH).unwrap();
    tokens.renew(0, opaque);
    assert_eq!((current(), &**new_client().0.lock()), (Ok("opaque".to_owned()), &["opaque".to_owned()][..]));
}

/// Covers R61.
#[test]
fn a_token_counts_until_its_expiry_to_the_second() {
    let tokens = Tokens::default();
    tokens.renew(0, expired("old"));
    let at = |seconds| tokens.current_at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).is_ok();
    assert_eq!([at(0), at(9), at(10), at(11)], [true, true, false, false]);
}

/// Covers R64.
#[tokio::test(start_paused = true)]
async fn a_token_or_the_reason_for_its_absence_is_waited_for() {
    let wait = Duration::from_secs(2);
    for last in [None, Some(expired("old"))] {
        for outcome in [None, Some(Err(failure())), Some(Ok(token("new")))] {
            let tokens = Arc::new(Tokens::default());
            last.clone().into_iter().for_each(|last| tokens.renew(0, last));
            let waiting = tokio::spawn({
                let tokens = tokens.clone();
                async move { tokens.wait_for_current(wait).await }
            });
            tokio::task::yield_now().await;
            match outcome.clone() {
                Some(Ok(token)) => tokens.renew(0, token),
                Some(Err(failure)) => tokens.failed(0, failure),
                None => {}
            }
            match (waiting.await.unwrap().map_err(|e| e.to_string()), outcome) {
                (Ok(found), Some(Ok(token))) => assert_eq!(*found, token),
                (Err(found), Some(Err(failure))) => assert!(found.starts_with(&failure.to_string()), "{found}"),
                (Err(found), None) => assert!(found.starts_with("its source has not answered yet"), "{found}"),
                other => panic!("{other:?}"),
            }
        }
    }
    // What is known already is not waited for. A token counts, although its renewal has failed.
    let tokens = Tokens::default();
    tokens.failed(0, failure());
    assert_eq!(tokens.wait_for_current(Duration::ZERO).await, Err(failure()));
    tokens.renew(0, token("new"));
    tokens.failed(0, failure());
    assert_eq!(*tokens.wait_for_current(Duration::ZERO).await.unwrap(), token_of(&tokens));
}

fn token_of(tokens: &Tokens) -> Token {
    (*tokens.current().unwrap()).clone()
}

/// Covers R60.
#[test]
fn an_answer_to_settings_that_were_replaced_meanwhile_is_dropped() {
    let (tokens, client) = (Tokens::default(), Arc::<Client>::default());
    tokens.adopt(&client);
    let before = tokens.generation();
    assert_eq!(tokens.replaced_settings(), None);
    tokens.replace(settings(), token("other"));
    assert_eq!((tokens.replaced_settings(), &**client.0.lock()), (Some(settings()), &["other".to_owned()][..]));
    tokens.renew(before, token("late"));
    tokens.failed(before, failure());
    assert_eq!(token_of(&tokens).value(), "other");
    assert_eq!(tokens.state.borrow().failure, None);
    assert_eq!(*client.0.lock(), ["other"]);
    tokens.renew(tokens.generation(), token("next"));
    assert_eq!(*client.0.lock(), ["other", "next"]);
}

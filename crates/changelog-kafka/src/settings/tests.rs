use super::*;

fn check(name: &str, value: &str) -> Result<(), String> {
    let mut settings = Settings::new("b:9092", "t");
    settings.properties = vec![(name.to_owned(), value.to_owned())];
    settings.check().map_err(|e| e.to_string())
}

/// Covers R33, S11, B24.
#[test]
fn properties_that_would_break_a_promise_are_refused_by_name() {
    for (name, _) in REFUSED {
        let error = check(name, "1").unwrap_err();
        assert!(error.contains(name) && error.contains("is refused"), "{error}");
    }
}

/// Covers S11, S12, B24.
#[test]
fn unknown_properties_and_bad_values_are_named_without_secrets() {
    assert_eq!(check("linger.ms", "3"), Ok(()));
    assert_eq!(check("security.protocol", "ssl"), Ok(()));
    let error = check("no.such.thing", "1").unwrap_err();
    assert!(error.contains("no.such.thing"), "{error}");
    let error = check("linger.ms", "soon").unwrap_err();
    assert!(error.contains("linger.ms") && error.contains("soon"), "{error}");
    let error = check("ssl.key.pem", "hunter2").map_or_else(|e| e, |()| String::new());
    assert!(!error.contains("hunter2"), "{error}");
}

/// Covers B24.
#[test]
fn contradictory_properties_are_found_without_a_broker() {
    for (name, value) in [
        ("retries", "0"),
        ("queuing.strategy", "lifo"),
        ("linger.ms", "20000"),
        ("reconnect.backoff.max.ms", "1"),
        ("fetch.max.bytes", "1000"),
    ] {
        let error = check(name, value).unwrap_err();
        assert!(error.contains(name), "{name}: {error}");
    }
    let mut settings = Settings::new("b:9092", "t");
    let of = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    settings.properties = of(&[("security.protocol", "ssl"), ("ssl.certificate.location", "/nowhere/cert.pem")]);
    let error = settings.check().unwrap_err().to_string();
    assert!(error.contains("ssl.certificate.location"), "{error}");
    settings.properties = of(&[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN")]);
    let error = settings.check().unwrap_err().to_string();
    assert!(error.contains("sasl"), "{error}");
}

/// Covers B24.
#[test]
fn settings_that_no_broker_accepts_are_refused() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = Settings::new("b:9092", "t");
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    };
    assert!(refused(|s| s.brokers = " ,".to_owned()).contains("bootstrap.servers"));
    for topic in ["", "..", "a b", "ü", "a/b"] {
        let mut settings = Settings::new("b:9092", topic);
        settings.group_id = "g".to_owned();
        assert!(settings.check().unwrap_err().to_string().contains("topic"), "{topic}");
    }
    assert!(refused(|s| s.group_id = String::new()).contains("group.id"));
    assert!(refused(|s| s.write_timeout = Duration::ZERO).contains("message.timeout.ms"));
}

/// Covers S12.
#[test]
fn secret_properties_are_recognized() {
    for name in SECRETS {
        assert!(is_secret(name), "{name}");
    }
    for shown in ["linger.ms", "sasl.mechanism", "ssl.ca.location", "sasl.oauthbearer.token.endpoint.url"] {
        assert!(!is_secret(shown), "{shown}");
    }
}

/// Covers S12.
#[test]
fn property_files_are_read_and_never_quoted() {
    let text = "# a comment\n\n sasl.password = a=b \nlinger.ms=1\n";
    let expected = [("sasl.password", "a=b"), ("linger.ms", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(parse_properties(text).unwrap(), expected);
    let error = parse_properties("linger.ms=1\nhunter2").unwrap_err();
    assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
}

/// Covers R22.
#[test]
fn a_consumer_neither_waits_long_nor_reads_ahead_without_bound() {
    let config = Settings::new("b:9092", "t").config(Role::Consumer { queue_kib: 3_000 });
    let number = |name: &str| config.get(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(u64::MAX);
    assert!(number("fetch.wait.max.ms") <= 50);
    assert!(number("fetch.queue.backoff.ms") <= 10);
    assert_eq!(number("queued.max.messages.kbytes"), 3_000);
}

/// Covers C40, R14, R19, R25, R28, R33.
#[test]
fn our_invariants_win_over_user_properties_and_those_over_our_defaults() {
    let mut settings = Settings::new("b:9092", "t");
    settings.properties = vec![("linger.ms".to_owned(), "7".to_owned())];
    let config = settings.config(Role::Producer { max_message_bytes: 500_000 });
    assert_eq!(config.get("linger.ms"), Some("7"));
    assert_eq!(config.get("acks"), Some("all"));
    assert_eq!(config.get("batch.size"), Some("500000"));
    assert_eq!(config.get("enable.idempotence"), Some("true"));
    assert_eq!(config.get("message.timeout.ms"), Some("10000"));
    let consumer = settings.config(Role::Consumer { queue_kib: 100 });
    assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    assert_eq!(consumer.get("auto.offset.reset"), Some("error"));
    assert_eq!(consumer.get("enable.auto.commit"), Some("false"));
    for role in [Role::Admin, Role::Producer { max_message_bytes: 1_000_000 }, Role::Consumer { queue_kib: 1 }] {
        let config = settings.config(role);
        assert_eq!(config.get("allow.auto.create.topics"), Some("false"), "{role:?}");
        config.create_native_config().expect("every property exists");
    }
}

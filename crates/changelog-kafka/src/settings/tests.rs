use super::*;

fn check(name: &str, value: &str) -> Result<(), String> {
    check_all(&[(name, value)])
}

fn check_all(properties: &[(&str, &str)]) -> Result<(), String> {
    let mut settings = Settings::new("b:9092", "t");
    settings.properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings.check().map_err(|e| e.to_string())
}

/// Covers R33, S11, B24.
#[test]
fn properties_that_would_break_a_promise_are_refused_by_name() {
    for name in [
        "acks",
        "ACKS",
        "topic.acks",
        "request.required.acks",
        "topic.message.timeout.ms",
        "delivery.timeout.ms",
        "internal.termination.signal",
        "ut_handle_ProduceResponse",
        "test.mock.num.brokers",
        "enable_sasl_queue",
        "enable.idempotence",
        "max.in.flight",
        "transactional.id",
        "isolation.level",
        "enable.partition.eof",
        "topic.auto.offset.reset",
        "topic.enable.auto.commit",
        "check.crcs",
        "client.rack",
        "delivery.report.only.error",
        "api.version.request",
        "broker.version.fallback",
        "enabled_events",
        "log_level",
        "opaque",
        "dr_msg_cb",
        "interceptors",
        "plugin.library.paths",
        "ssl.providers",
        "ssl_key",
        "batch.size",
        "queued.max.messages.kbytes",
        "topic.blacklist",
        "bootstrap.servers",
        "group.id",
        "sasl.jaas.config",
        "ssl.truststore.location",
    ] {
        let error = check(name, "1").expect_err(name);
        assert!(error.starts_with(&format!("Kafka property {name}: is refused: ")), "{error}");
    }
}

/// Covers S11, B24.
#[test]
fn what_the_build_lacks_is_refused_by_name() {
    for (name, value) in [
        ("sasl.mechanism", "GSSAPI"),
        ("sasl.mechanisms", "gssapi"),
        ("sasl.kerberos.service.name", "kafka"),
        ("sasl.oauthbearer.assertion.file", "/hunter2"),
        ("sasl.oauthbearer.assertion.private.key.pem", "hunter2"),
    ] {
        let error = check(name, value).expect_err(name);
        assert!(error.contains(name) && error.contains("not in this build") && !error.contains("hunter2"), "{error}");
    }
    for protocol in ["sasl_ssl", "SASL_PLAINTEXT"] {
        let error = check("security.protocol", protocol).expect_err(protocol);
        assert!(error.contains("sasl.mechanism") && error.contains("not in this build"), "{error}");
        let error = check_all(&[("security.protocol", protocol), ("sasl.mechanism", "")]).unwrap_err();
        assert!(error.contains("sasl.mechanism") && error.contains("must be one of PLAIN"), "{error}");
        let scram = [("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.username", "u"), ("sasl.password", "p")];
        assert_eq!(check_all(&[&[("security.protocol", protocol)], &scram[..]].concat()), Ok(()));
    }
}

/// Covers S11.
#[test]
fn the_last_of_several_names_of_a_property_counts() {
    for names in [["compression.type", "compression.codec"], ["topic.compression.codec", "COMPRESSION.TYPE"]] {
        for (first, last) in [(0, 1), (1, 0)] {
            let mut settings = Settings::new("b:9092", "t");
            settings.properties = [(names[first], "gzip"), (names[last], "zstd")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into_iter()
                .collect();
            settings.check().unwrap();
            let config = settings.config(Role::Producer { max_message_bytes: 1_000_000 });
            let native = config.create_native_config().unwrap();
            assert_eq!(native.get("compression.codec").unwrap(), "zstd", "{names:?}");
        }
    }
    assert_eq!(check("LINGER.MS", "7"), Ok(()));
    assert_eq!(check("topic.request.timeout.ms", "7000"), Ok(()));
    assert_eq!(check("topic.metadata.refresh.sparse", "true"), Ok(()));
}

/// Covers B24.
#[test]
fn a_number_that_librdkafka_would_misread_is_refused() {
    for (name, value) in [
        ("linger.ms", "5s"),
        ("socket.timeout.ms", "4294968296"),
        ("socket.timeout.ms", "1000ms"),
        ("fetch.min.bytes", "1e3"),
        ("request.timeout.ms", "5000 # a comment"),
        ("retry.backoff.ms", "0x10"),
    ] {
        let error = check(name, value).expect_err(value);
        assert!(error.contains(name) && error.contains(value) && error.contains("it takes"), "{error}");
    }
    let error = check("socket.timeout.ms", "99999999999").unwrap_err();
    assert!(error.contains("outside allowed range") && !error.contains('\n'), "{error}");
    for (name, value) in [("linger.ms", "0.5"), ("linger.ms", "5"), ("client.id", "5s"), ("client.id", "NaN")] {
        assert_eq!(check(name, value), Ok(()), "{name}={value}");
    }
    assert_eq!(check("topic.metadata.refresh.interval.ms", "-1"), Ok(()));
    assert_eq!(
        check("fetch.min.bytes", "0010"),
        Err("Kafka property fetch.min.bytes: \"0010\": is no number that \
        librdkafka can read: it takes 8"
            .to_owned())
    );
}

/// Covers S12.
#[test]
fn the_debug_output_of_settings_has_no_secret() {
    let mut settings = Settings::new("b:9092", "t");
    let properties = [("SASL.PASSWORD", "hunter2"), ("sasl.pasword", "hunter2"), ("linger.ms", "5")];
    settings.properties = properties.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
    let shown = format!("{settings:?}");
    assert!(shown.contains("linger.ms=5") && !shown.contains("hunter2"), "{shown}");
}

/// Covers B24.
#[test]
fn brokers_are_given_to_librdkafka_as_they_were_checked() {
    let settings = Settings::new(" a , b:1,[::1]:2\n", "t");
    settings.check().unwrap();
    assert_eq!(settings.config(Role::Admin).get("bootstrap.servers"), Some("a:9092,b:1,[::1]:2"));
    let error = Settings::new("a:1,http://b:1", "t").check().unwrap_err().to_string();
    assert!(error.contains("bootstrap.servers") && error.contains("part 2") && error.contains("http://b:1"), "{error}");
}

/// Covers S11, S12, B24.
#[test]
fn unknown_properties_and_bad_values_are_named_without_secrets() {
    assert_eq!(check("linger.ms", "3"), Ok(()));
    assert_eq!(check("security.protocol", "ssl"), Ok(()));
    let error = check("no.such.thing", "1").unwrap_err();
    assert!(error.contains("property 1 of 1") && !error.contains("no.such.thing"), "{error}");
    let error = check("topic.topic.acks", "1").unwrap_err();
    assert!(error.contains("topic.topic.acks") && error.contains("the nearest is acks"), "{error}");
    let error = check("linger.ms", "soon").unwrap_err();
    assert!(error.contains("linger.ms") && error.contains("soon"), "{error}");
    let error = check("sasl.pasword", "hunter2").unwrap_err();
    assert!(error.contains("sasl.pasword") && error.contains("the nearest is sasl.password"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let error = check_all(&[("linger.ms", "1"), (key, "")]).unwrap_err();
    assert!(error.contains("property 2 of 2") && !error.contains(key), "{error}");
    let secrets = ["ssl.key.pem", "SSL.KEY.PEM", "SASL.PASSWORD", "sasl.username", "ssl.keystore.password"];
    // Under the wrong name, a key is no valid value.
    let error = check("compression.type", "-----BEGIN X-----\nhunter2").unwrap_err();
    assert!(error.contains("compression.type") && !error.contains("hunter2"), "{error}");
    for name in secrets {
        for value in ["hunter2", "hunt\0er2", "-----BEGIN X-----\nhunter2\n-----END X-----"] {
            let error = check(name, value).map_or_else(|e| e, |()| String::new());
            assert!(!error.contains("er2"), "{error}");
        }
    }
}

/// Covers S12, B24.
#[test]
fn a_password_on_its_own_line_is_not_shown_as_a_name() {
    let error = check_all(&[("linger.ms", "1"), ("sasl.password", ""), ("q8x_3w-AbCdEf", "=")]).unwrap_err();
    assert!(error.contains("property 3 of 3") && error.contains("one before it has no value"), "{error}");
    assert!(!error.contains("q8x"), "{error}");
    let error = check_all(&[("sasl.password", "x"), ("q8x_3w-AbCdEf", "=")]).unwrap_err();
    assert!(!error.contains("no value") && !error.contains("q8x"), "{error}");
}

/// Covers S11, S12, B24.
#[test]
fn properties_that_were_joined_on_one_line_are_refused_without_their_values() {
    for (name, value) in [
        ("security.protocol", "SASL_SSL;sasl.username=u;sasl.password=hunter2"),
        ("security.protocol", "SASL_SSL, sasl.password=hunter2"),
        ("sasl.mechanism", "PLAIN sasl.password=hunter2"),
        ("ssl.ca.location", "/ca.pem,sasl.password=hunter2"),
        ("linger.ms", "5 sasl.password=hunter2"),
        ("client.id", "x,sasl.password=hunter2"),
        ("sasl.username", "u;sasl.password=hunter2"),
    ] {
        let error = check(name, value).expect_err(value);
        assert!(error.contains(name) && error.contains("several properties: write one a line"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (setting, change) in [
        ("topic", (|s, text| s.topic = text) as fn(&mut Settings, String)),
        ("group.id", |s, text| s.group_id = text),
        ("bootstrap.servers", |s, text| s.brokers = text),
    ] {
        for text in ["x;sasl.password=hunter2", "sasl.password=hunter2"] {
            let mut settings = Settings::new("b:9092", "t");
            change(&mut settings, text.to_owned());
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(setting) && !error.contains("hunter2"), "{error}");
            let shown = format!("{settings:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
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
fn a_group_id_may_have_any_printable_text_that_is_no_property() {
    for group_id in ["team-secret:prod", "a=b,c=d", "retry=1", "größe", "a b"] {
        let mut settings = Settings::new("b:9092", "t");
        group_id.clone_into(&mut settings.group_id);
        assert_eq!(settings.check(), Ok(()), "{group_id}");
    }
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
    assert!(refused(|s| s.group_id = "g\n".to_owned()).contains("control characters"));
    assert!(refused(|s| s.write_timeout = Duration::ZERO).contains("message.timeout.ms"));
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
    let properties = [("linger.ms", "7"), ("request.required.acks", "1"), ("delivery.report.only.error", "true")];
    settings.properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let config = settings.config(Role::Producer { max_message_bytes: 500_000 });
    assert_eq!(config.get("linger.ms"), Some("7"));
    assert_eq!(config.get("acks"), Some("all"));
    let native = config.create_native_config().unwrap();
    assert_eq!(native.get("request.required.acks").unwrap(), "-1");
    assert_eq!(native.get("delivery.report.only.error").unwrap(), "false");
    assert_eq!(config.get("batch.size"), Some("500000"));
    assert_eq!(config.get("enable.idempotence"), Some("true"));
    assert_eq!(config.get("message.timeout.ms"), Some("10000"));
    let consumer = settings.config(Role::Consumer { queue_kib: 100 });
    assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    assert_eq!(consumer.get("check.crcs"), Some("true"));
    assert_eq!(consumer.get("auto.offset.reset"), Some("error"));
    assert_eq!(consumer.get("enable.auto.commit"), Some("false"));
    for role in [Role::Admin, Role::Producer { max_message_bytes: 1_000_000 }, Role::Consumer { queue_kib: 1 }] {
        let config = settings.config(role);
        assert_eq!(config.get("allow.auto.create.topics"), Some("false"), "{role:?}");
        config.create_native_config().expect("every property exists");
    }
}

/// A file may be named for a property that is no secret.
/// Covers S12.
#[test]
fn what_a_file_of_a_value_has_is_not_shown_if_it_is_not_valid() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("wrong"), "s3cret").unwrap();
    let value = format!("${{directory:{}:wrong}}", directory.path().display());
    let mut settings = Settings::new("b:9092", "t");
    settings.properties = Properties::read(vec![("compression.type".to_owned(), value)]).unwrap();
    let error = settings.check().unwrap_err().to_string();
    assert!(error.contains("compression.type") && !error.contains("s3cret"), "{error}");
    assert!(!format!("{settings:?}").contains("s3cret"));
}

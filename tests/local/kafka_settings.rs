//! Brokers, properties of librdkafka and white space in variables, as an operator meets them: what is refused, with
//! which line, and that no secret is shown.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::process::{run, text};

/// What every secret of these tests has in each of its lines.
const MARK: &str = "hunter2";

fn fixture(name: &str) -> String {
    let directory = "crates/changelog-kafka/tests/fixtures/tls";
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory).join(name).to_str().expect("UTF-8").to_owned()
}

/// The one line of an exit with status 64. No output has the mark of a secret.
async fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    // Ports are bound before the store is opened.
    let ports = if arguments[0] == "serve" { &["--listen=127.0.0.1:0", "--admin-listen=off"][..] } else { &[] };
    let (output, _) = run(&[arguments, ports].concat(), variables).await;
    let (out, line) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(64), "{arguments:?}, {variables:?}: {line}");
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{arguments:?}: {line}");
    assert!(!line.contains(MARK) && !out.contains(MARK), "{arguments:?}: {line}{out}");
    line
}

/// The value and the source of each setting, by `changelogd config`.
async fn settings(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<(String, String, String)> {
    let (output, _) = run(&[&["config"], arguments].concat(), variables).await;
    let lines = text(&output.stdout);
    assert!(output.status.success(), "{arguments:?}, {variables:?}: {}", text(&output.stderr));
    assert!(!lines.contains(MARK) && !text(&output.stderr).contains(MARK), "{lines}");
    let setting = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON Lines in a pipe");
        let member = |name: &str| line[name].as_str().expect("text").to_owned();
        (member("setting"), member("value"), member("source"))
    };
    lines.lines().map(setting).collect()
}

async fn setting(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let all = settings(arguments, variables).await;
    all.into_iter().find(|(found, ..)| found == name).map(|(_, value, _)| value).expect(name)
}

/// Covers B24, C61.
#[tokio::test]
async fn a_list_of_brokers_that_librdkafka_would_wait_for_is_exit_64() {
    for (list, part, reason) in [
        ("\"a:9092,b:9092\"", "part 1, \"\\\"a:9092\"", "quotes"),
        ("a:9092 b:9092", "part 1, \"a:9092 b:9092\"", "blank"),
        ("a:9092;b:9092", "part 1, \"a:9092;b:9092\"", "semicolon"),
        ("a:9092,PLAINTEXT://b:9092", "part 2, \"PLAINTEXT://b:9092\"", "scheme"),
        ("a:9092,b:9092:9093", "part 2, \"b:9092:9093\"", "two ports"),
        ("a:99999", "part 1, \"a:99999\"", "from 1 to 65535"),
        ("a:9092,:9092", "part 2, \":9092\"", "no host"),
        ("::1", "part 1, \"::1\"", "brackets"),
        ("a:9092,,b:9092", "part 2, \"\"", "is empty"),
        ("a:9092,", "part 2, \"\"", "is empty"),
        ("a:9092,user:hunter2@b:9092", "part 2: ", "user name"),
        ("a:9092\u{ff0c}b:9092", "part 1, ", "another script"),
        ("a:9092;sasl.password=hunter2", "part 1: ", "`=`"),
        ("sasl.password=hunter2", "part 1: ", "`=`"),
    ] {
        let flag = format!("--brokers={list}");
        let variables =
            [("KAFKA_BROKERS", list), ("CHANGELOGD_BROKERS", list)].map(|set| (set.0, vec!["serve"], vec![set]));
        let flags = [vec!["serve", &flag], vec!["config", &flag], vec!["topic", "describe", &flag]];
        let flags = flags.map(|arguments| ("--brokers", arguments, Vec::new()));
        for (named, arguments, variables) in variables.into_iter().chain(flags) {
            let line = refused(&arguments, &variables).await;
            assert!(line.contains(named) && line.contains(part) && line.contains(reason), "{list}: {line}");
        }
    }
}

const OAUTHBEARER: &str = "--kafka-property=security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER";

/// Covers C62.
#[tokio::test]
async fn white_space_around_the_value_of_any_variable_does_not_count() {
    let directory = TempDir::new().unwrap();
    let properties = directory.path().join("properties");
    fs::write(&properties, "linger.ms=5").unwrap();
    for (name, value, _) in settings(&["--brokers=b:1"], &[]).await {
        let value = match &*name {
            "kafka-property" => "linger.ms=5",
            "kafka-properties-file" => properties.to_str().unwrap(),
            "kafka-oauth-token-file" => "/nonexistent",
            "create-topic" | "insecure-listen" | "trace-context-in-records" => "true",
            "data-limit" => "300000000",
            "partitions" => "3",
            "log-format" => "json",
            _ => &*value,
        };
        let variable = changelogd::config::variable(&name);
        let kafka = match &*name {
            "brokers" => &[][..],
            "kafka-oauth-token-file" => &["--brokers=b:1", OAUTHBEARER],
            _ => &["--brokers=b:1"],
        };
        for padded in [format!("{value}\n"), format!(" \t{value}\r\n\n")] {
            let all = settings(kafka, &[(&variable, &padded)]).await;
            let found = all.into_iter().find(|(found, ..)| *found == name).expect("the setting");
            assert_eq!(found, (name.clone(), value.to_owned(), variable.clone()));
        }
    }
    let three = [("KAFKA_BROKERS", "b:1\n"), ("KAFKA_CHANGELOG_TOPIC", " t \n"), ("KAFKA_CHANGELOG_GROUP_ID", "g\r\n")];
    for (name, value) in [("brokers", "b:1"), ("topic", "t"), ("group-id", "g")] {
        assert_eq!(setting(name, &[], &three).await, value);
    }
    // A client that takes the address can't reach it. That is no usage error.
    for address in ["unix:/nonexistent\n", " 127.0.0.1:1\r\n"] {
        let (output, _) =
            run(&["get", "ws/t/a"], &[("CHANGELOGD_ADDR", address), ("CHANGELOGD_TIMEOUT", "2s\n")]).await;
        assert_eq!(output.status.code(), Some(69), "{address:?}: {}", text(&output.stderr));
    }
}

/// Covers C62, B24.
#[tokio::test]
async fn white_space_around_the_value_of_a_flag_does_not_count() {
    for (flag, value) in [
        ("topic", "t"),
        ("group-id", "g"),
        ("producers", "2"),
        ("partitions", "3"),
        ("write-timeout", "10s"),
        ("store", "kafka"),
        ("log-format", "json"),
        ("share-replays", "false"),
        ("max-value-bytes", "1000"),
        ("admin-listen", "off"),
        ("listen", "unix:/nonexistent/s.sock"),
        ("kafka-property", "linger.ms=5"),
    ] {
        for padded in [format!("{value}\n"), format!(" \t{value} \r\n")] {
            let (name, joined) = (format!("--{flag}"), format!("--{flag}={padded}"));
            assert_eq!(setting(flag, &["--brokers=b:1", &name, &padded], &[]).await, value, "{padded:?}");
            assert_eq!(setting(flag, &["--brokers=b:1", &joined], &[]).await, value, "{padded:?}");
        }
    }
    // Paths are bytes.
    assert_eq!(setting("data-dir", &["--data-dir", "d "], &[]).await, "d ");
    let (output, _) = run(&["get", "ws/t/a", "--addr", " unix:/nonexistent\n", "--timeout", "2s\n"], &[]).await;
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    for bad in ["abc", "0", "65", "2.5"] {
        let line = refused(&["serve", "--producers", bad], &[]).await;
        assert!(line.contains(&format!("--producers <COUNT>: {bad:?}: must be a whole number from 1 to 64")), "{line}");
    }
    let line = refused(&["serve", "--brokers=b:1", "--group-id=a\nb"], &[]).await;
    assert!(line.contains("group.id") && line.contains("control characters"), "{line}");
}

/// Covers C62, B24.
#[tokio::test]
async fn an_empty_variable_hides_no_other_one() {
    for empty in ["", " ", "\n"] {
        let brokers = [("CHANGELOGD_BROKERS", empty), ("KAFKA_BROKERS", "b:1")];
        let all = settings(&[], &brokers).await;
        let found = |name: &str| all.iter().find(|(found, ..)| found == name).cloned().expect(name);
        assert_eq!(found("brokers"), ("brokers".to_owned(), "b:1".to_owned(), "KAFKA_BROKERS".to_owned()));
        assert_eq!(found("store").1, "kafka");
        let topic = [("CHANGELOGD_TOPIC", empty), ("KAFKA_CHANGELOG_TOPIC", "prod")];
        assert_eq!(setting("topic", &[], &topic).await, "prod");
        let group = [("CHANGELOGD_GROUP_ID", empty), ("KAFKA_CHANGELOG_GROUP_ID", "g")];
        assert_eq!(setting("group-id", &[], &group).await, "g");
        assert_eq!(setting("store", &[], &[("KAFKA_BROKERS", empty)]).await, "embedded");
    }
}

/// Covers C67, S11, S12, B24.
#[tokio::test]
async fn config_refuses_what_serve_refuses_and_shows_the_properties_of_the_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("properties");
    let named = format!("--kafka-properties-file={}", file.display());
    let all = ["--brokers=b:1", &named, "--kafka-property=linger.ms=7"];
    fs::write(&file, "queue.buffering.max.ms=5\nclient.id=a\nclient.id=b\nsasl.password=hunter2\n").unwrap();
    let shown = settings(&all, &[]).await;
    let of = |source: &str| {
        let rows: Vec<_> = shown.iter().filter(|(name, ..)| name == "kafka-property").collect();
        rows.into_iter().find(|(.., found)| found == source).map(|(_, value, _)| value.clone()).expect(source)
    };
    // The first property has another name of one that a flag sets.
    assert_eq!(
        (of("flag"), of("file")),
        ("linger.ms=7".to_owned(), "client.id=b\nsasl.password=[redacted]".to_owned())
    );
    for bad in ["topic.acks=1", "no.such=hunter2", "linger.ms=soon", "ssl.ca.location=/gone", "sasl.password hunter2"] {
        fs::write(&file, bad).unwrap();
        let line = refused(&["config", "--brokers=b:1", &named], &[]).await;
        assert_eq!(line, refused(&["serve", "--log-format=text", "--brokers=b:1", &named], &[]).await);
        // Without Kafka nothing reads the file.
        assert_eq!(setting("store", &[&named], &[]).await, "embedded");
    }
    for bad in ["--kafka-property=topic.acks=1", "--topic=a b", "--kafka-properties-file=/gone"] {
        let line = refused(&["config", "--brokers=b:1", bad], &[]).await;
        assert_eq!(line, refused(&["serve", "--log-format=text", "--brokers=b:1", bad], &[]).await);
    }
}

/// Covers S12, B24.
#[tokio::test]
async fn a_secret_in_the_place_of_a_path_or_behind_another_property_is_not_shown() {
    let directory = TempDir::new().unwrap();
    let key = format!("-----BEGIN PRIVATE KEY-----\n{MARK}AAAA\n{MARK}BBB=\n-----END PRIVATE KEY-----");
    let base64 = format!("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg{MARK}");
    let text = "security.protocol=SASL_SSL\nsasl.password=hunter2\n";
    let mut properties = vec![
        ("security.protocol=SASL_SSL;sasl.username=u;sasl.password=hunter2".to_owned(), "one a line"),
        ("security.protocol=SASL_SSL,sasl.password=hunter2".to_owned(), "one a line"),
        ("linger.ms=5 sasl.password=hunter2".to_owned(), "one a line"),
        ("client.id=x,sasl.password=hunter2".to_owned(), "one a line"),
        ("ssl.ca.location=/ca.pem,sasl.password=hunter2".to_owned(), "one a line"),
        ("sasl.password=\nhunter2_q8x-AbCd==".to_owned(), "same line"),
    ];
    for name in ["ssl.key", "ssl.certificate", "ssl.ca", "ssl.crl", "ssl.keystore"] {
        properties.push((format!("{name}.location={key}"), "PEM, not a path"));
        properties.push((format!("{name}.location={base64}"), "base64"));
    }
    for (property, words) in properties {
        let file = directory.path().join("properties");
        fs::write(&file, &property).unwrap();
        let named = format!("--kafka-properties-file={}", file.display());
        let flag = format!("--kafka-property={property}");
        let variables = [("CHANGELOGD_KAFKA_PROPERTY", &*property)];
        for command in ["serve", "config"] {
            for (arguments, variables) in [(&[&*flag][..], &[][..]), (&[&*named], &[]), (&[], &variables)] {
                let line = refused(&[&[command, "--brokers=b:1"], arguments].concat(), variables).await;
                assert!(line.contains(words), "{property}: {line}");
            }
        }
    }
    // The text itself, where the path of the file belongs.
    for text in [text, "sasl.password=hunter2", "my.own=hunter2\n#", &key] {
        let variable = [("CHANGELOGD_KAFKA_PROPERTIES_FILE", text)];
        for command in [&["serve", "--brokers=b:1"][..], &["config", "--brokers=b:1"], &["topic", "describe"]] {
            let line = refused(command, &variable).await;
            assert!(line.contains("--kafka-properties-file") && line.contains("not a path"), "{line}");
        }
        // Without Kafka it is not read.
        assert_eq!(setting("kafka-properties-file", &[], &variable).await, "[redacted]");
    }
}

/// Covers S11, B24.
#[tokio::test]
async fn a_property_that_is_refused_unknown_or_not_in_the_build_is_exit_64_and_named() {
    for (property, reason) in [
        ("topic.acks=1", "is refused: it is all"),
        ("ACKS=1", "is refused: it is all"),
        ("topic.message.timeout.ms=1", "--write-timeout"),
        ("internal.termination.signal=9", "is refused: the signal"),
        ("ut_handle_ProduceResponse=1", "is refused: it is for tests"),
        ("delivery.report.only.error=true", "is refused"),
        ("sasl.pasword=hunter2", "the nearest is sasl.password"),
        ("sasl.mechanism=GSSAPI", "not in this build"),
        ("sasl.oauthbearer.assertion.file=/hunter2", "not in this build"),
        ("sasl.oauthbearer.assertion.private.key.pem=hunter2", "not in this build"),
        ("sasl.oauthbearer.method=odic", "must be one of default, oidc"),
    ] {
        let name = property.split_once('=').expect("a property").0;
        let flag = format!("--kafka-property={property}");
        for arguments in [vec!["serve", "--brokers=b:1", &flag], vec!["topic", "describe", "--brokers=b:1", &flag]] {
            let line = refused(&arguments, &[]).await;
            assert!(line.contains(&format!("Kafka property {name}: ")) && line.contains(reason), "{property}: {line}");
        }
    }
    // A name that is near to none may be a secret.
    let line = refused(&["serve", "--brokers=b:1", "--kafka-property=hunter2.thing=x"], &[]).await;
    assert!(line.contains("no such property (property 1 of 1)"), "{line}");
    let line = refused(&["serve", "--brokers=b:1", "--kafka-property=security.protocol=SASL_SSL"], &[]).await;
    assert!(line.contains("sasl.mechanism") && line.contains("not in this build"), "{line}");
}

/// Covers R66.
#[tokio::test]
async fn oauthbearer_without_exactly_one_source_of_its_token_is_exit_64() {
    const FLAG: &str = "--kafka-oauth-token-file";
    let file = format!("{FLAG}=/nonexistent");
    let oauth = ["security.protocol=SASL_SSL", "sasl.mechanism=OAUTHBEARER"];
    let oidc = [
        "sasl.oauthbearer.method=oidc",
        "sasl.oauthbearer.client.id=me",
        "sasl.oauthbearer.client.secret=hunter2",
        "sasl.oauthbearer.token.endpoint.url=https://idp.example/token",
    ];
    let (method, secret) = ("sasl.oauthbearer.method", "sasl.oauthbearer.client.secret");
    for (properties, flag, words) in [
        (oauth.to_vec(), None, &[FLAG, method, secret][..]),
        ([&oauth[..], &oidc].concat(), Some(&*file), &["two sources", FLAG, method]),
        (Vec::new(), Some(&*file), &[FLAG, "sasl.mechanism", "security.protocol"]),
        (oidc.to_vec(), None, &[method, "sasl.mechanism"]),
        ([&oauth[..], &oidc[..2]].concat(), None, &["is not set", "sasl.oauthbearer.token.endpoint.url"]),
        (
            [&oauth[..], &oidc[..3], &["sasl.oauthbearer.token.endpoint.url=http://idp.example/"]].concat(),
            None,
            &["https://"],
        ),
        ([&oauth[..], &oidc[1..]].concat(), None, &["is used only with", method]),
    ] {
        let properties: Vec<_> = properties.iter().map(|property| format!("--kafka-property={property}")).collect();
        for command in [&["serve"][..], &["topic", "describe"], &["topic", "ensure"]] {
            let arguments = command.iter().copied().chain(["--brokers=b:1"]).chain(properties.iter().map(|p| &**p));
            let line = refused(&arguments.chain(flag).collect::<Vec<_>>(), &[]).await;
            assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        }
    }
    // As its variable, too.
    let line = refused(&["serve", "--brokers=b:1"], &[("CHANGELOGD_KAFKA_OAUTH_TOKEN_FILE", "/nonexistent")]).await;
    assert!(line.contains(FLAG), "{line}");
    let accepted = ["--brokers=b:1", OAUTHBEARER, &file];
    assert_eq!(setting("kafka-oauth-token-file", &accepted, &[]).await, "/nonexistent");
}

/// Covers S12.
#[tokio::test]
async fn a_token_or_a_url_with_a_secret_is_not_shown() {
    const URL: &str = "sasl.oauthbearer.token.endpoint.url";
    const OIDC: &str = "--kafka-property=sasl.oauthbearer.method=oidc\nsasl.oauthbearer.client.id=me\n\
                        sasl.oauthbearer.client.secret=hunter2";
    for token in [
        "eyJhbGci.eyJzdWIi.hunter2",
        "ya29.a0AfB_byCdEfGhIjKlMnOpQrStUvWxYz-hunter2",
        "hunter2-_x",
        "Hunter2.hunter2",
        "sasl.password=hunter2",
    ] {
        let file = format!("--kafka-oauth-token-file={token}");
        assert_eq!(setting("kafka-oauth-token-file", &[&file], &[]).await, "[redacted]");
        let line = refused(&["serve", "--brokers=b:1", &file], &[]).await;
        assert!(line.contains("--kafka-oauth-token-file"), "{line}");
    }
    for rest in ["/token?code=hunter2&sig=abcdef", "/hunter2/token", "?hunter2", "#hunter2", "/hunter2"] {
        let url = format!("--kafka-property={URL}=https://idp.example{rest}");
        assert_eq!(setting("kafka-property", &[&url], &[]).await, format!("{URL}=https://idp.example/…"));
        let line = refused(&["serve", "--brokers=b:1", &url.replace("https", "ftp"), OAUTHBEARER, OIDC], &[]).await;
        assert!(line.contains(URL), "{line}");
    }
    assert_eq!(setting("data-dir", &["--data-dir=sasl.password=hunter2"], &[]).await, "[redacted]");
}

/// Covers S12.
#[tokio::test]
async fn a_secret_is_shown_under_no_name_and_in_no_form() {
    let key = format!("-----BEGIN PRIVATE KEY-----\n{MARK}AAAA\n{MARK}BBB=\n-----END PRIVATE KEY-----");
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        format!("--kafka-properties-file={}", path.display())
    };
    for property in [
        "sasl.password=hunter2",
        "SASL.PASSWORD=hunter2",
        "Sasl.Username=hunter2",
        "sasl.pasword=hunter2",
        "my.own=hunter2",
    ]
    .map(ToOwned::to_owned)
    .into_iter()
    .chain([format!("ssl.key.pem={key}"), format!("SSL.KEY.PEM={key}"), format!("client.id={key}")])
    {
        let name = property.split_once('=').expect("a property").0;
        let name = if name == "my.own" { "[redacted]" } else { name };
        let flag = format!("--kafka-property={property}");
        assert_eq!(setting("kafka-property", &[&flag], &[]).await, format!("{name}=[redacted]"));
        let variable = [("CHANGELOGD_KAFKA_PROPERTY", &*format!("linger.ms=5\n{property}\n"))];
        let shown = setting("kafka-property", &[], &variable).await;
        assert_eq!(shown, format!("linger.ms=5\n{name}=[redacted]"));
        // A password alone is no mistake, so there is another one.
        let bad = "linger.ms=never";
        refused(&["serve", "--brokers=b:1", &flag, "--kafka-property", bad], &[]).await;
        let named = file("properties", &format!("{property}\n{bad}\n"));
        refused(&["serve", "--brokers=b:1", &named], &[]).await;
    }
    // Keys that are cut, that have lost their first line, or that stand alone.
    let lines: Vec<_> = key.lines().collect();
    for damaged in [
        format!("ssl.key.pem={}", lines[..3].join("\n")),
        format!("ssl.key.pem=\n{}", lines[1..].join("\n")),
        lines[1..].join("\n"),
        key.clone(),
        format!("sasl.password {MARK}"),
        format!("{MARK}{MARK}{MARK}="),
        format!("ssl.key.pem=-----BEGIN X-----\n{MARK}\n-----END Y-----"),
    ] {
        let flag = format!("--kafka-property={damaged}");
        let line = refused(&["serve", "--brokers=b:1", &flag], &[]).await;
        assert!(line.contains("--kafka-property") || line.contains("Kafka property"), "{line}");
        refused(&["serve", "--brokers=b:1"], &[("CHANGELOGD_KAFKA_PROPERTY", &damaged)]).await;
        let named = file("damaged", &damaged);
        let line = refused(&["serve", "--brokers=b:1", &named], &[]).await;
        assert!(line.contains("--kafka-properties-file") || line.contains("Kafka property"), "{line}");
    }
}

/// Covers S11, B24.
#[tokio::test]
async fn a_file_that_a_property_names_is_exit_64_with_property_path_and_way_out() {
    let (legacy, modern, key) = (fixture("legacy.p12"), fixture("modern.p12"), fixture("encrypted-key.pem"));
    let directory = TempDir::new().unwrap();
    let (gone, empty) = (directory.path().join("gone"), directory.path().join("empty"));
    fs::write(&empty, "").unwrap();
    let (gone, empty) = (gone.to_str().unwrap(), empty.to_str().unwrap());
    for (name, path, password, words) in [
        ("ssl.keystore.location", &*legacy, "ssl.keystore.password=hunter2", "openssl pkcs12 -legacy"),
        ("ssl.keystore.location", &modern, "ssl.keystore.password=wrong", "is not opened by ssl.keystore.password"),
        ("ssl.keystore.location", gone, "ssl.keystore.password=hunter2", "No such file"),
        ("ssl.key.location", &key, "ssl.key.password=wrong", "is not decrypted by ssl.key.password"),
        ("ssl.ca.location", empty, "linger.ms=5", "is empty"),
        ("ssl.certificate.location", "/", "linger.ms=5", "is a directory"),
    ] {
        let file = directory.path().join("properties");
        fs::write(&file, format!("security.protocol=ssl\n{name}={path}\n{password}\n")).unwrap();
        let flag = format!("--kafka-properties-file={}", file.display());
        for arguments in [vec!["serve", "--brokers=b:1", &flag], vec!["topic", "ensure", "--brokers=b:1", &flag]] {
            let line = refused(&arguments, &[]).await;
            for part in [format!("Kafka property {name}: "), path.to_owned(), words.to_owned()] {
                assert!(line.contains(&part), "{part}: {line}");
            }
        }
    }
    let large = directory.path().join("large");
    fs::write(&large, "#".repeat(1_048_577)).unwrap();
    fs::write(directory.path().join("utf16"), b"\xff\xfea\0=\0").unwrap();
    for (name, words) in [("large", "more than 1048576 bytes"), ("utf16", "no text in UTF-8"), ("", "directory")] {
        let flag = format!("--kafka-properties-file={}", directory.path().join(name).display());
        let line = refused(&["serve", "--brokers=b:1", &flag], &[]).await;
        assert!(line.contains("--kafka-properties-file") && line.contains(words), "{line}");
    }
}

//! Properties and files that are replaced while the log is in use.

use std::{fs, path::PathBuf, sync::atomic::AtomicUsize};

use changelog_core::log::Severity;
use tempfile::TempDir;

use super::*;

/// A directory with a properties file.
struct Files(TempDir);

impl Files {
    fn with(properties: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write("properties", properties);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn copy(&self, name: &str, fixture: &str) {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(fixture);
        fs::copy(from, self.path(name)).unwrap();
    }

    fn use_in(&self, settings: &mut Settings) {
        settings.properties_file = Some(PropertiesFile::read(self.path("properties")).unwrap());
    }
}

/// Looks at the files now.
async fn look(log: &KafkaLog) {
    let watcher = log.inner.settings_watcher.clone();
    run_blocking(move || watcher.check()).await.unwrap();
}

pub async fn producers_are_replaced(log: &KafkaLog, time: Duration) {
    wait_until("all producers are replaced", time, || log.inner.pool.get().unwrap().is_up_to_date()).await;
}

fn finding(log: &KafkaLog) -> Option<String> {
    let found = log.inner.settings_watcher.finding()?;
    assert_eq!((found.code, found.severity), ("SETTINGS_NOT_REPLACED", Severity::Warning));
    Some(found.message)
}

/// Covers C45, R52, R53.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_reordered_or_unknown_while_clients_are_replaced() {
    const PARTITIONS: i32 = 4;
    let (files, metrics) = (Files::with("client.id=first"), Metrics::default());
    let replaced = metrics.settings_replaced.clone();
    let MockServer { cluster, log } = mock_server_with(PARTITIONS, metrics, |s| files.use_in(s)).await;
    // So that writes are in flight at each replacement.
    cluster.broker_round_trip_time(1, Duration::from_millis(30)).unwrap();
    let (log, stop, written) = (Arc::new(log), Arc::new(AtomicBool::default()), Arc::new(AtomicUsize::default()));
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let (log, stop, written) = (log.clone(), stop.clone(), written.clone());
            tokio::spawn(async move {
                let (mut last, mut number) = (-1, 0);
                while !stop.load(Ordering::Relaxed) {
                    let pending: Vec<_> = (0..10)
                        .map(|_| {
                            number += 1;
                            log.append(record(partition, &format!("w/t/{number}"), Some(b"1"))).expect("accepted")
                        })
                        .collect();
                    for pending in pending {
                        let offset = pending.await.unwrap().expect("acknowledged").position.offset;
                        assert_eq!(offset, last + 1, "in the order of the calls, and each once");
                        last = offset;
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for round in 1..=20 {
        files.write("properties", &format!("client.id=round-{round}"));
        look(&log).await;
        assert_eq!((replaced.get(), finding(&log)), (round, None));
        producers_are_replaced(&log, Duration::from_secs(5)).await;
        let before = written.load(Ordering::Relaxed);
        wait_until("writes go on", Duration::from_secs(5), || written.load(Ordering::Relaxed) > before + 100).await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let (_, ends) = read(&log, &[0, 1, 2, 3]).await.unwrap();
    let there: u64 = ends.iter().map(|end| end.counts.read).sum();
    assert_eq!(there, written.load(Ordering::Relaxed) as u64);
}

/// Covers R52, R54, S12.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_properties_replace_nothing_and_are_a_finding_until_they_are_right() {
    let (files, metrics) = (Files::with("client.id=first"), Metrics::default());
    files.copy("certificate.pem", "certificate.pem");
    let certificate = format!("ssl.certificate.location={}\n", files.path("certificate.pem").display());
    files.write("properties", &certificate);
    let replaced = metrics.settings_replaced.clone();
    let MockServer { log, cluster: _cluster } = mock_server_with(1, metrics, |s| files.use_in(s)).await;
    let in_effect = log.inner.clients.settings();
    for (text, words) in [
        ("", "has no property any more"),
        ("# the rest is still to come\n", "has no property any more"),
        ("linger.ms=5\nno property\n", "line 2: must be name=value"),
        ("sasl.pasword=hunter2\n", "Kafka property sasl.pasword"),
        ("linger.ms=hunter2\n", "Kafka property linger.ms"),
        ("acks=1\n", "Kafka property acks"),
        ("ssl.key.location=/nonexistent\nsasl.password=hunter2\n", "\"/nonexistent\" can't be read"),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.method=oidc\n\
             sasl.oauthbearer.client.id=a\nsasl.oauthbearer.client.secret=hunter2\n\
             sasl.oauthbearer.token.endpoint.url=https://127.0.0.1:1/\n",
            "takes effect at a restart",
        ),
    ] {
        files.write("properties", text);
        look(&log).await;
        let message = finding(&log).unwrap_or_else(|| panic!("no finding for {words}"));
        let is_shown = text.starts_with("linger.ms=hunter2");
        assert!(message.contains(words) && (is_shown || !message.contains("hunter2")), "{message}");
        assert!(Arc::ptr_eq(&in_effect, &log.inner.clients.settings()), "nothing is replaced");
        assert!(log.describe().await.findings.iter().any(|f| f.code == "SETTINGS_NOT_REPLACED"));
        log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
        read(&log, &[0]).await.unwrap();
    }
    fs::remove_file(files.path("properties")).unwrap();
    look(&log).await;
    assert!(finding(&log).unwrap().contains("--kafka-properties-file"), "{:?}", finding(&log));
    // The same again, and then a file that a property names.
    files.write("properties", &certificate);
    look(&log).await;
    assert_eq!((finding(&log), replaced.get()), (None, 0), "these are in effect");
    files.write("certificate.pem", "half a cert");
    look(&log).await;
    let message = finding(&log).unwrap();
    assert!(message.contains("Kafka property ssl.certificate.location") && message.contains("certificate.pem"));
    read(&log, &[0]).await.unwrap();
    assert_eq!(replaced.get(), 0);
    files.copy("certificate.pem", "certificate.pem");
    look(&log).await;
    assert_eq!((finding(&log), replaced.get()), (None, 0), "the same contents replace nothing");
    let both = ["certificate.pem", "certificate.pem"].map(|name| fs::read_to_string(files.path(name)).unwrap());
    files.write("certificate.pem", &both.concat());
    look(&log).await;
    assert_eq!((finding(&log), replaced.get()), (None, 1));
    log.append(record(0, "w/t/b", Some(b"1"))).unwrap().await.unwrap().unwrap();
}

/// librdkafka reads certificate and key whenever it makes a client, also for each replay.
/// Covers R54.
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_made_while_a_certificate_is_there_before_its_key() {
    let files = Files::with("");
    files.copy("certificate.pem", "certificate.pem");
    files.copy("key.pem", "key.pem");
    let named = |property: &str, name: &str| format!("{property}={}\n", files.path(name).display());
    let all = [
        "security.protocol=ssl\n".to_owned(),
        named("ssl.ca.location", "certificate.pem"),
        named("ssl.certificate.location", "certificate.pem"),
        named("ssl.key.location", "key.pem"),
    ];
    files.write("properties", &all.concat());
    let mut settings = Settings::new("127.0.0.1:1", "t");
    files.use_in(&mut settings);
    let metrics = Metrics::default();
    let replaced = metrics.settings_replaced.clone();
    let log = KafkaLog::start(settings, metrics).unwrap();
    let a_client = || log.inner.clients.consumer().map(drop);
    a_client().unwrap();
    files.copy("key.pem", "other-key.pem");
    look(&log).await;
    let message = finding(&log).expect("a finding");
    assert!(message.contains("ssl.key.location") && message.contains("not the key of the certificate"), "{message}");
    a_client().expect("with the key from before");
    fs::remove_file(files.path("key.pem")).unwrap();
    fs::remove_file(files.path("certificate.pem")).unwrap();
    look(&log).await;
    a_client().expect("with the files from before");
    files.copy("certificate.pem", "certificate.pem");
    files.copy("key.pem", "key.pem");
    look(&log).await;
    assert_eq!((finding(&log), replaced.get()), (None, 0));
}

/// Covers R52.
#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_the_queue_follow_the_properties() {
    let files = Files::with("queue.buffering.max.messages=100000");
    let MockServer { cluster, log } = mock_server(1, |s| files.use_in(s)).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    files.write("properties", "queue.buffering.max.messages=10");
    look(&log).await;
    producers_are_replaced(&log, Duration::from_secs(5)).await;
    cluster.broker_round_trip_time(1, Duration::from_secs(1)).unwrap();
    let started = StdInstant::now();
    loop {
        let all: Vec<_> = (0..20).map(|_| log.append(record(0, "w/t/a", Some(b"1")))).collect();
        if all.iter().any(|one| matches!(one, Err(WriteError::QueueFull { .. }))) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "the new limit holds");
    }
}

/// Covers R52.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_flag_names_is_watched_too() {
    let (files, metrics) = (Files::with(""), Metrics::default());
    files.copy("certificate.pem", "certificate.pem");
    let replaced = metrics.settings_replaced.clone();
    let path = files.path("certificate.pem").display().to_string();
    let MockServer { log, cluster: _cluster } = mock_server_with(1, metrics, |s| {
        s.properties.push(("SSL.CA.Location".to_owned(), path));
    })
    .await;
    let certificate = fs::read_to_string(files.path("certificate.pem")).unwrap();
    files.write("certificate.pem", &certificate.repeat(2));
    look(&log).await;
    assert_eq!((finding(&log), replaced.get()), (None, 1));
}

/// The file is looked at by the log itself.
/// Covers R52.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_looks_at_its_files() {
    let (files, metrics) = (Files::with("client.id=first"), Metrics::default());
    let replaced = metrics.settings_replaced.clone();
    let MockServer { log: _log, cluster: _cluster } = mock_server_with(1, metrics, |s| files.use_in(s)).await;
    files.write("properties", "client.id=second");
    wait_until("it is replaced", Duration::from_secs(20), || replaced.get() == 1).await;
}

/// The token in use was got with the settings from before, and says nothing about others.
/// Covers R54, R64.
#[tokio::test(flavor = "multi_thread")]
async fn other_settings_of_a_token_are_tried_before_they_take_effect() {
    let properties = |secret: &str| {
        format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.method=oidc\n\
             sasl.oauthbearer.client.id=a\nsasl.oauthbearer.client.secret={secret}\n\
             sasl.oauthbearer.token.endpoint.url=https://127.0.0.1:1/\n"
        )
    };
    let files = Files::with(&properties("first"));
    let mut settings = Settings::new("127.0.0.1:1", "t");
    files.use_in(&mut settings);
    let log = KafkaLog::start(settings, Metrics::default()).unwrap();
    let in_effect = log.inner.clients.settings();
    files.write("properties", &properties("hunter2"));
    look(&log).await;
    let message = finding(&log).expect("a finding");
    assert!(message.contains("there is no token for the brokers") && message.contains("127.0.0.1"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    assert!(Arc::ptr_eq(&in_effect, &log.inner.clients.settings()), "nothing is replaced");
    let error = log.inner.clients.consumer().expect_err("it would connect to no broker");
    assert!(error.to_string().contains("no token for the brokers"), "{error}");
}

/// A shell gives a pipe for `--kafka-properties-file <(vault read …)`.
/// Covers R52.
#[test]
fn a_pipe_is_read_once_and_keeps_its_properties() {
    use std::{io::Write as _, os::fd::AsRawFd as _};
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"client.id=piped\n").unwrap();
    drop(writer);
    let mut settings = Settings::new("b:9092", "t");
    settings.properties_file = Some(PropertiesFile::read(format!("/dev/fd/{}", reader.as_raw_fd())).unwrap());
    let again = crate::settings::Loaded::again(&settings).unwrap();
    assert!(!again.files.have_changed());
    let client_id = again.settings.config(crate::settings::Role::Admin).get("client.id").map(str::to_owned);
    assert_eq!(client_id.as_deref(), Some("piped"));
}

/// The properties of a flag win over those of the file, also after the file was read again.
/// Covers R52.
#[test]
fn properties_of_flags_win_over_a_changed_file() {
    let files = Files::with("client.id=file\nlinger.ms=1");
    let mut settings = Settings::new("b:9092", "t");
    settings.properties.push(("CLIENT.ID".to_owned(), "flag".to_owned()));
    files.use_in(&mut settings);
    let of =
        |settings: &Settings, name: &str| settings.config(crate::settings::Role::Admin).get(name).map(str::to_owned);
    assert_eq!(of(&settings, "client.id").as_deref(), Some("flag"));
    files.write("properties", "client.id=other\nlinger.ms=2");
    let again = crate::settings::Loaded::again(&settings).unwrap().settings;
    assert_eq!(of(&again, "client.id").as_deref(), Some("flag"));
    assert_eq!(of(&again, "linger.ms").as_deref(), Some("2"));
}

/// Covers R52, K11.
#[test]
fn a_file_that_a_value_is_from_is_watched_and_read_again() {
    let files = Files::with("");
    files.write("id", "first\n");
    files.write("codec", "gzip\n");
    let reference = |name: &str| format!("${{directory:{}:{name}}}", files.0.path().display());
    files.write("properties", &format!("client.id={}", reference("id")));
    let mut settings = Settings::new("b:9092", "t");
    settings.properties = crate::Properties::read(vec![("compression.type".to_owned(), reference("codec"))]).unwrap();
    files.use_in(&mut settings);
    let of =
        |settings: &Settings, name: &str| settings.config(crate::settings::Role::Admin).get(name).map(str::to_owned);
    let mut loaded = crate::settings::Loaded::new(settings).unwrap();
    for (name, property, before, after) in
        [("id", "client.id", "first", "second"), ("codec", "compression.type", "gzip", "zstd")]
    {
        assert_eq!(of(&loaded.settings, property).as_deref(), Some(before));
        assert!(!loaded.files.have_changed());
        files.write(name, after);
        assert!(loaded.files.have_changed(), "{name}");
        let again = crate::settings::Loaded::again(&loaded.settings).unwrap();
        assert!(!again.settings.has_same_properties(&loaded.settings));
        loaded = again;
        assert_eq!(of(&loaded.settings, property).as_deref(), Some(after));
    }
    std::fs::remove_file(files.path("id")).unwrap();
    assert!(loaded.files.have_changed());
    let error = crate::settings::Loaded::again(&loaded.settings).err().expect("it is missing").to_string();
    assert!(error.contains("--kafka-properties-file") && error.contains("client.id"), "{error}");
}

//! The commands of Kafka's own tools that an error or a document tells an operator to run. Kafka runs them as they are
//! written, but for the names in capitals.

use std::{fs, path::Path};

use changelogd_testkit::{kafka_tool, markdown::blocks, shared_broker, shared_oracle, unique_topic};

use crate::{
    contract::server::TestServer,
    servers::topic,
    topic_care::{load, set},
};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// What stands in backquotes and begins with a script of Kafka and its brokers, without line breaks.
fn inline(document: &str) -> Vec<String> {
    let pieces = document.split('`').skip(1).step_by(2);
    let commands = pieces.filter(|piece| piece.starts_with("kafka-") && piece.contains(".sh --"));
    commands.map(|command| command.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Runs a command that says where to find the producer of a transaction, and returns the offset where that begins.
fn start_of_transaction(command: &str, topic: &str) -> String {
    let command = command.replace("BROKER", shared_broker().bootstrap()).replace("TOPIC", topic);
    let printed = kafka_tool(&command).unwrap();
    let mut lines = printed.lines().skip_while(|line| !line.starts_with("ProducerId"));
    let columns: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
    let column = columns.iter().position(|name| *name == "CurrentTransactionStartOffset");
    // Producers without a transaction, such as those of changelogd, have None there.
    let starts = lines.filter_map(|line| line.split_whitespace().nth(column?)).filter(|start| *start != "None");
    let starts: Vec<_> = starts.collect();
    assert_eq!(starts.len(), 1, "{command} printed {printed}");
    starts[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_runs_what_an_error_and_the_runbook_say_of_an_open_transaction() {
    let (topic, args) = topic(1);
    let server = TestServer::process(args).await.ready().await;
    set(&server).await.unwrap();
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    let id = unique_topic("txn");
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, 0, Some(b"ws/t/in-transaction"), Some(b"1")).unwrap();
    server.set("ws/t/after", "2").await;
    let status = load(&server).await.unwrap_err();
    let command = status.message().split_once("find it with ").expect("a command").1.to_owned();
    let runbook = inline(&document("operations.md"));
    let named = |what: &str| {
        let mut of_it = runbook.iter().filter(|command| command.contains(what));
        let (Some(command), None) = (of_it.next(), of_it.next()) else { panic!("{what}: {runbook:?}") };
        command.replace("--partition N", "--partition 0").replace("BROKER", bootstrap).replace("TOPIC", &topic)
    };
    assert_eq!(runbook.len(), 3, "{runbook:?}");
    let of_runbook = named(" describe-producers ");
    let of_topic = topic.clone();
    let starts = tokio::task::spawn_blocking(move || {
        [command, of_runbook].map(|command| start_of_transaction(&command, &of_topic))
    });
    let [start, of_runbook] = starts.await.unwrap();
    assert_eq!((&*start, &*of_runbook), ("1", "1"));
    let commands =
        [named(" find-hanging ").replace("--broker-id ID", "--broker-id 1"), named(" abort ").replace("START", &start)];
    tokio::task::spawn_blocking(move || commands.map(|command| kafka_tool(&command).unwrap())).await.unwrap();
    load(&server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_runs_the_command_that_creates_a_topic() {
    let (document, topic) = (document("kafka.md"), unique_topic("tool"));
    let commands = blocks(&document).into_iter().filter(|block| block.tag == "sh kafka");
    let commands: Vec<_> = commands.map(|block| block.lines.join(" ").replace("\\ ", " ")).collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    // One broker has one copy.
    let command = commands[0].replace("--replication-factor 3", "--replication-factor 1");
    let command = command.replace("BROKER", shared_broker().bootstrap()).replace("workspace-changelog", &topic);
    tokio::task::spawn_blocking(move || kafka_tool(&command)).await.unwrap().unwrap();
    let server = TestServer::process(vec![
        format!("--brokers={}", shared_broker().bootstrap()),
        format!("--topic={topic}"),
        "--partitions=10".to_owned(),
    ]);
    let server = server.await.ready().await;
    set(&server).await.unwrap();
    load(&server).await.unwrap();
}

//! The typed interface of `tests/kafka/oracle`: one JVM with Kafka's Java client, which serves many commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::java::{ensure_fetched, oracle_arguments};

/// One oracle for the whole process; its commands run one after another.
pub fn shared_oracle() -> &'static Oracle {
    static ORACLE: OnceLock<Oracle> = OnceLock::new();
    ORACLE.get_or_init(Oracle::start)
}

/// Java's client, driven by a test. A command that meets a dead broker fails after 10 to 30 s.
pub struct Oracle {
    pipes: Mutex<Pipes>,
}

struct Pipes {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// The exception that Java threw.
#[derive(Debug, Clone)]
pub struct OracleError {
    /// The exception's simple name, such as `UnknownTopicOrPartitionException`.
    pub class: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

/// The result of Java's default partitioner for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitioned {
    pub partition: i32,
    pub murmur2: i32,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A topic's content, ordered by partition and offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    pub records: Vec<Record>,
    /// By partition: the low offset, and the end as the isolation level sees it (the last stable or the high one).
    pub ranges: Vec<(i64, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// As Kafka writes it: base64, 22 characters.
    pub id: String,
    pub partitions: Vec<Partition>,
    /// Effective values, defaults included.
    pub configs: BTreeMap<String, String>,
    /// The names that the topic sets itself.
    pub set: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub partition: i32,
    /// -1 if it has none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    /// The offsets are -1 without a leader.
    pub low: i64,
    pub last_stable: i64,
    pub high: i64,
}

impl Oracle {
    /// # Panics
    /// If there is no Kafka to take the client from, or no Java.
    pub fn start() -> Self {
        ensure_fetched();
        let mut child = Command::new("java")
            // It ends when its stdin ends, so it needs no wrapper: it is never paused.
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1"])
            .args(oracle_arguments(&std::env::temp_dir()))
            .arg("oracle.Oracle")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot run java");
        let stdin = child.stdin.take().expect("the oracle's stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("the oracle's stdout is piped"));
        Self { pipes: Mutex::new(Pipes { child, stdin, stdout }) }
    }

    /// One command in the oracle's own language (see `Oracle.java`), and the lines of its answer.
    ///
    /// # Panics
    /// If the oracle has died.
    pub fn ask(&self, words: &[&str]) -> Result<Vec<Value>, OracleError> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let command = words.join(" ");
        writeln!(pipes.stdin, "{command}")
            .unwrap_or_else(|error| panic!("the oracle died before '{command}': {error}"));
        let ends_with_done = words.first() == Some(&"dump");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = pipes.stdout.read_line(&mut line);
            assert!(read.is_ok_and(|bytes| bytes > 0), "the oracle died during '{command}'");
            let line: Value = serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("the oracle answered '{command}' with {line:?}: {error}"));
            if let Some(message) = line["error"].as_str() {
                return Err(OracleError { class: text(&line["class"]), message: message.to_owned() });
            }
            let done = !ends_with_done || line["done"] == true;
            lines.push(line);
            if done {
                return Ok(lines);
            }
        }
    }

    pub fn partition(&self, count: i32, key: &[u8]) -> Result<Partitioned, OracleError> {
        let line = self.ask_one(&["partition", &count.to_string(), &word(Some(key))])?;
        Ok(Partitioned { partition: int(&line["partition"]), murmur2: int(&line["murmur2"]) })
    }

    /// All topics, internal ones included.
    pub fn topics(&self, bootstrap: &str) -> Result<BTreeSet<String>, OracleError> {
        let line = self.ask_one(&["topics", bootstrap])?;
        Ok(array(&line["topics"]).iter().map(text).collect())
    }

    /// All groups of any kind and state.
    pub fn groups(&self, bootstrap: &str) -> Result<BTreeSet<String>, OracleError> {
        let line = self.ask_one(&["groups", bootstrap])?;
        Ok(array(&line["groups"]).iter().map(text).collect())
    }

    /// Returns the topic's id, when every partition has a leader.
    pub fn create(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<String, OracleError> {
        let (partitions, replication_factor) = (partitions.to_string(), replication_factor.to_string());
        let line = self.ask_one(&["create", bootstrap, topic, &partitions, &replication_factor, &settings(configs)])?;
        Ok(text(&line["id"]))
    }

    /// Returns when the topic is gone.
    pub fn delete(&self, bootstrap: &str, topic: &str) -> Result<(), OracleError> {
        self.ask_one(&["delete", bootstrap, topic]).map(drop)
    }

    /// `count` is the new total.
    pub fn add_partitions(&self, bootstrap: &str, topic: &str, count: i32) -> Result<(), OracleError> {
        self.ask_one(&["add-partitions", bootstrap, topic, &count.to_string()]).map(drop)
    }

    /// Sets these, and does not change the others.
    pub fn config(&self, bootstrap: &str, topic: &str, configs: &[(&str, &str)]) -> Result<(), OracleError> {
        self.ask_one(&["config", bootstrap, topic, &settings(configs)]).map(drop)
    }

    pub fn describe(&self, bootstrap: &str, topic: &str) -> Result<Topic, OracleError> {
        let line = self.ask_one(&["describe", bootstrap, topic])?;
        let partitions = array(&line["partitions"]).iter().map(|partition| Partition {
            partition: int(&partition["partition"]),
            leader: int(&partition["leader"]),
            replicas: array(&partition["replicas"]).iter().map(int).collect(),
            isr: array(&partition["isr"]).iter().map(int).collect(),
            low: partition["low"].as_i64().unwrap_or(-1),
            last_stable: partition["last_stable"].as_i64().unwrap_or(-1),
            high: partition["high"].as_i64().unwrap_or(-1),
        });
        let configs = line["configs"].as_object().expect("the oracle describes a topic with its configs");
        Ok(Topic {
            id: text(&line["id"]),
            partitions: partitions.collect(),
            configs: configs
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            set: array(&line["set"]).iter().map(text).collect(),
        })
    }

    /// Each partition's leader (-1 if it has none) and the number of its replicas in sync, by partition. Asks any
    /// broker that answers, so that dead and frozen ones don't matter.
    pub fn leaders(&self, bootstrap: &str, topic: &str) -> Result<Vec<(i32, usize)>, OracleError> {
        let line = self.ask_one(&["leaders", bootstrap, topic])?;
        let mut found: Vec<_> = array(&line["partitions"])
            .iter()
            .map(|p| (int(&p["partition"]), (int(&p["leader"]), usize::try_from(long(&p["in_sync"])).unwrap_or(0))))
            .collect();
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, known)| known).collect())
    }

    /// Returns the new low offset. Kafka refuses it on a topic that is compacted only (`PolicyViolationException`).
    pub fn delete_records(
        &self,
        bootstrap: &str,
        topic: &str,
        partition: i32,
        before_offset: i64,
    ) -> Result<i64, OracleError> {
        let (partition, before_offset) = (partition.to_string(), before_offset.to_string());
        let line = self.ask_one(&["delete-records", bootstrap, topic, &partition, &before_offset])?;
        Ok(long(&line["low"]))
    }

    pub fn dump(&self, bootstrap: &str, topic: &str, isolation: Isolation) -> Result<Dump, OracleError> {
        let isolation = match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        let mut lines = self.ask(&["dump", bootstrap, topic, isolation])?;
        let done = lines.pop().expect("a dump ends with a line");
        let mut records: Vec<_> = lines.iter().map(record).collect();
        records.sort_by_key(|record| (record.partition, record.offset));
        let ranges = array(&done["partitions"]).iter().map(|range| (long(&range["begin"]), long(&range["end"])));
        Ok(Dump { records, ranges: ranges.collect() })
    }

    /// With acks=all; without a partition Java's client chooses. Returns when the record is in the log.
    pub fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<Produced, OracleError> {
        let partition = partition.map_or_else(|| "-".to_owned(), |partition| partition.to_string());
        let (key, value) = (word(key), word(value));
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| format!("{}:{}", word(Some(name.as_bytes())), word(*value))).collect();
        let mut words = vec!["produce", bootstrap, topic, &partition, &key, &value];
        words.extend(headers.iter().map(String::as_str));
        self.ask_one(&words).map(|line| produced(&line))
    }

    /// Allows a user these operations on a topic, on a broker with an authorizer. Operations have Kafka's names
    /// (`read,write`).
    pub fn allow(&self, bootstrap: &str, topic: &str, user: &str, operations: &str) -> Result<(), OracleError> {
        self.ask_one(&["acl", bootstrap, "allow", topic, user, operations]).map(drop)
    }

    /// Removes that permission.
    pub fn forbid(&self, bootstrap: &str, topic: &str, user: &str, operations: &str) -> Result<(), OracleError> {
        self.ask_one(&["acl", bootstrap, "forbid", topic, user, operations]).map(drop)
    }

    /// Bounds what clients with this id may do, by Kafka's name for it (`consumer_byte_rate`).
    pub fn quota(&self, bootstrap: &str, client_id: &str, name: &str, bound: u32) -> Result<(), OracleError> {
        self.ask_one(&["quota", bootstrap, client_id, name, &bound.to_string()]).map(drop)
    }

    /// Opens a transaction, which stays open over other commands: for ten minutes, or until commit or abort.
    pub fn txn_begin(&self, bootstrap: &str, transactional_id: &str) -> Result<(), OracleError> {
        self.ask_one(&["txn-begin", bootstrap, transactional_id]).map(drop)
    }

    /// As [`Oracle::txn_begin`], for the coordinator to abort after `timeout_ms`.
    pub fn txn_begin_with_timeout(
        &self,
        bootstrap: &str,
        transactional_id: &str,
        timeout_ms: u32,
    ) -> Result<(), OracleError> {
        self.ask_one(&["txn-begin", bootstrap, transactional_id, &timeout_ms.to_string()]).map(drop)
    }

    /// Returns when the record is in the log, where only read_uncommitted readers see it.
    pub fn txn_send(
        &self,
        transactional_id: &str,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Produced, OracleError> {
        let partition = partition.to_string();
        let line = self.ask_one(&["txn-send", transactional_id, topic, &partition, &word(key), &word(value)])?;
        Ok(produced(&line))
    }

    /// The last stable offset may follow a moment later.
    pub fn txn_commit(&self, transactional_id: &str) -> Result<(), OracleError> {
        self.ask_one(&["txn-commit", transactional_id]).map(drop)
    }

    /// As [`Oracle::txn_commit`]. The transaction is forgotten also where this fails, as after the coordinator's abort.
    pub fn txn_abort(&self, transactional_id: &str) -> Result<(), OracleError> {
        self.ask_one(&["txn-abort", transactional_id]).map(drop)
    }

    fn ask_one(&self, words: &[&str]) -> Result<Value, OracleError> {
        Ok(self.ask(words)?.swap_remove(0))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let pipes = self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner);
        if writeln!(pipes.stdin, "exit").is_err() {
            let _ = pipes.child.kill();
        }
        let _ = pipes.child.wait();
    }
}

impl fmt::Display for OracleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OracleError {}

/// Bytes as an argument: `-` is null and `=` is empty.
fn word(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "-".to_owned(),
        Some([]) => "=".to_owned(),
        Some(bytes) => STANDARD.encode(bytes),
    }
}

fn settings(configs: &[(&str, &str)]) -> String {
    if configs.is_empty() {
        return "-".to_owned();
    }
    configs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn record(line: &Value) -> Record {
    Record {
        partition: int(&line["partition"]),
        offset: long(&line["offset"]),
        timestamp: long(&line["timestamp"]),
        key: bytes(&line["key"]),
        value: bytes(&line["value"]),
        headers: array(&line["headers"]).iter().map(|header| (text(&header[0]), bytes(&header[1]))).collect(),
    }
}

fn produced(line: &Value) -> Produced {
    Produced { partition: int(&line["partition"]), offset: long(&line["offset"]), timestamp: long(&line["timestamp"]) }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    Some(STANDARD.decode(text).unwrap_or_else(|error| panic!("the oracle wrote {text:?} as base64: {error}")))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("the oracle wrote {value} where a string belongs")).to_owned()
}

fn long(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("the oracle wrote {value} where a number belongs"))
}

fn int(value: &Value) -> i32 {
    i32::try_from(long(value)).unwrap_or_else(|_| panic!("the oracle wrote {value} where an i32 belongs"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("the oracle wrote {value} where an array belongs"))
}

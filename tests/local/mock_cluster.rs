//! librdkafka's mock cluster, in a process of its own.
//!
//! It binds the port of a broker again while it turns it off, and aborts its process if that fails. In the process of
//! the tests it would fail now and then: a child that another test starts holds all descriptors, this port among them,
//! from its fork to its exec.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard},
};

use rdkafka::mocking::MockCluster;

/// The name of the test that is the process, if the variable gives the partitions of its topic.
const TEST: &str = "mock_cluster::a_broker_is_switched_while_other_processes_start";
const PARTITIONS: &str = "CHANGELOGD_TEST_MOCK_PARTITIONS";
/// Begins each line that the process writes for [`MockKafka`]. The test harness writes others.
const ANSWER: &str = "mock: ";

/// A cluster of one broker with the topic `t`. It ends with this value, or with the process of the tests.
pub struct MockKafka {
    pub brokers: String,
    process: Mutex<Process>,
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl MockKafka {
    pub fn start(partitions: i32) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the path of the tests"))
            .args([TEST, "--exact", "--nocapture"])
            .env(PARTITIONS, partitions.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests start once more");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut process = Process { child, lines };
        Self { brokers: process.answer(), process: Mutex::new(process) }
    }

    /// Turns the only broker off or on. Returns when that has happened.
    pub fn switch(&self, on: bool) {
        let mut process = self.process();
        writeln!(process.child.stdin.as_mut().expect("piped"), "{on}").expect("the cluster is there");
        assert_eq!(process.answer(), on.to_string());
    }

    /// Stops the process of the cluster, or lets it go on. Meanwhile the broker takes connections and answers nothing.
    pub fn pause(&self, paused: bool) {
        let signal = if paused { "-STOP" } else { "-CONT" };
        let id = self.process().child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
    }

    pub fn arguments(&self, partitions: i32) -> Vec<String> {
        vec![format!("--brokers={}", self.brokers), "--topic=t".to_owned(), format!("--partitions={partitions}")]
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().expect("no test has failed with it")
    }
}

impl Process {
    fn answer(&mut self) -> String {
        let mut lines = self.lines.by_ref().map(|line| line.expect("a line of text"));
        lines.find_map(|line| line.strip_prefix(ANSWER).map(str::to_owned)).expect("the cluster is there")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its standard input ends it, unless a test that failed has left it stopped.
        let _ = Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status();
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn serve(partitions: i32) {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", partitions, 1).expect("a topic");
    // The harness ends its line with the result of the test.
    println!("\n{ANSWER}{}", cluster.bootstrap_servers());
    for line in std::io::stdin().lines() {
        let on = line.expect("a line of text") == "true";
        if on { cluster.broker_up(1) } else { cluster.broker_down(1) }.expect("switched");
        println!("{ANSWER}{on}");
    }
}

#[test]
fn a_broker_is_switched_while_other_processes_start() {
    if let Ok(partitions) = std::env::var(PARTITIONS) {
        return serve(partitions.parse().expect("a number of partitions"));
    }
    let kafka = MockKafka::start(1);
    std::thread::scope(|scope| {
        let switches = scope.spawn(|| {
            for _ in 0..100 {
                kafka.switch(false);
                kafka.switch(true);
            }
        });
        while !switches.is_finished() {
            assert!(Command::new("true").status().expect("it runs").success());
        }
    });
}

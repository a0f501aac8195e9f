//! A real cluster for tests: one controller and three brokers. Each is a process of its own, so that a lost broker
//! leaves a quorum. Clients under test reach a broker only through a [`Proxy`]. The brokers talk to each other on a
//! second listener, which no network fault affects. The oracle uses that listener, too.
//!
//! As with a [`Broker`], calls block, and nothing outlives the test process.

use std::thread;

use crate::{
    broker::{Broker, StartFailure, free_ports, with_common_properties},
    files::write,
    java::{cluster_id, ensure_fetched, format_storage},
    oracle::shared_oracle,
    proxy::Proxy,
    run_dir::RunDir,
};

/// The ids of the brokers. The controller's id is 100.
pub const BROKERS: [i32; 3] = [1, 2, 3];
const CONTROLLER: i32 = 100;

pub struct Cluster {
    controller: Broker,
    members: Vec<Member>,
}

struct Member {
    broker: Broker,
    proxy: Proxy,
    paused: bool,
}

impl Cluster {
    /// # Panics
    /// If it doesn't run within a minute; with the end of a log.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With properties added to, or in place of, the usual ones of every broker.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_with(properties: &[(&str, &str)]) -> Self {
        ensure_fetched();
        for _ in 0..5 {
            match Self::try_start(properties) {
                Ok(cluster) => return cluster,
                Err(StartFailure::PortTaken) => {}
                Err(StartFailure::Other(message)) => panic!("{message}"),
            }
        }
        panic!("kafka found its ports taken five times in a row");
    }

    fn try_start(properties: &[(&str, &str)]) -> Result<Self, StartFailure> {
        let id = cluster_id();
        let [controller_port, ports @ ..] = free_ports::<7>();
        let mut controller = controller(controller_port);
        let mut members: Vec<_> = BROKERS
            .iter()
            .zip(ports.chunks(2))
            .map(|(id, ports)| member(*id, ports, controller_port, properties))
            .collect();
        thread::scope(|scope| {
            let (controller, id) = (&controller, &id);
            scope.spawn(move || format_storage(controller.run.path(), id, &["--standalone"]));
            for member in &members {
                scope.spawn(move || format_storage(member.broker.run.path(), id, &[]));
            }
        });
        controller.launch()?;
        thread::scope(|scope| {
            let starts: Vec<_> = members.iter_mut().map(|m| scope.spawn(|| m.broker.launch())).collect();
            starts.into_iter().try_for_each(|start| start.join().expect("a start panics by its own words"))
        })?;
        Ok(Self { controller, members })
    }

    /// The addresses of the proxies, for clients under test.
    pub fn bootstrap(&self) -> String {
        self.members.iter().map(|m| m.proxy.address()).collect::<Vec<_>>().join(",")
    }

    /// The addresses of the brokers themselves, for the oracle.
    pub fn direct(&self) -> String {
        self.members.iter().map(|m| m.broker.bootstrap()).collect::<Vec<_>>().join(",")
    }

    /// As [`Cluster::direct`], for one broker.
    pub fn direct_of(&self, id: i32) -> &str {
        self.members[index(id)].broker.bootstrap()
    }

    /// The proxy between clients under test and this broker.
    pub fn proxy(&self, id: i32) -> &Proxy {
        &self.members[index(id)].proxy
    }

    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.members.iter().map(|m| &m.proxy)
    }

    pub fn version(&self) -> String {
        self.controller.version()
    }

    /// The broker that leads a partition, or -1. Asks the oracle.
    ///
    /// # Panics
    /// If the oracle can't tell.
    pub fn leader_of(&self, topic: &str, partition: i32) -> i32 {
        self.leaders(topic).get(usize::try_from(partition).expect("a partition")).map_or(-1, |(leader, _)| *leader)
    }

    /// How many replicas of each partition are in sync.
    ///
    /// # Panics
    /// As [`Cluster::leader_of`].
    pub fn in_sync(&self, topic: &str) -> Vec<usize> {
        self.leaders(topic).into_iter().map(|(_, in_sync)| in_sync).collect()
    }

    fn leaders(&self, topic: &str) -> Vec<(i32, usize)> {
        let running = self.members.iter().find(|m| m.runs()).expect("a broker runs");
        let leaders = shared_oracle().leaders(running.broker.bootstrap(), topic);
        leaders.unwrap_or_else(|error| panic!("the oracle can't tell who leads {topic}: {error:?}"))
    }

    /// SIGKILL. Idempotent.
    pub fn kill(&mut self, id: i32) {
        self.members[index(id)].paused = false;
        self.members[index(id)].broker.kill();
    }

    /// SIGTERM, and waits. Idempotent.
    pub fn stop(&mut self, id: i32) {
        self.members[index(id)].paused = false;
        self.members[index(id)].broker.stop();
    }

    /// SIGSTOP.
    pub fn pause(&mut self, id: i32) {
        self.members[index(id)].paused = true;
        self.members[index(id)].broker.pause();
    }

    /// SIGCONT.
    pub fn resume(&mut self, id: i32) {
        self.members[index(id)].paused = false;
        self.members[index(id)].broker.resume();
    }

    /// Starts one again on the same directory and ports; stops it first if it runs.
    pub fn restart(&mut self, id: i32) {
        self.members[index(id)].paused = false;
        self.members[index(id)].broker.restart();
    }

    /// Restores the start: no network fault, every broker running. Idempotent.
    pub fn heal(&mut self) {
        thread::scope(|scope| {
            for member in &mut self.members {
                member.proxy.pass();
                member.paused = false;
                if member.broker.process.is_some() {
                    member.broker.resume();
                } else {
                    scope.spawn(|| member.broker.restart());
                }
            }
        });
    }

    /// The end of a broker's log, for the message of a failed test.
    pub fn log_tail(&self, id: i32) -> String {
        self.members[index(id)].broker.log_tail()
    }
}

impl Member {
    fn runs(&self) -> bool {
        self.broker.process.is_some() && !self.paused
    }
}

fn index(id: i32) -> usize {
    BROKERS.iter().position(|b| *b == id).unwrap_or_else(|| panic!("there is no broker {id}"))
}

fn controller(port: u16) -> Broker {
    let run = RunDir::create();
    let node = format!(
        "process.roles=controller
node.id={CONTROLLER}
controller.quorum.bootstrap.servers=127.0.0.1:{port}
controller.listener.names=CONTROLLER
listeners=CONTROLLER://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT
log.dirs={}
",
        run.path().join("data").display()
    );
    write(&run.path().join("server.properties"), &with_common_properties(node, &[]));
    Broker::on(run, format!("127.0.0.1:{port}"), "-Xms256m -Xmx256m".to_owned())
}

fn member(id: i32, ports: &[u16], controller_port: u16, more: &[(&str, &str)]) -> Member {
    let (run, proxied, direct) = (RunDir::create(), ports[0], ports[1]);
    let proxy = Proxy::start(&format!("127.0.0.1:{proxied}"));
    let node = format!(
        "process.roles=broker
node.id={id}
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PROXIED://127.0.0.1:{proxied},DIRECT://127.0.0.1:{direct}
advertised.listeners=PROXIED://{},DIRECT://127.0.0.1:{direct}
listener.security.protocol.map=PROXIED:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=DIRECT
log.dirs={}
",
        proxy.address(),
        run.path().join("data").display()
    );
    // Transactions must survive a lost broker. The group coordinator need not, because changelogd must not depend on
    // it.
    let usual = [
        ("default.replication.factor", "3"),
        ("min.insync.replicas", "2"),
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.min.isr", "2"),
        ("auto.create.topics.enable", "true"),
    ];
    write(&run.path().join("server.properties"), &with_common_properties(node, &[&usual[..], more].concat()));
    let broker = Broker::on(run, format!("127.0.0.1:{direct}"), "-Xms512m -Xmx512m".to_owned());
    Member { broker, proxy, paused: false }
}

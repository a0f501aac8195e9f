//! V3: the time from a write to its event at a watcher: changelogd on Kafka, changelogd with its embedded store, etcd,
//! and NATS KV.
//!
//! A system is judged next to the peer whose answer promises as much: that the write is on the disk, or that it is in
//! the page cache. The other two rows inform only.
//!
//! One program in Go, `tools/bench/watchlag`, calls all of them, so that the client's language is the same. In a turn
//! it runs once for one system. It writes one value after another, and watches over another connection.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use tokio::{process::Command, time::timeout};

use super::{
    bench::{Bench, settle},
    data::entities,
    peers::{Peer, program, version},
    report::{Row, Verdict, cells_of},
    stats::{Pairs, Samples},
};

const PARTITIONS: i32 = 10;
/// Writes of a turn before those that are measured.
const WARM_UP: usize = 20;
/// Longer than the program's own limits.
const TURN_WITHIN: Duration = Duration::from_secs(180);

/// The places in the arrays of systems, in the order of the turns.
const KAFKA: usize = 0;
const ETCD: usize = 1;
const EMBEDDED: usize = 2;
const NATS: usize = 3;
const NAMES: [&str; 4] = ["changelogd on Kafka", "etcd", "changelogd embedded", "NATS KV"];
/// What an answered write has passed.
const DURABLE: [&str; 4] = [
    "acks=all of one broker, in the page cache",
    "fsync of each commit",
    "fsync of each batch",
    "in the page cache, fsync every 2 min",
];
/// Ours, a reference, and whether their answers promise as much.
const COMPARED: [(usize, usize, bool); 4] =
    [(KAFKA, NATS, true), (EMBEDDED, ETCD, true), (KAFKA, ETCD, false), (EMBEDDED, NATS, false)];

/// What the program prints.
#[derive(serde::Deserialize)]
struct Turn {
    before_answer: usize,
    from_call: Times,
    from_answer: Times,
}

#[derive(serde::Deserialize)]
struct Times {
    /// Milliseconds.
    all: Vec<f64>,
}

/// The measurements of one system: each write, and the medians of the rounds.
#[derive(Default)]
struct Measured {
    from_call: Samples,
    from_answer: Samples,
    call_medians: Samples,
    answer_medians: Samples,
    /// Events that came before the answer to their write.
    before_answer: usize,
}

impl Measured {
    fn push(&mut self, turn: Turn) {
        let from_call: Samples = turn.from_call.all.into_iter().collect();
        let from_answer: Samples = turn.from_answer.all.into_iter().collect();
        self.call_medians.push(from_call.median());
        self.answer_medians.push(from_answer.median());
        self.from_call.append(from_call);
        self.from_answer.append(from_answer);
        self.before_answer += turn.before_answer;
    }
}

async fn turn(system: &str, address: &str, entities: &Path) -> Result<Turn, String> {
    let (program, warm_up) = (program("watchlag"), WARM_UP.to_string());
    let run = Command::new(&program)
        .args(["-system", system, "-address", address, "-warm-up", &warm_up, "-entities"])
        .arg(entities)
        .env_clear()
        .kill_on_drop(true)
        .output();
    let output = timeout(TURN_WITHIN, run).await.map_err(|_| format!("watchlag of {system} does not end"))?;
    let output = output.map_err(|error| format!("{}: {error}; tools/build.sh bench builds it", program.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("watchlag of {system}: {error}"))
}

/// V3
pub async fn change_to_watcher(bench: &mut Bench) -> Result<(), String> {
    let each = bench.number(300, 40);
    let topic = bench.empty_topic(PARTITIONS).await?;
    let kafka = bench.sidecar(&topic, &[]).await?;
    let embedded = bench.embedded(&bench.directory().join("watched")).await?;
    let etcd = Peer::etcd(&bench.directory().join("etcd")).await?;
    let nats = Peer::nats(&bench.directory().join("nats")).await?;
    let file = bench.directory().join("watched.txt");
    let mut lines = String::new();
    for entity in entities(1, WARM_UP + each, 1, 200) {
        let _ = writeln!(lines, "{} {}", entity.key, String::from_utf8_lossy(&entity.value));
    }
    fs::write(&file, lines).map_err(|error| format!("{}: {error}", file.display()))?;
    let systems = [
        ("changelogd", kafka.address()),
        ("etcd", etcd.address()),
        ("changelogd", embedded.address()),
        ("nats", nats.address()),
    ];
    let mut measured: [Measured; 4] = Default::default();
    for round in 0..=bench.rounds {
        for ((system, address), measured) in systems.iter().zip(&mut measured) {
            let turn = turn(system, address, &file).await?;
            settle().await;
            if round > 0 {
                measured.push(turn);
            }
        }
    }
    report(bench, &measured)
}

fn report(bench: &mut Bench, measured: &[Measured; 4]) -> Result<(), String> {
    let [kafka, etcd, embedded, nats] = measured;
    let writes = kafka.from_call.len();
    let system = |place: usize| format!("{} ({})", NAMES[place], DURABLE[place]);
    let quantiles = |q: f64| {
        let shown = |place: usize| format!("{:.3} ms, {}", measured[place].from_answer.quantile(q), system(place));
        format!("{}; {}", shown(NATS), shown(ETCD))
    };
    for (name, q, most) in [("p50", 0.5, 2.0), ("p99", 0.99, 20.0)] {
        let ours = kafka.from_answer.quantile(q);
        let spread =
            if q < 0.9 { format!(", medians of rounds {}", kafka.answer_medians.spread()) } else { String::new() };
        bench.report.row(Row {
            id: "V3",
            work: format!("{}, Set and Watch: from the answer to the event, {name} of {writes}", system(KAFKA)),
            ours: format!("{ours:.3} ms{spread}"),
            reference: quantiles(q),
            // A time from the answer can be negative.
            ratio: String::new(),
            target: format!("≤ {most} ms"),
            verdict: Verdict::of(ours <= most),
        });
    }
    for (ours, reference, judged) in COMPARED {
        let [of_ours, of_reference] = [ours, reference].map(|place| measured[place].call_medians.clone());
        let pairs = Pairs { ours: of_ours, reference: of_reference };
        let (target, verdict) = if judged {
            ("≤ reference", Verdict::of(pairs.ratio().middle <= 1.0))
        } else {
            ("none, because durability differs", Verdict::Information)
        };
        bench.report.row(Row {
            id: "V3",
            work: format!(
                "{}, Set and Watch: from the call to the event, p50: the median of {} rounds",
                system(ours),
                bench.rounds
            ),
            ours: format!("{} ms", pairs.ours.spread()),
            reference: format!("{} ms, {}, Put and Watch", pairs.reference.spread(), system(reference)),
            ratio: pairs.ratio().to_string(),
            target: target.to_owned(),
            verdict,
        });
    }
    let before = measured.iter().zip(NAMES).map(|(measured, name)| {
        let percent = 100.0 * measured.before_answer as f64 / measured.from_answer.len() as f64;
        format!("{percent:.0} % ({name})")
    });
    bench.report.note(&format!(
        "V3: one program in Go writes and watches all four over two connections, with etcd's and NATS's own clients, \
         and with the generated code for changelogd. Each write waits for the answer to the one before it, and not for \
         an event. If the event comes before the answer, its time from the answer is negative. That is so of {}. \
         Durability differs, so only two pairs are judged. etcd {} fsyncs each commit before it answers, and the \
         embedded store each batch. nats-server {} writes to its file, and fsyncs it every two minutes (sync_interval, \
         the default). One Kafka broker answers acks=all without an fsync, and relies on its replicas, of which there \
         are none here.",
        before.collect::<Vec<_>>().join(", "),
        version("etcd"),
        version("nats-server")
    ));
    let names = NAMES.map(|name| [format!("{name}, from the call"), format!("{name}, from the answer")]);
    let rows = measured.iter().zip(&names).flat_map(|(measured, [from_call, from_answer])| {
        [(&**from_call, &measured.from_call), (&**from_answer, &measured.from_answer)]
    });
    bench.report.section("V3, from a write to its event, milliseconds", &cells_of(&rows.collect::<Vec<_>>()));
    let from_call = [kafka, etcd, embedded, nats].map(|measured| &measured.from_call);
    let series: Vec<_> = NAMES.into_iter().zip(from_call).collect();
    bench.report.distribution("watch-lag", "From the call of a write to its event at a watcher", &series)
}

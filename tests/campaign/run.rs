//! The run of one fault: a topic, two sidecars and twelve clients, then the fault, the recovery, the last load, the
//! checks.

use std::{
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use changelogd_testkit::{Cluster, Proxy, Random, shared_oracle, workspace_root};
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};

use super::{
    Arguments,
    check::{Verdict, check, prove},
    clients::{Actor, Stop, WORKSPACES, workspace},
    fault::{Fault, PARTITIONS, Stage, arguments, create},
    history::{History, Load, Recorder},
    report::{Report, Row},
    sidecar::{Sidecar, client},
    watchers::{self, WatchCounts},
};

const SIDECARS: usize = 2;
const CLIENTS: usize = 12;
/// Both sidecars must answer again this long after the fault was healed.
const RECOVERS_WITHIN: Duration = Duration::from_secs(45);
/// No fault may take longer.
const AT_MOST: Duration = Duration::from_secs(15 * 60);

/// Covers C42, C46, R38.
pub struct Campaign {
    pub cluster: Cluster,
    seed: u64,
    seconds: u64,
    short: bool,
    keep_all: bool,
    kept: PathBuf,
}

/// The result of one history.
struct Course {
    seen: Result<String, String>,
    history: History,
    last: Option<Load>,
    watches: Vec<watchers::Course>,
}

impl Campaign {
    pub fn start(arguments: &Arguments, seed: u64) -> Self {
        let kept = workspace_root().join(format!("target/campaign/{}", std::process::id()));
        fs::create_dir_all(&kept).expect("a directory for histories");
        prove(&kept);
        watchers::prove();
        let begun = Instant::now();
        let cluster = block_in_place(Cluster::start);
        println!("a cluster of three brokers runs after {:.1} s", begun.elapsed().as_secs_f64());
        let (seconds, short, keep_all) = (arguments.seconds, arguments.short, arguments.keep);
        Self { cluster, seed, seconds, short, keep_all, kept }
    }

    /// The directory in which logs are kept.
    pub fn keep(&self) -> PathBuf {
        fs::create_dir_all(&self.kept).expect("a directory for logs");
        self.kept.clone()
    }

    /// Runs one fault and adds its row.
    pub async fn run(&mut self, fault: &dyn Fault, report: &mut Report) {
        let begun = Instant::now();
        let keep = self.kept.join(fault.id());
        fs::create_dir_all(&keep).expect("a directory for logs");
        let saved = keep.join("history.jsonl");
        let course = match timeout(AT_MOST, self.course(fault, &keep)).await {
            Ok(course) => course,
            Err(_) => Course {
                seen: Err(format!("it did not end within {AT_MOST:?}")),
                history: History::default(),
                last: None,
                watches: Vec::new(),
            },
        };
        block_in_place(|| self.cluster.heal());

        let _ = course.history.save_refusals(&keep.join("refused.txt"));
        let verdict =
            course.history.save(&saved).map_err(|error| error.to_string()).and_then(|()| match &course.last {
                Some(last) => block_in_place(|| check(&course.history, last, &saved)),
                None => Ok(Verdict::default()),
            });
        let allowed: Vec<_> = fault.watches_may_start_again().iter().map(|(reason, _)| *reason).collect();
        let watched = course.watches.iter().flat_map(|watch| watch.violations(&course.history, &allowed));
        let counts: Vec<_> = course.watches.iter().map(|watch| watch.counts).collect();
        let watched: Vec<_> = watched.chain(WatchCounts::show_nothing(&counts)).collect();
        let (mut verdict, seen) = match verdict {
            Ok(verdict) => (verdict, course.seen),
            Err(error) => (Verdict::default(), Err(format!("the history was not checked: {error}"))),
        };
        verdict.violations += watched.len() as u64;
        verdict.detail.extend(watched);
        let row = Row {
            id: fault.id().to_owned(),
            title: fault.title().to_owned(),
            expected: fault.expected().to_owned(),
            seen,
            histories: 1,
            operations: course.history.operations(),
            violations: verdict.violations,
            undecided: verdict.undecided,
            lost: verdict.lost,
            incomplete: verdict.incomplete,
            watches: counts.into_iter().sum(),
            refused: course.history.refused.clone(),
        };
        self.say(&row, &verdict, &saved, begun.elapsed());
        if row.is_good() && !self.keep_all {
            let _ = fs::remove_dir_all(&keep);
            let _ = fs::remove_dir(&self.kept); // if it is empty
        }
        report.row(row);
    }

    fn say(&self, row: &Row, verdict: &Verdict, saved: &Path, took: Duration) {
        let seen = row.seen.as_ref().map_or_else(|wrong| format!("NOT AS EXPECTED: {wrong}"), Clone::clone);
        println!(
            "{} {} ({:.0} s): {} operations, {}, {} violations, {} lost, {} incomplete\n   {seen}",
            row.id,
            row.title,
            took.as_secs_f64(),
            row.operations,
            row.watches,
            row.violations,
            row.lost,
            row.incomplete
        );
        if !row.is_good() {
            for line in verdict.detail.iter().take(20) {
                println!("   {line}");
            }
            for (what, count) in &row.refused {
                println!("   told: {what} × {count}");
            }
            println!("   seed {}; history and logs: {}", self.seed, saved.display());
        }
    }

    async fn course(&mut self, fault: &dyn Fault, keep: &Path) -> Course {
        let recorder = Arc::new(Recorder::new());
        let (mut last, mut watches) = (None, Vec::new());
        let seen = self.staged(fault, keep, &recorder, &mut last, &mut watches).await;
        Course { seen, history: recorder.so_far(), last, watches }
    }

    async fn staged(
        &mut self,
        fault: &dyn Fault,
        keep: &Path,
        recorder: &Arc<Recorder>,
        last: &mut Option<Load>,
        watches: &mut Vec<watchers::Course>,
    ) -> Result<String, String> {
        let topic = block_in_place(|| create(&self.cluster, PARTITIONS, &fault.topic_configs()))?;
        let mut sidecars = Vec::new();
        for i in 0..SIDECARS {
            let arguments = [arguments(&self.cluster, &topic, PARTITIONS), fault.sidecar_arguments()].concat();
            sidecars.push(Sidecar::start(&keep.join(format!("sidecar-{i}.log")), arguments).await?);
        }
        for sidecar in &sidecars {
            sidecar.answers(RECOVERS_WITHIN).await?;
        }
        // A third of the clients reach their sidecar through a proxy.
        let client_proxies: Vec<_> = sidecars.iter().map(|sidecar| Proxy::start(&sidecar.api)).collect();

        let (stop, mut running, span) = (Stop::default(), JoinSet::new(), Duration::from_secs(self.seconds));
        let begun = Instant::now();
        for number in 0..CLIENTS {
            let (i, proxied) = (number % SIDECARS, number % 3 == 2);
            let client = client(if proxied { client_proxies[i].address() } else { &sidecars[i].api });
            let random = Random::new(self.seed.wrapping_add(number as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
            running.spawn(Actor::new(number, client, random, recorder.clone(), PARTITIONS as usize).run(stop.clone()));
        }

        let (ended, mut watching) = (watch::Sender::new(None), JoinSet::new());
        for number in 0..WORKSPACES {
            let to = |i: usize| client(if number % 3 == 2 { client_proxies[i].address() } else { &sidecars[i].api });
            // Half of them start at the first sidecar.
            let clients = [number % SIDECARS, (number + 1) % SIDECARS].map(to);
            let random = Random::new(self.seed.wrapping_add(number as u64) ^ 0x3a7c);
            let (recorder, ended) = (recorder.clone(), ended.subscribe());
            watching.spawn(watchers::watch(clients, workspace(number), random, recorder, ended));
        }

        sleep(span.mul_f64(0.15)).await;
        let mut stage = Stage {
            cluster: &mut self.cluster,
            sidecars: &mut sidecars,
            client_proxies: &client_proxies,
            topic: &topic,
            recorder,
            window: span.mul_f64(0.5),
            short: self.short,
            random: Random::new(self.seed ^ 0xfa17),
            keep: keep.to_owned(),
            begun: Instant::now(),
        };
        let seen = AssertUnwindSafe(fault.inject(&mut stage)).catch_unwind().await;
        let seen = seen.unwrap_or_else(|_| Err("the fault's own code panicked, see above".to_owned()));
        block_in_place(|| self.cluster.heal());
        client_proxies.iter().for_each(Proxy::pass);
        sleep(span.mul_f64(0.2).max(span.saturating_sub(begun.elapsed()))).await;

        stop.0.store(true, Ordering::Relaxed);
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| format!("a client panicked: {error}"))?;
        }
        for sidecar in &sidecars {
            sidecar.answers(RECOVERS_WITHIN).await?;
        }
        for (i, sidecar) in sidecars.iter().enumerate() {
            *last = Some(
                last_load(&mut Actor::new(
                    CLIENTS + i,
                    sidecar.client(),
                    Random::new(0),
                    recorder.clone(),
                    PARTITIONS as usize,
                ))
                .await?,
            );
        }
        ended.send_replace(last.clone().map(|load| Arc::new(watchers::End { load, history: recorder.so_far() })));
        while let Some(ended) = watching.join_next().await {
            watches.push(ended.map_err(|error| format!("a watcher panicked: {error}"))?);
        }
        let _ = block_in_place(|| shared_oracle().delete(&self.cluster.direct(), &topic));
        seen
    }
}

/// Loads everything, in both ways.
async fn last_load(actor: &mut Actor) -> Result<Load, String> {
    let wrong = |status: tonic::Status| format!("the last load: {status:?}");
    for number in 0..WORKSPACES {
        actor.load(&workspace(number)).await.map_err(wrong)?;
    }
    actor.stream("last stream", v1::Content::Latest, false).await.map_err(wrong)
}

//! F6: a bad network between sidecars and brokers, and between some clients and the sidecars.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd_testkit::{Mode, Proxy};
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::{
    fault::{Fault, Stage, WRITE_TIMEOUT},
    sidecar::{Sidecar, said},
};

use super::calls::{Tally, not_acknowledged, timed_load, timed_set};

/// Covers F6.
struct Network {
    id: &'static str,
    title: &'static str,
    mode: Mode,
    /// Whether any bytes pass at all.
    passes: bool,
}

pub fn all() -> Vec<Box<dyn Fault>> {
    let fault = |id, title, mode, passes| Box::new(Network { id, title, mode, passes }) as Box<dyn Fault>;
    let ms = Duration::from_millis;
    vec![
        fault("F6-cut", "network: every connection cut, new ones too", Mode::Cut, false),
        fault("F6-delay", "network: everything 500 ms late, each way", Mode::Delay(ms(500)), true),
        fault("F6-drip", "network: 64 bytes every 2 ms", Mode::Drip(64, ms(2)), true),
        fault("F6-half-open", "network: half-open, bytes are swallowed", Mode::HalfOpen, false),
        fault("F6-loss", "network: each connection cut after 20 kB on average", Mode::RandomCuts(20_000), true),
    ]
}

/// Threads and open files. It looks many times, because replays begin and end.
async fn looks(sidecar: &Sidecar, choose: fn(usize, usize) -> usize) -> (usize, usize) {
    let mut chosen = sidecar.threads_and_files();
    for _ in 0..20 {
        let (threads, files) = sidecar.threads_and_files();
        chosen = (choose(chosen.0, threads), choose(chosen.1, files));
        sleep(Duration::from_millis(50)).await;
    }
    chosen
}

#[async_trait]
impl Fault for Network {
    fn id(&self) -> &'static str {
        self.id
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn expected(&self) -> &'static str {
        if self.passes {
            "slow, and complete: writes and loads succeed; no thread or file is leaked"
        } else {
            "writes and loads are answered by their deadlines, as in F1 and F4; no thread or file is leaked"
        }
    }

    fn watches_may_start_again(&self) -> &'static [(&'static str, &'static str)] {
        match self.mode {
            Mode::Delay(_) => &[("LOG_MOVED", "each round of a read takes seconds, and writes go on in each")],
            _ => &[],
        }
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let most = join_all(stage.sidecars.iter().map(|s| looks(s, usize::max))).await;
        stage.cluster.proxies().chain(stage.client_proxies).for_each(|proxy| proxy.set(self.mode));
        let until = Instant::now() + stage.window;
        // If a round trip takes a second, a load takes about ten of them.
        let load_seconds = if self.passes { 45 } else { 15 };
        let (mut writes, mut loads, mut round) = (Tally::default(), Tally::default(), 0);
        let (mut slowest_write, mut slowest_load) = (Duration::ZERO, Duration::ZERO);
        while round < 1 || Instant::now() < until {
            let sets = stage.sidecars.iter().map(|s| timed_set(s.client(), format!("probe-{round}/t/e"), "1"));
            let reads = stage.sidecars.iter().map(|s| timed_load(s.client(), format!("probe-{round}"), load_seconds));
            let (sets, reads) = tokio::join!(join_all(sets), join_all(reads));
            for (answer, took) in sets {
                slowest_write = slowest_write.max(took);
                match answer {
                    Ok(_) => writes.add("OK"),
                    Err(status) => {
                        not_acknowledged(&status)?;
                        writes.add(&said(&status));
                    }
                }
            }
            for (answer, took) in reads {
                slowest_load = slowest_load.max(took);
                loads.add(&answer.map_or_else(|status| said(&status), |_| "OK".to_owned()));
            }
            round += 1;
        }
        if !self.passes && writes.count("OK") + loads.count("OK") > 0 {
            return Err(format!("nothing passed, and yet: writes {writes}; loads {loads}"));
        }
        if self.passes && (writes.count("OK") == 0 || loads.count("OK") == 0) {
            return Err(format!("it is slow, and nothing else, and yet: writes {writes}; loads {loads}"));
        }
        if slowest_write > Duration::from_secs(WRITE_TIMEOUT + 2)
            || slowest_load > Duration::from_secs(load_seconds + 1)
        {
            return Err(format!("a write was answered after {slowest_write:?}, a load after {slowest_load:?}"));
        }
        stage.cluster.proxies().chain(stage.client_proxies).for_each(Proxy::pass);
        let healed = Instant::now();
        for (sidecar, most) in stage.sidecars.iter().zip(most) {
            sidecar.answers(Duration::from_secs(45)).await?;
            loop {
                let (threads, files) = looks(sidecar, usize::min).await;
                if threads <= most.0 + 5 && files <= most.1 + 10 {
                    break;
                }
                if healed.elapsed() > Duration::from_secs(60) {
                    return Err(format!(
                        "a minute after: {threads} threads and {files} files, at most {most:?} before"
                    ));
                }
            }
        }
        Ok(format!(
            "writes: {writes}, the slowest after {:.1} s; loads: {loads}, the slowest after {:.1} s; threads and files \
             as before {:.0} s after",
            slowest_write.as_secs_f64(),
            slowest_load.as_secs_f64(),
            healed.elapsed().as_secs_f64()
        ))
    }
}

//! In the namespaces: starts the cluster, runs the cases, stops the cluster.

use std::{io::Read, panic::AssertUnwindSafe, process::ExitCode, thread, time::Instant};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{
    arguments::{Arguments, is_wanted},
    cases,
    cluster::Cluster,
    report::Report,
    stage::Stage,
};

/// The number of this process is another one outside.
const ENTER: &str = "nsenter --all --target $(pgrep --full -- 'changelogd-cluster --inside' | tail -1)";

pub async fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let mut cluster = Cluster::default();
    let ended = tokio::select! {
        ended = AssertUnwindSafe(work(arguments, &mut cluster)).catch_unwind() => {
            ended.unwrap_or_else(|_| Err("the program panicked, see above".to_owned()))
        }
        () = abandoned() => Err("stopped".to_owned()),
    };
    let began = Instant::now();
    let problems = cluster.stop().await;
    println!("the cluster has stopped after {:.1} s", began.elapsed().as_secs_f64());
    for problem in &problems {
        eprintln!("{problem}");
    }
    let is_good = ended?;
    Ok(if is_good && problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all cases passed.
async fn work(arguments: &Arguments, cluster: &mut Cluster) -> Result<bool, String> {
    let began = Instant::now();
    cluster.start().await?;
    let started = began.elapsed();
    println!("a cluster of one node runs after {:.1} s", started.as_secs_f64());
    let stage = Stage::new(arguments.rolls);
    let mut report = Report::begin(started);
    for case in cases::all().iter().filter(|case| is_wanted(&arguments.only, case.name)) {
        let row = case.row(&stage).await;
        println!("{}", row.line());
        report.rows.push(row);
    }
    let names: Vec<_> = report.rows.iter().map(|row| row.name).collect();
    let cleaned = stage.end(&names).await;
    report.took = began.elapsed();
    if let Some(path) = &arguments.report {
        report.save(path, &arguments.command)?;
    }
    println!("\n{}", report.verdict());
    cleaned?;
    if arguments.stay {
        println!("the cluster runs until ^C; enter it with {ENTER}");
        std::future::pending::<()>().await;
    }
    Ok(report.is_good())
}

/// Waits until the process outside has ended or closes the input of this one.
async fn abandoned() {
    let (sender, closed) = oneshot::channel();
    // A thread of its own: one of the runtime's would keep this process from ending.
    thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        let _ = sender.send(());
    });
    let _ = closed.await;
}

//! The chart and the image in a real Kubernetes on this machine: `make cluster`.
//!
//! It starts etcd, containerd and the programs of Kubernetes, installs the chart in many ways, and writes a table of
//! the cases. The exit status is 1 if a case failed.
//!
//! Everything runs in namespaces of its own (mounts, network, processes), which end with this program, however that
//! ends. So no process, mount or network interface stays. Files are below `target/cluster/`.

mod arguments;
mod case;
mod cases;
mod cluster;
mod command;
mod image;
mod inside;
mod kafka;
mod kubectl;
mod node;
mod outside;
mod process;
mod programs;
mod report;
mod results;
mod stage;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if arguments.inside { inside::run(&arguments).await } else { outside::run(&arguments).await };
    ended.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

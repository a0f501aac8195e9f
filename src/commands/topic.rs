//! `changelogd topic`.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stdout},
    process::ExitCode,
    time::Duration,
};

use changelog_core::model::{Printable, PrintableJson};
use changelog_kafka::{
    Settings,
    admin::{self, AdminError, TopicSpec},
};

use super::start::{print, refuse, runtime};
use crate::{
    config::{EXIT_UNAVAILABLE, KafkaArgs, UsageError, parse_duration, whole_number},
    store::kafka_settings,
    telemetry::{LogFormat, exit_message},
};

/// What to do with the topic. The help of each is the documentation of its arguments.
#[derive(Debug, clap::Subcommand)]
pub enum TopicCommand {
    Ensure(EnsureArgs),
    Describe(DescribeArgs),
}

/// Creates the topic with the documented configuration if it is missing
///
/// An existing topic is not changed without --alter. The documented configuration is cleanup.policy=compact,
/// compression.type=snappy, min.compaction.lag.ms=60000, and with three replicas min.insync.replicas=2.
#[derive(Debug, clap::Args)]
#[command(mut_arg("brokers", brokers_help), mut_arg("group_id", group_id_help))]
#[command(mut_arg("partitions", ensure_partitions_help))]
pub struct EnsureArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Copies of each partition; an error with fewer brokers. By default 3, or the broker count where that is smaller
    #[arg(long, value_name = "COUNT", value_parser = whole_number::<u8>(1, 32))]
    pub replication_factor: Option<u8>,
    /// segment.ms: how often a segment is closed, which is when compaction can begin with it (Kafka's default 7 days)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub segment: Option<Duration>,
    /// delete.retention.ms: how long tombstones stay (Kafka's default 24 hours)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub delete_retention: Option<Duration>,
    /// A value of the topic's configuration, by Kafka's name; wins over the documented ones. Can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_config)]
    pub config: Vec<(String, String)>,
    /// Leave a documented value to the brokers, for example because their policy rejects it. Can be repeated
    #[arg(long, value_name = "NAME", value_parser = parse_documented)]
    pub without: Vec<String>,
    /// Change an existing topic's configuration to what is wanted; never its partition count
    #[arg(long)]
    pub alter: bool,
}

/// Shows partitions, offsets and configuration
///
/// It talks to the brokers, not to a sidecar.
#[derive(Debug, clap::Args)]
#[command(mut_arg("brokers", brokers_help), mut_arg("group_id", group_id_help))]
#[command(mut_arg("partitions", describe_partitions_help))]
pub struct DescribeArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

// The texts of `KafkaArgs` are about `serve`, which has stores. These commands have none, so they replace the texts.
fn brokers_help(arg: clap::Arg) -> clap::Arg {
    let short = "The Kafka brokers to contact first: host:port, separated by commas";
    arg.help(short).long_help(format!("{short}.\n\nBy default localhost:9092. Also KAFKA_BROKERS."))
}

fn group_id_help(arg: clap::Arg) -> clap::Arg {
    let short = "Accepted as in `serve`, and not used: this command has no consumer";
    arg.help(short).long_help(format!("{short}.\n\nAlso KAFKA_CHANGELOG_GROUP_ID."))
}

fn ensure_partitions_help(arg: clap::Arg) -> clap::Arg {
    let short = "The partition count of the topic, from 1 to 100000";
    let long = format!("{short}.\n\nA topic that exists with another count is an error. By default 10.");
    arg.help(short).long_help(long).help_heading("Kafka")
}

fn describe_partitions_help(arg: clap::Arg) -> clap::Arg {
    let short = "Accepted as in `topic ensure`, and not used: the topic is described with any count";
    arg.help(short).long_help(format!("{short}.")).help_heading("Kafka")
}

pub fn run(command: TopicCommand) -> ExitCode {
    let kafka = match &command {
        TopicCommand::Ensure(args) => &args.kafka,
        TopicCommand::Describe(args) => &args.kafka,
    };
    let settings = match kafka_settings(kafka) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = settings.check() {
        return refuse(&UsageError(error.to_string()));
    }
    let configs = match &command {
        TopicCommand::Ensure(args) => configs(args),
        TopicCommand::Describe(_) => Ok(BTreeMap::new()),
    };
    let configs = match configs {
        Ok(configs) => configs,
        Err(error) => return refuse(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let result = match command {
        TopicCommand::Ensure(args) => runtime.block_on(ensure(&settings, &args, configs)),
        TopicCommand::Describe(_) => runtime.block_on(describe(&settings)),
    };
    runtime.shutdown_background();
    match result {
        Ok(text) => print(&text.lines().fold(String::new(), |all, line| format!("{all}{}\n", Printable(line)))),
        Err(error) => {
            exit_message(LogFormat::Text, &format!("topic: {error}"));
            match error {
                AdminError::Unreachable(_) => ExitCode::from(EXIT_UNAVAILABLE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    PrintableJson(&serde_json::to_string(value).unwrap_or_default()).to_string()
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    // Kafka's names, as in org.apache.kafka.common.config.TopicConfig.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_'))
    {
        return Err("must be NAME=VALUE, with a name of Kafka such as min.insync.replicas".to_owned());
    }
    if name == "cleanup.policy" && value != "compact" {
        return Err("must be compact: with another policy, live keys are removed by age".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_documented(text: &str) -> Result<String, String> {
    let names = admin::DOCUMENTED.map(|(name, _)| name);
    if names.contains(&text) { Ok(text.to_owned()) } else { Err(format!("must be one of {}", names.join(", "))) }
}

/// Refuses a value that is given twice.
fn configs(args: &EnsureArgs) -> Result<BTreeMap<String, String>, UsageError> {
    let millis = |name: &str, flag: &str, value: Option<Duration>| {
        value.map(|v| (name.to_owned(), v.as_millis().to_string(), flag.to_owned()))
    };
    let of_flags = [
        millis("segment.ms", "--segment", args.segment),
        millis("delete.retention.ms", "--delete-retention", args.delete_retention),
    ];
    let given = args.config.iter().map(|(name, value)| (name.clone(), value.clone(), format!("--config {name}")));
    let mut configs = BTreeMap::new();
    for (name, value, flag) in of_flags.into_iter().flatten().chain(given) {
        if args.without.contains(&name) {
            return Err(UsageError(format!("{flag}: it is also left out by --without {name}")));
        }
        if configs.insert(name.clone(), value).is_some() {
            return Err(UsageError(format!("{flag}: {name} is given twice")));
        }
    }
    Ok(configs)
}

async fn ensure(
    settings: &Settings,
    args: &EnsureArgs,
    configs: BTreeMap<String, String>,
) -> Result<String, AdminError> {
    let spec = TopicSpec {
        replication_factor: args.replication_factor.map(i32::from),
        configs,
        without: args.without.iter().cloned().collect(),
        alter: args.alter,
        ..TopicSpec::new(args.kafka.partitions)
    };
    let report = admin::ensure(settings, &spec).await?;
    if !stdout().is_terminal() {
        return Ok(json(&report));
    }
    let what = match (report.created, report.altered) {
        (true, _) => "created",
        (false, true) => "was there; its configuration was changed",
        (false, false) => "is there",
    };
    let mut text = format!("topic {} {what}, {} partitions", report.topic, report.partitions);
    for note in report.notes {
        text = format!("{text}\n  {note}");
    }
    Ok(text)
}

async fn describe(settings: &Settings) -> Result<String, AdminError> {
    let report = admin::describe(settings).await?;
    if !stdout().is_terminal() {
        return Ok(json(&report));
    }
    let mut text = format!("topic {} (id {}), {} partitions", report.topic, report.id, report.partitions.len());
    let shown = |offset: Option<i64>| offset.map_or("?".to_owned(), |o| o.to_string());
    let head = ["partition", "leader", "low", "last stable", "high"];
    text += &format!(
        "\n{:>9}  {:>6}  {:>12}  {:>12}  {:>12}  replicas, in sync",
        head[0], head[1], head[2], head[3], head[4]
    );
    for p in &report.partitions {
        let (low, stable, high) = (shown(p.low_offset), shown(p.last_stable_offset), shown(p.high_offset));
        let (partition, leader) = (p.partition, p.leader);
        text += &format!(
            "\n{partition:>9}  {leader:>6}  {low:>12}  {stable:>12}  {high:>12}  {:?}, {:?}",
            p.replicas, p.isr
        );
    }
    for (name, value) in &report.configs {
        text += &format!("\n  {name}={value}");
    }
    Ok(text)
}

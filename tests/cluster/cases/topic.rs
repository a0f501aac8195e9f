//! The topic of a release.

use changelogd_testkit::binary_under_test;
use tokio::process::Command;

use super::{
    super::{
        command::output,
        kafka,
        kubectl::objects,
        report::Seen,
        stage::{Stage, standalone},
    },
    install::works,
};

pub async fn hook_job(stage: &Stage) -> Seen {
    const CASE: &str = "topic";
    let kafka = stage.kafka().await?;
    let topic = kafka::topic();
    let mut values = kafka::values("", &kafka.address, &topic);
    values.extend(["topic.create=false", "topic.job.enabled=true"].map(str::to_owned));
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    let took = standalone(CASE).install(&values).await?;
    works(CASE, "deployment/changelogd").await?;
    // A second run of the Job finds the topic.
    standalone(CASE).install(&values).await?;
    let jobs = objects(CASE, &["jobs,serviceaccounts"]).await?;
    let left = jobs["items"].as_array().map_or(0, |all| all.iter().filter(|one| one["kind"] == "Job").count());
    if left != 0 {
        return Err(format!("the hook has left {left} Jobs"));
    }
    standalone(CASE).uninstall().await?;
    let mut describe = Command::new(binary_under_test("make cluster")?);
    describe.args(["topic", "describe", "--brokers", &kafka.bootstrap().await, "--topic", &topic]).env_clear();
    let described = output(describe).await?;
    if !described.contains(&topic) || !described.contains("compact") {
        return Err(format!("the topic is not there as it should be: {described}"));
    }
    Ok(format!("ready after {:.1} s; the topic is there after `helm uninstall`, log-compacted", took.as_secs_f64()))
}

//! The examples of `tests/chart` and `examples/kubernetes`, as they are, apart from the images and addresses of this
//! cluster.

use std::time::{Duration, Instant};

use changelogd_testkit::{binary_under_test, workspace_root};
use serde_json::Value;
use tokio::process::Command;

use super::{
    super::{
        cluster::{OF_THE_CLASSIC_EXAMPLE, OF_THE_EXAMPLE_CHART},
        command::output,
        image::CHANGELOGD,
        kafka,
        kubectl::{self, apply_text, kubectl, with_input},
        report::Seen,
        stage::{READY_WITHIN, Release, Stage, ask, dependent, exec, no_restart, until},
    },
    install::works,
    sidecar::{ONCE, PREFIX, on_kafka},
};

const EXAMPLES: &str = "examples/kubernetes";
/// What stands for the brokers and the topic of a user.
const BROKERS: &str = "kafka-0.kafka:9092,kafka-1.kafka:9092";
const TOPIC: &str = "orders-changelog";

/// Their images have names of their own, which stand for the application of the cases in this cluster.
pub async fn charts(stage: &Stage) -> Seen {
    const CASE: &str = "examples";
    let mut seen = Vec::new();
    for (folder, mode) in [("tests/chart/consumer", "native"), ("tests/chart/pieces", "classic")] {
        let mut values = on_kafka(stage).await?;
        values.push(format!("changelogd.sidecar.type={mode}"));
        let took = runs(CASE, "shop", folder, &values).await?;
        seen.push(format!("`{folder}`, {mode}: ready after {:.1} s", took.as_secs_f64()));
    }
    // With its Job that creates the topic. This cluster has one broker.
    let folder = format!("{EXAMPLES}/chart");
    let values = [
        format!("image={OF_THE_EXAMPLE_CHART}"),
        format!("changelogd.kafka.brokers={{{}}}", stage.kafka().await?.address),
        format!("changelogd.topic.name={}", kafka::topic()),
        "changelogd.topic.replicationFactor=1".to_owned(),
    ];
    let took = runs(CASE, "example", &folder, &values).await?;
    seen.push(format!("`{folder}` with its Job: ready after {:.1} s", took.as_secs_f64()));
    // Its container waits with a shell and `changelogd wait`, and then becomes the application.
    let folder = format!("{EXAMPLES}/classic");
    let mut values = on_kafka(stage).await?;
    values.push(format!("image={OF_THE_CLASSIC_EXAMPLE}"));
    let release = Release { namespace: CASE, name: "classic", chart: dependent(&folder).await?, prefixes: &[PREFIX] };
    release.install(&values.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let logs = ["--namespace", CASE, "logs", "deployment/classic-orders", "--container=orders"];
    let has_waited = async || kubectl(&logs).await.is_ok_and(|log| log.contains("SERVING"));
    let took = until(READY_WITHIN, "`changelogd wait` has ended", has_waited).await?;
    exec(CASE, "deployment/classic-orders", "orders", &["/usr/local/bin/orders", "once"]).await?;
    no_restart(CASE).await?;
    seen.push(format!("`{folder}`: `changelogd wait` ended within {:.1} s", took.as_secs_f64()));
    Ok(seen.join("; "))
}

/// Installs a chart, writes and loads as its application, and removes it.
async fn runs(case: &str, name: &str, folder: &str, values: &[String]) -> Result<Duration, String> {
    let release = Release { namespace: case, name, chart: dependent(folder).await?, prefixes: &[PREFIX] };
    let took = release.install(&values.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    exec(case, &format!("deployment/{name}-orders"), "orders", &ONCE).await?;
    no_restart(case).await?;
    release.uninstall().await?;
    Ok(took)
}

pub async fn manifests(stage: &Stage) -> Seen {
    const CASE: &str = "manifests";
    let job = job(CASE, stage).await?;
    let overlay = overlay(CASE, stage).await?;
    Ok(format!("{job}; {overlay}"))
}

async fn job(case: &str, stage: &Stage) -> Result<String, String> {
    let topic = topic(stage, 12).await?;
    let began = Instant::now();
    apply_text(case, &adapted(&built("job").await?, stage, &topic).await?).await?;
    let complete = ["wait", "--for=condition=complete", "job/import-orders", "--timeout=120s"];
    kubectl(&[["--namespace", case].as_slice(), &complete].concat()).await?;
    Ok(format!("`{EXAMPLES}/job`: complete after {:.1} s", began.elapsed().as_secs_f64()))
}

async fn overlay(case: &str, stage: &Stage) -> Result<String, String> {
    const DEPLOYMENT: &str = "deployment/changelogd";
    let topic = topic(stage, 24).await?;
    let objects = adapted(&built("kustomize").await?, stage, &topic).await?;
    let began = Instant::now();
    apply_text(case, &objects.replace("namespace: orders", &format!("namespace: {case}"))).await?;
    let status = ["rollout", "status", DEPLOYMENT, "--timeout=120s"];
    kubectl(&[["--namespace", case].as_slice(), &status].concat()).await?;
    let took = began.elapsed();
    works(case, DEPLOYMENT).await?;
    let service = kubectl::objects(case, &["service", "changelogd"]).await?;
    let address = service["spec"]["clusterIP"].as_str().ok_or("the Service has no address")?;
    let image = format!("--image={CHANGELOGD}:{}", env!("CARGO_PKG_VERSION"));
    let reader = ["--namespace", case, "run", "reader", &image, "--image-pull-policy=Never", "--restart=Never", "--"];
    let read = ["--addr", &format!("{address}:50051"), "get", "ws/number/e0", "--raw"];
    kubectl(&[reader.as_slice(), &read].concat()).await?;
    let has_ended = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "--timeout=60s"];
    kubectl(&[["--namespace", case].as_slice(), &has_ended].concat()).await?;
    let value = kubectl(&["--namespace", case, "logs", "reader"]).await?;
    if value.trim() != "17" {
        return Err(format!("17 was written, and {value:?} read through the Service"));
    }
    Ok(format!("`{EXAMPLES}/kustomize`: three pods ready after {:.1} s", took.as_secs_f64()))
}

/// What kustomize builds of an example.
async fn built(example: &str) -> Result<String, String> {
    let mut kustomize = Command::new(workspace_root().join("target/tools/bin/kustomize"));
    kustomize.arg("build").arg(workspace_root().join(EXAMPLES).join(example));
    output(kustomize).await
}

/// The objects with the image of this test, and with the address of its Kafka.
async fn adapted(objects: &str, stage: &Stage, topic: &str) -> Result<String, String> {
    let image = format!("image: {CHANGELOGD}:{}", env!("CARGO_PKG_VERSION"));
    let mut adapted = objects.replace(BROKERS, &stage.kafka().await?.address).replace(TOPIC, topic);
    for registry in ["registry.example", "registry.internal.example/platform"] {
        adapted = adapted.replace(&format!("image: {registry}/changelogd:{}", env!("CARGO_PKG_VERSION")), &image);
    }
    if adapted.contains("registry.") || !adapted.contains(topic) {
        return Err(format!("not everything was replaced: {adapted}"));
    }
    Ok(adapted)
}

/// A topic of its own.
async fn topic(stage: &Stage, partitions: u32) -> Result<String, String> {
    let (topic, partitions) = (kafka::topic(), partitions.to_string());
    let mut ensure = Command::new(binary_under_test("make cluster")?);
    let bootstrap = stage.kafka().await?.bootstrap().await;
    ensure.args(["topic", "ensure", "--brokers", &bootstrap, "--topic", &topic, "--partitions", &partitions]);
    ensure.arg("--replication-factor=1").env_clear();
    output(ensure).await?;
    Ok(topic)
}

/// Kubernetes 1.34 has the policy as v1beta1. Its README says how to change it.
pub async fn policy(stage: &Stage) -> Seen {
    const CASE: &str = "policy";
    let read = |name: &str| {
        let path = workspace_root().join(EXAMPLES).join("admission-policy").join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let topic = topic(stage, 12).await?;
    let image = format!("{CHANGELOGD}:{}", env!("CARGO_PKG_VERSION"));
    let policy = read("policy.yaml")?
        .replace("admissionregistration.k8s.io/v1\n", "admissionregistration.k8s.io/v1beta1\n")
        .replace(&format!("registry.example/changelogd:{}", env!("CARGO_PKG_VERSION")), &image)
        .replace("\"kafka:9092\"", &format!("\"{}\"", stage.kafka().await?.address))
        .replace("\"workspace-changelog\"", &format!("\"{topic}\""));
    if !policy.contains(&image) || !policy.contains(&topic) {
        return Err(format!("not everything was replaced: {policy}"));
    }
    apply_text(CASE, &policy).await?;
    let seen = labelled_pod(CASE, &read("pod.yaml")?).await;
    // It is of the whole cluster, and the next case must not have it.
    for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
        kubectl(&["delete", kind, "changelogd-sidecar"]).await?;
    }
    seen
}

async fn labelled_pod(case: &str, pod: &str) -> Seen {
    // The API server takes over a new policy within some seconds.
    let is_changed = async || {
        let made = ["--namespace", case, "create", "--dry-run=server", "--output=json", "--filename", "-"];
        let made = with_input(&made, pod).await.unwrap_or_default();
        containers(&serde_json::from_str(&made).unwrap_or_default()) == ["changelogd", "migrate"]
    };
    let took = until(READY_WITHIN, "the policy adds a sidecar", is_changed).await?;
    apply_text(case, pod).await?;
    let ready = ["wait", "--for=condition=ready", "pod/orders", "--timeout=90s"];
    kubectl(&[["--namespace", case].as_slice(), &ready].concat()).await?;
    let made = kubectl::objects(case, &["pod", "orders"]).await?;
    if containers(&made) != ["changelogd", "migrate"] {
        return Err(format!("the pod has other init containers: {}", made["spec"]));
    }
    exec(case, "pod/orders", "orders", &ONCE).await?;
    ask(case, "pod/orders", &["describe"]).await?;
    no_restart(case).await?;
    let took = took.as_secs_f64();
    Ok(format!("it holds after {took:.1} s; the pod has the sidecar before its init container, and writes"))
}

/// The names of the init containers.
fn containers(pod: &Value) -> Vec<String> {
    let all = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    all.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
}

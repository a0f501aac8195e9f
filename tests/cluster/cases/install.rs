//! Installations of the chart itself, in standalone mode.

use super::super::{
    kafka,
    kubectl::{helm_with_logs, kubectl, objects},
    report::Seen,
    stage::{Stage, ask, no_restart, standalone},
};

/// Values for a Service that every client reaches.
const SERVED: [&str; 2] = ["api.insecureListen=true", "service.enabled=true"];

pub async fn defaults(_: &Stage) -> Seen {
    let took = standalone("install").install(&[]).await?;
    works("install", "deployment/changelogd").await?;
    Ok(format!("ready after {:.1} s; a value was written and read with `kubectl exec`", took.as_secs_f64()))
}

pub async fn restricted(_: &Stage) -> Seen {
    const CASE: &str = "restricted";
    kubectl(&["label", "namespace", CASE, "pod-security.kubernetes.io/enforce=restricted"]).await?;
    // The namespace does enforce it.
    let pod = ["--namespace", CASE, "run", "refused", "--image=cluster.test/application:1"];
    match kubectl(&pod).await {
        Err(error) if error.contains("violates PodSecurity") => {}
        other => return Err(format!("a pod without a security context was not refused: {other:?}")),
    }
    let took = standalone(CASE).install(&SERVED).await?;
    works(CASE, "deployment/changelogd").await?;
    Ok(format!("ready after {:.1} s", took.as_secs_f64()))
}

/// With a topic that the server may use, and with two that it may not.
pub async fn helm_test(stage: &Stage) -> Seen {
    const CASE: &str = "helm-test";
    let address = install_with_alias(CASE, &[]).await?;
    succeeds(CASE).await?;
    standalone(CASE).uninstall().await?;
    let topic = kafka::topic();
    let mut values = kafka::values("", &stage.kafka().await?.address, &topic);
    // Otherwise the Service would not lead to a server that was never ready.
    values.push("probes.readiness=never".to_owned());
    install_with_alias(CASE, &values).await?;
    succeeds(CASE).await?;
    let mut seen = format!("succeeded, through the Service's address {address}");
    for (value, reason) in [
        ("topic.partitions=5".to_owned(), "PARTITION_COUNT_CHANGED"),
        (format!("topic.name={topic}-missing"), "TOPIC_NOT_FOUND"),
    ] {
        let values = [values.as_slice(), &["topic.create=false".to_owned(), value]].concat();
        install_with_alias(CASE, &values).await?;
        fails(CASE, reason).await?;
        seen += &format!("; failed with {reason}");
    }
    Ok(seen)
}

/// This cluster has no DNS, so the pods of the test get the address of the Service as a host alias. Returns it.
async fn install_with_alias(case: &str, values: &[String]) -> Result<String, String> {
    let release = standalone(case);
    let install = async |more: &[String]| {
        let values = SERVED.into_iter().chain(values.iter().chain(more).map(String::as_str)).collect::<Vec<_>>();
        release.install(&values).await
    };
    install(&[]).await?;
    let service = objects(case, &["service", "changelogd"]).await?;
    let address = service["spec"]["clusterIP"].as_str().ok_or("the Service has no address")?;
    install(&[format!("pod.hostAliases[0].ip={address}"), "pod.hostAliases[0].hostnames[0]=changelogd".to_owned()])
        .await?;
    Ok(address.to_owned())
}

async fn tested(case: &str) -> Result<String, String> {
    helm_with_logs(&["test", "changelogd", "--namespace", case, "--timeout=90s"]).await
}

/// Helm prints the logs of both pods. The second says what the server serves.
async fn succeeds(case: &str) -> Result<(), String> {
    let tested = tested(case).await?;
    let is_right = ["Succeeded", "SERVING", "partitions"].iter().all(|part| tested.contains(part));
    if is_right { Ok(()) } else { Err(format!("helm test printed: {tested}")) }
}

/// Helm prints the log of the pod that failed. The pod stays.
async fn fails(case: &str, reason: &str) -> Result<(), String> {
    match tested(case).await {
        Err(error) if error.contains("changelogd-wait") && error.contains(reason) => {}
        other => {
            return Err(format!("helm test did not fail with {reason}, although the server is not ready: {other:?}"));
        }
    }
    let log = kubectl(&["--namespace", case, "logs", "pod/changelogd-wait"]).await?;
    if log.contains(reason) { Ok(()) } else { Err(format!("the log does not say {reason}: {log}")) }
}

pub async fn arbitrary_user(_: &Stage) -> Seen {
    const CASE: &str = "arbitrary-user";
    // The user, the group and the fsGroup are those of a namespace of OpenShift.
    let values = [
        "securityContext.runAsUser=1000700000",
        "securityContext.runAsGroup=0",
        "pod.securityContext.runAsUser=1000700000",
        "pod.securityContext.runAsGroup=0",
        "pod.securityContext.fsGroup=1000700000",
    ];
    let took = standalone(CASE).install(&values).await?;
    works(CASE, "deployment/changelogd").await?;
    Ok(format!("user 1000700000: ready after {:.1} s", took.as_secs_f64()))
}

/// Writes a value and reads it. No container was started again.
pub async fn works(case: &str, object: &str) -> Result<(), String> {
    ask(case, object, &["set", "ws/number/e0", "17"]).await?;
    has_value(case, object).await?;
    no_restart(case).await
}

/// The value of [`works`] is there.
pub async fn has_value(case: &str, object: &str) -> Result<(), String> {
    let value = ask(case, object, &["get", "ws/number/e0", "--raw"]).await?;
    if value.trim() == "17" { Ok(()) } else { Err(format!("17 was written, and {value:?} read")) }
}

//! Installations of the chart itself, in standalone mode.

use super::super::{
    kubectl::{helm, kubectl, objects},
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

/// This cluster has no DNS, so the test's pod gets the address of the Service as a host alias.
pub async fn helm_test(_: &Stage) -> Seen {
    const CASE: &str = "helm-test";
    let release = standalone(CASE);
    release.install(&SERVED).await?;
    let service = objects(CASE, &["service", "changelogd"]).await?;
    let address = service["spec"]["clusterIP"].as_str().ok_or("the Service has no address")?;
    let alias = [format!("pod.hostAliases[0].ip={address}"), "pod.hostAliases[0].hostnames[0]=changelogd".to_owned()];
    release.install(&[SERVED[0], SERVED[1], &alias[0], &alias[1]]).await?;
    let tested = helm(&["test", "changelogd", "--namespace", CASE, "--timeout=60s"]).await?;
    if !tested.contains("Succeeded") {
        return Err(format!("helm test printed: {tested}"));
    }
    Ok(format!("succeeded, through the Service's address {address}"))
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

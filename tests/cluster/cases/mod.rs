//! The cases, in the order of the report. A case's name is also its namespace.

mod claim;
mod examples;
mod faults;
mod install;
mod limits;
mod metrics;
mod mute;
mod resize;
mod roll;
mod sidecar;
mod topic;

use super::case::Case;

macro_rules! case {
    ($name:literal, $title:literal, $run:path) => {
        Case { name: $name, title: $title, run: |stage| Box::pin($run(stage)) }
    };
}

pub fn all() -> Vec<Case> {
    vec![
        case!("install", "`helm install` with defaults", install::defaults),
        case!("restricted", "in a namespace that enforces the restricted pod security standard", install::restricted),
        case!("helm-test", "`helm test` with a Service, also of servers that are not ready", install::helm_test),
        case!("arbitrary-user", "an arbitrary user with group 0, as OpenShift assigns it", install::arbitrary_user),
        case!("claim", "a StatefulSet with a claim keeps its data when its pod is deleted", claim::stateful_set),
        case!("upgrade", "`helm upgrade` from an older chart keeps the data on a claim", claim::upgrade),
        case!("topic", "a hook Job creates the topic, and `helm uninstall` leaves it", topic::hook_job),
        case!("sidecar", "an application with a sidecar, native and classic, on both stores", sidecar::both_modes),
        case!("examples", "example charts of `tests/chart` and `examples/kubernetes`", examples::charts),
        case!("manifests", "`job` and `kustomize` of `examples/kubernetes`, without Helm", examples::manifests),
        case!("policy", "`admission-policy` of `examples/kubernetes` adds the sidecar", examples::policy),
        case!("socket", "the API on a Unix socket, native and classic", sidecar::socket),
        case!("aliases", "two aliases in one pod", sidecar::two_aliases),
        case!("switched-off", "a dependency that is switched off", sidecar::switched_off),
        case!("job", "a Job with a native sidecar completes", sidecar::job),
        case!("metrics", "a Prometheus scrapes the pods that a PodMonitor selects", metrics::scraped),
        case!("roll-native", "rolling restarts under writes, native", roll::native),
        case!("roll-classic", "rolling restarts under writes, classic", roll::classic),
        case!("drain-delay", "classic: failed writes by `drainDelay` and by when the application stops", roll::delays),
        case!("mute", "1,030 connections to the health port that send nothing", mute::connections),
        case!("disk", "an `emptyDir` that fills up", limits::disk),
        case!("resize", "a memory limit that changes in a running pod", resize::standalone_pod),
        case!("resize-native", "the same of a native sidecar under writes", resize::native_sidecar),
        case!("memory", "large writes and loads with a memory limit of 256 MiB", limits::memory),
        case!("kafka-down", "Kafka down for two minutes", faults::kafka_down),
    ]
}

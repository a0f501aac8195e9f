//! The programs of a cluster of one node, with their flags and files.

use std::{fs, path::Path};

use openssl::rsa::Rsa;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    command::target,
    image::PAUSE,
    node::{ADDRESS, CONTROL_GROUP, NAME, PODS, SERVICES, written},
};

pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
pub const API_SERVER: &str = "https://127.0.0.1:6443";
const ETCD: &str = "http://127.0.0.1:2379";
/// The only user. It may do everything.
const TOKEN: &str = "changelogd-cluster-test";
const CERTIFICATES: &str = "/run/kubernetes/certificates";
const CNI_FILES: &str = "/run/cni";
const KEY_BITS: u32 = 2048;

/// A program that `tests/cluster/kubernetes/build.sh` has built.
pub fn kubernetes(name: &str) -> Command {
    Command::new(target("bin").join(name))
}

/// Files that several programs read. Returns the kubeconfig.
pub fn write_files() -> Result<(), String> {
    let key = Rsa::generate(KEY_BITS).and_then(|key| key.private_key_to_pem()).map_err(|error| error.to_string())?;
    written("service-accounts.pem", &key)?;
    written("tokens.csv", format!("{TOKEN},admin,admin,system:masters\n").as_bytes())?;
    let cluster = json!({ "server": API_SERVER, "insecure-skip-tls-verify": true });
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": [{ "name": "admin", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "admin" } }],
        "current-context": "cluster",
    });
    written("kubeconfig", kubeconfig.to_string().as_bytes())?;
    Ok(())
}

pub fn kubeconfig() -> String {
    file("kubeconfig")
}

fn file(name: &str) -> String {
    target("run").join(name).display().to_string()
}

/// The network of pods: each has a pair of interfaces, whose other end is on the node. Nothing is masqueraded.
pub fn containerd() -> Result<Command, String> {
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": PODS }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": "/run/cni-addresses",
            },
        }],
    });
    fs::create_dir_all(CNI_FILES)
        .and_then(|()| fs::write(Path::new(CNI_FILES).join("pods.conflist"), network.to_string()))
        .map_err(|error| format!("{CNI_FILES}: {error}"))?;
    let configuration = format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{CNI_FILES}"
"#
    );
    let mut command = Command::new("containerd");
    command.arg("--config").arg(written("containerd.toml", configuration.as_bytes())?);
    Ok(command)
}

/// Its data is in memory. It is needed for as long as this program runs.
pub fn etcd() -> Command {
    let mut command = Command::new("etcd");
    command.args(["--data-dir=/run/etcd", "--listen-peer-urls=http://127.0.0.1:2380"]);
    command.arg(format!("--listen-client-urls={ETCD}")).arg(format!("--advertise-client-urls={ETCD}"));
    command
}

pub fn api_server() -> Command {
    let mut command = kubernetes("kube-apiserver");
    command
        .arg(format!("--etcd-servers={ETCD}"))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
        // It makes its own certificate.
        .arg(format!("--cert-dir={CERTIFICATES}"))
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .arg("--authorization-mode=RBAC")
        .args(["--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged=true"])
        .arg(format!("--service-account-key-file={}", file("service-accounts.pem")))
        .arg(format!("--service-account-signing-key-file={}", file("service-accounts.pem")))
        .arg(format!("--service-cluster-ip-range={SERVICES}"))
        .arg("--kubelet-preferred-address-types=InternalIP")
        // As the README of the example `admission-policy` says for this version.
        .arg("--feature-gates=MutatingAdmissionPolicy=true")
        .arg("--runtime-config=admissionregistration.k8s.io/v1beta1=true");
    command
}

pub fn controller_manager() -> Command {
    let mut command = kubernetes("kube-controller-manager");
    command
        .arg(format!("--kubeconfig={}", kubeconfig()))
        .arg(format!("--service-account-private-key-file={}", file("service-accounts.pem")))
        .arg(format!("--root-ca-file={CERTIFICATES}/apiserver.crt"))
        .args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
    command
}

pub fn scheduler() -> Command {
    let mut command = kubernetes("kube-scheduler");
    command.arg(format!("--kubeconfig={}", kubeconfig()));
    command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
    command
}

pub fn kubelet() -> Result<Command, String> {
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        // The machine may have control groups of version 1.
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CONTROL_GROUP}"),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // The limit of an emptyDir is enforced.
        "localStorageCapacityIsolation": true,
        // A full disk of a developer's machine is no reason to evict a pod of a test.
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    });
    let mut command = kubernetes("kubelet");
    command
        .arg(format!("--config={}", written("kubelet.json", configuration.to_string().as_bytes())?.display()))
        .arg(format!("--kubeconfig={}", kubeconfig()))
        .arg(format!("--hostname-override={NAME}"))
        .arg(format!("--node-ip={ADDRESS}"));
    Ok(command)
}

/// Services reach their pods by rules of iptables, which are of this network namespace.
pub fn proxy() -> Result<Command, String> {
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": ADDRESS,
        "clientConnection": { "kubeconfig": kubeconfig() },
        "clusterCIDR": PODS,
        "hostnameOverride": NAME,
        "mode": "iptables",
        // Limits of the whole machine stay as they are.
        "conntrack": { "maxPerCore": 0, "min": 0 },
    });
    let mut command = kubernetes("kube-proxy");
    command.arg(format!("--config={}", written("proxy.json", configuration.to_string().as_bytes())?.display()));
    Ok(command)
}

/// Whether the node is ready, by its object.
pub fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

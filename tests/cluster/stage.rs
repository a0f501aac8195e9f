//! What the cases work with: a namespace for each, the chart, charts that depend on it, and Kafka.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use changelogd_testkit::workspace_root;
use serde_json::{Value, json};
use tokio::{sync::OnceCell, time::sleep};

use super::{
    command::{output, target},
    image::CHANGELOGD,
    kafka::Kafka,
    kubectl::{apply, helm, kubectl, objects},
};

/// For a pod that has to start. An image is there already.
pub const READY_WITHIN: Duration = Duration::from_secs(90);
/// With the grace period of the last pod.
const REMOVED_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
/// The values that each installation needs in this cluster: the image of the test, which no registry has.
const IMAGE: [&str; 2] = ["image.repository=", "image.pullPolicy=Never"];

pub struct Stage {
    /// Rolling restarts in each mode.
    pub rolls: u32,
    kafka: OnceCell<Kafka>,
}

impl Stage {
    pub fn new(rolls: u32) -> Self {
        Self { rolls, kafka: OnceCell::new() }
    }

    /// One Kafka for all cases that do not stop it. It is started when the first of them needs it.
    pub async fn kafka(&self) -> Result<&Kafka, String> {
        self.kafka.get_or_try_init(Kafka::start).await
    }

    pub async fn enter(&self, case: &str) -> Result<(), String> {
        kubectl(&["create", "namespace", case]).await?;
        // The controller manager creates it a moment later, and a pod without it is refused.
        until(READY_WITHIN, "the namespace has a service account", async || {
            kubectl(&["--namespace", case, "get", "serviceaccount", "default"]).await.is_ok()
        })
        .await
        .map(drop)
    }

    /// Begins to remove it, which takes longer than most cases.
    pub async fn leave(&self, case: &str) -> Result<(), String> {
        kubectl(&["delete", "namespace", case, "--wait=false"]).await.map(drop)
    }

    /// Waits until nothing of the cases is left. So no pod is there that cannot be stopped.
    pub async fn end(&self, cases: &[&str]) -> Result<(), String> {
        until(REMOVED_WITHIN, "the namespaces of the cases are removed", async || {
            let all = kubectl(&["get", "namespaces", "--output=name"]).await.unwrap_or_default();
            let is_case = |line: &str| cases.contains(&line.trim_start_matches("namespace/"));
            !all.is_empty() && !all.lines().any(is_case)
        })
        .await
        .map(drop)
    }

    /// Keeps what says why a case failed, below `target/cluster/failed/`.
    pub async fn keep(&self, case: &str) {
        let folder = target("failed").join(case);
        let _ = fs::create_dir_all(&folder);
        let keep = async |name: &str, arguments: &[&str]| {
            let text = kubectl(&[&["--namespace", case], arguments].concat()).await;
            let _ = fs::write(folder.join(name), text.unwrap_or_else(|error| error));
        };
        keep("objects.yaml", &["get", "all", "--output=yaml"]).await;
        keep("events.txt", &["get", "events", "--sort-by=.lastTimestamp"]).await;
        for pod in objects(case, &["pods"]).await.unwrap_or_default()["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            for kind in ["initContainers", "containers"] {
                for container in pod["spec"][kind].as_array().into_iter().flatten() {
                    let container = container["name"].as_str().unwrap_or_default();
                    let logs = ["logs", name, "--container", container, "--tail=400"];
                    keep(&format!("{name}.{container}.log"), &logs).await;
                }
            }
        }
        println!("see {}", folder.display());
    }
}

/// Waits for a condition.
pub async fn until<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    is_so: impl Fn() -> F,
) -> Result<Duration, String> {
    let began = Instant::now();
    while !is_so().await {
        if began.elapsed() > limit {
            return Err(format!("not within {} s: {what}", limit.as_secs()));
        }
        sleep(POLL).await;
    }
    Ok(began.elapsed())
}

/// The chart of this project.
pub fn chart() -> PathBuf {
    workspace_root().join("helm/changelogd")
}

/// A copy of a chart with the chart of this project as its dependency, also under several aliases.
pub async fn dependent(folder: &str) -> Result<PathBuf, String> {
    let copy = target("run/charts").join(folder.replace('/', "-"));
    if !copy.exists() {
        copied(&workspace_root().join(folder), &copy)?;
        copied(&chart(), &copy.join("charts/changelogd"))?;
    }
    Ok(copy)
}

fn copied(from: &Path, to: &Path) -> Result<(), String> {
    let wrong = |error| format!("{}: {error}", from.display());
    fs::create_dir_all(to).map_err(wrong)?;
    for entry in fs::read_dir(from).map_err(wrong)?.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).map_err(wrong)?;
        }
    }
    Ok(())
}

/// A release in the namespace of a case.
pub struct Release<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub chart: PathBuf,
    /// What stands before the values of changelogd: empty, or the alias and a dot.
    pub prefixes: &'a [&'a str],
}

impl Release<'_> {
    /// Installs or upgrades, and waits until all pods are ready. Values are those of `--set`.
    pub async fn install(&self, values: &[&str]) -> Result<Duration, String> {
        let began = Instant::now();
        self.helm("upgrade", &["--install", "--wait", "--wait-for-jobs", "--timeout=120s"], values).await?;
        Ok(began.elapsed())
    }

    async fn helm(&self, verb: &str, flags: &[&str], values: &[&str]) -> Result<String, String> {
        let chart = self.chart.display().to_string();
        let image: Vec<_> = self.prefixes.iter().flat_map(|prefix| image(prefix)).collect();
        let mut arguments = vec![verb, self.name, &chart, "--namespace", self.namespace];
        arguments.extend(flags);
        for value in image.iter().map(String::as_str).chain(values.iter().copied()) {
            arguments.extend(["--set", value]);
        }
        helm(&arguments).await
    }

    pub async fn uninstall(&self) -> Result<(), String> {
        helm(&["uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout=120s"]).await.map(drop)
    }
}

fn image(prefix: &str) -> [String; 2] {
    IMAGE.map(|value| match value.strip_suffix('=') {
        Some(name) => format!("{prefix}{name}={CHANGELOGD}"),
        None => format!("{prefix}{value}"),
    })
}

/// A release of the chart itself, with the name of the chart.
pub fn standalone(namespace: &str) -> Release<'_> {
    Release { namespace, name: "changelogd", chart: chart(), prefixes: &[""] }
}

/// The output of a program in a container of an object, such as `deployment/changelogd`.
pub async fn exec(namespace: &str, object: &str, container: &str, command: &[&str]) -> Result<String, String> {
    let arguments = ["--namespace", namespace, "exec", object, "--container", container, "--"];
    kubectl(&[arguments.as_slice(), command].concat()).await
}

/// A command of changelogd in its own container. Its API is on the pod's loopback.
pub async fn ask(namespace: &str, object: &str, command: &[&str]) -> Result<String, String> {
    let program = ["changelogd", "--addr", "127.0.0.1:50051"];
    exec(namespace, object, "changelogd", &[program.as_slice(), command].concat()).await
}

/// The pods of the namespace that are not about to end.
pub async fn pods(namespace: &str) -> Result<Vec<Value>, String> {
    let all = objects(namespace, &["pods"]).await?;
    let all = all["items"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect())
}

/// The restarts of all containers of the namespace.
pub async fn restarts(namespace: &str) -> Result<u64, String> {
    let statuses = |pod: &Value, kind: &str| pod["status"][kind].as_array().cloned().unwrap_or_default();
    let of = |pod: &Value| [statuses(pod, "containerStatuses"), statuses(pod, "initContainerStatuses")].concat();
    let all = pods(namespace).await?;
    Ok(all.iter().flat_map(of).filter_map(|status| status["restartCount"].as_u64()).sum())
}

/// An error if a container was started again.
pub async fn no_restart(namespace: &str) -> Result<(), String> {
    match restarts(namespace).await? {
        0 => Ok(()),
        count => Err(format!("the kubelet has started containers again: {count} times")),
    }
}

/// A claim needs a volume: a folder of this machine. It is writable for every user, as no provisioner sets its owner.
pub async fn volume(name: &str, namespace: &str) -> Result<(), String> {
    let folder = target("run/volumes").join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut chmod = tokio::process::Command::new("chmod");
    chmod.arg("0777").arg(&folder);
    output(chmod).await?;
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name },
        "spec": {
            "capacity": { "storage": "10Gi" },
            "accessModes": ["ReadWriteOnce"],
            "hostPath": { "path": folder },
            "storageClassName": name,
        },
    });
    apply(namespace, &volume).await.map(drop)
}

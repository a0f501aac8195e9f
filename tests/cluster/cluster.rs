//! A cluster of one node. It is stopped in the order in which its programs need each other.

use std::path::{Path, PathBuf};

use changelogd_testkit::{binary_under_test, workspace_root};
use tokio::{
    net::{TcpStream, UnixStream},
    process::Command,
};

use super::{
    command::{output, target},
    image::{APPLICATION, CHANGELOGD, Contents, import, pack},
    kubectl::kubectl,
    node,
    process::Process,
    programs,
};

/// The target of the Makefile that builds the binary under test.
const TARGET: &str = "make cluster";

/// The images of the charts in tests/chart.
const OF_EXAMPLES: [&str; 2] = ["registry.example/orders:1.0.0", "registry.example/shop:1.0.0"];

/// The image that the case `examples` gives the chart of `examples/kubernetes`.
pub const OF_THE_EXAMPLE_CHART: &str = "cluster.test/orders:1";

/// The image that the case `examples` gives the chart `classic`: with a shell and changelogd, as its README wants it.
pub const OF_THE_CLASSIC_EXAMPLE: &str = "cluster.test/orders-with-shell:1";

/// In the order of starting.
#[derive(Default)]
pub struct Cluster {
    processes: Vec<Process>,
}

impl Cluster {
    /// Programs that run already are in `self` if this fails.
    pub async fn start(&mut self) -> Result<(), String> {
        node::prepare().await?;
        programs::write_files()?;
        let containerd = Process::start("containerd", programs::containerd()?)?;
        self.ready(containerd, async || UnixStream::connect(programs::CONTAINERD_SOCKET).await.is_ok()).await?;
        let etcd = Process::start("etcd", programs::etcd())?;
        self.ready(etcd, async || TcpStream::connect("127.0.0.1:2379").await.is_ok()).await?;
        let api_server = Process::start("kube-apiserver", programs::api_server())?;
        import_images().await?;
        self.ready(api_server, async || kubectl(&["get", "--raw", "/readyz"]).await.is_ok()).await?;
        for (name, command) in [
            ("kube-controller-manager", programs::controller_manager()),
            ("kube-scheduler", programs::scheduler()),
            ("kube-proxy", programs::proxy()?),
        ] {
            self.processes.push(Process::start(name, command)?);
        }
        let kubelet = Process::start("kubelet", programs::kubelet()?)?;
        let is_ready = async || {
            let node = kubectl(&["get", "node", node::NAME, "--output=json"]).await;
            node.ok().and_then(|node| serde_json::from_str(&node).ok()).is_some_and(|node| programs::is_ready(&node))
        };
        self.ready(kubelet, is_ready).await
    }

    async fn ready<F: Future<Output = bool>>(
        &mut self,
        process: Process,
        is_ready: impl Fn() -> F,
    ) -> Result<(), String> {
        self.processes.push(process);
        self.processes.last_mut().expect("it was pushed").until(is_ready).await
    }

    /// Ends everything that [`Cluster::start`] has started. Returns what did not end as it should.
    pub async fn stop(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        // All but containerd, the last started first: the kubelet must not start a container again.
        while self.processes.len() > 1 {
            problems.extend(self.processes.pop().expect("there is one").stop().await.err());
        }
        if let Some(containerd) = self.processes.pop() {
            problems.extend(end_containers().await.err());
            problems.extend(containerd.stop().await.err());
        }
        problems
    }
}

/// Those that are still there when the kubelet has ended.
async fn end_containers() -> Result<(), String> {
    let ctr = |arguments: &[&str]| {
        let mut ctr = Command::new("ctr");
        ctr.args(["--namespace", "k8s.io", "tasks"]).args(arguments);
        ctr
    };
    let tasks = output(ctr(&["list", "--quiet"])).await?;
    for task in tasks.split_whitespace() {
        output(ctr(&["delete", "--force", task])).await?;
    }
    Ok(())
}

async fn import_images() -> Result<(), String> {
    let application = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let application = application.with_file_name("changelogd-cluster-application");
    let contents = Contents {
        name: APPLICATION.to_owned(),
        binary: &application,
        entrypoint: "/usr/local/bin/application",
        arguments: &["pause"],
        environment: &[],
        data: None,
        more: &[],
    };
    let archive = pack(&contents).await?;
    for name in [APPLICATION].iter().chain(&OF_EXAMPLES) {
        import(&archive, name).await?;
    }
    let contents = Contents { name: OF_THE_EXAMPLE_CHART.to_owned(), arguments: &["answer"], ..contents };
    import(&pack(&contents).await?, OF_THE_EXAMPLE_CHART).await?;
    let binary = stripped(&binary_under_test(TARGET)?).await?;
    let contents = Contents {
        name: OF_THE_CLASSIC_EXAMPLE.to_owned(),
        entrypoint: "/usr/local/bin/orders",
        more: &[("/bin/sh", Path::new("/bin/sh")), ("/usr/local/bin/changelogd", &binary)],
        ..contents
    };
    import(&pack(&contents).await?, OF_THE_CLASSIC_EXAMPLE).await?;
    let name = format!("{CHANGELOGD}:{}", env!("CARGO_PKG_VERSION"));
    import(&changelogd(&name).await?, &name).await
}

/// The archive that CLUSTER_IMAGE names, or that of tests/image/build.sh, or one with the binary under test.
async fn changelogd(name: &str) -> Result<PathBuf, String> {
    match std::env::var("CLUSTER_IMAGE").as_deref() {
        Ok("binary") => {
            let contents = Contents {
                name: name.to_owned(),
                binary: &stripped(&binary_under_test(TARGET)?).await?,
                entrypoint: "/usr/local/bin/changelogd",
                arguments: &["serve"],
                environment: &[
                    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
                    "CHANGELOGD_DATA_DIR=/var/lib/changelogd",
                ],
                data: Some("/var/lib/changelogd"),
                more: &[],
            };
            pack(&contents).await
        }
        Ok("build") => Ok(workspace_root().join("target/image/changelogd.tar")),
        Ok(archive) if !archive.is_empty() => Ok(Path::new(archive).to_owned()),
        _ => Err("CLUSTER_IMAGE is not set: it is `build`, `binary`, or the path of an OCI archive with the image"
            .to_owned()),
    }
}

/// Without debug information, which is most of a test build: the kubelet copies images to disk.
async fn stripped(binary: &Path) -> Result<PathBuf, String> {
    let small = target("run/changelogd");
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&small).arg(binary);
    output(strip).await?;
    Ok(small)
}

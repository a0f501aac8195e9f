//! Data on a claim.

use std::{fs, process::Stdio};

use changelogd_testkit::workspace_root;
use serde_json::json;
use tokio::process::Command;

use super::{
    super::{
        command::{output, target},
        kubectl::{apply, kubectl},
        report::Seen,
        stage::{Release, Stage, standalone, volume},
    },
    install::{has_value, works},
};

/// The chart before it could be changed without a fork, with other templates and fewer values.
const OLDER: &str = "95628c1ae2540e0213f33ec85f4cdabfb5bb70ca";

pub async fn stateful_set(_: &Stage) -> Seen {
    const CASE: &str = "claim";
    volume(CASE, CASE).await?;
    let class = format!("data.claim.storageClassName={CASE}");
    let values = ["data.claim.enabled=true", "data.claim.size=1Gi", &class];
    let took = standalone(CASE).install(&values).await?;
    works(CASE, "statefulset/changelogd").await?;
    kubectl(&["--namespace", CASE, "delete", "pod", "changelogd-0", "--wait", "--timeout=60s"]).await?;
    let status = ["rollout", "status", "statefulset/changelogd", "--timeout=90s"];
    kubectl(&[["--namespace", CASE].as_slice(), &status].concat()).await?;
    has_value(CASE, "statefulset/changelogd").await?;
    standalone(CASE).uninstall().await?;
    let claims = kubectl(&["--namespace", CASE, "get", "persistentvolumeclaims", "--output=name"]).await?;
    if !claims.contains("changelogd-data-changelogd-0") {
        return Err(format!("the claim did not stay when the release went: {claims:?}"));
    }
    Ok(format!("ready after {:.1} s; the claim stays after `helm uninstall`", took.as_secs_f64()))
}

pub async fn upgrade(_: &Stage) -> Seen {
    const CASE: &str = "upgrade";
    volume(CASE, CASE).await?;
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CASE,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    apply(CASE, &claim).await?;
    let values = ["data.existingClaim=data"];
    let older = Release { chart: older_chart().await?, ..standalone(CASE) };
    older.install(&values).await?;
    works(CASE, "deployment/changelogd").await?;
    let took = standalone(CASE).install(&values).await?;
    has_value(CASE, "deployment/changelogd").await?;
    works(CASE, "deployment/changelogd").await?;
    Ok(format!("from the chart of {}: ready after {:.1} s, the value is there", &OLDER[..7], took.as_secs_f64()))
}

async fn older_chart() -> Result<std::path::PathBuf, String> {
    let (folder, archive) = (target("run/older"), target("run/older.tar"));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut git = Command::new("git");
    // Root may read a working copy of another user.
    git.current_dir(workspace_root()).args(["-c", "safe.directory=*", "archive", "--output"]).arg(&archive);
    git.args([OLDER, "helm/changelogd"]).stdin(Stdio::null());
    output(git).await?;
    let unpacked = fs::File::open(&archive).and_then(|file| tar::Archive::new(file).unpack(&folder));
    unpacked.map_err(|error| format!("{}: {error}", archive.display()))?;
    Ok(folder.join("helm/changelogd"))
}

//! kubectl and helm, with this cluster and folders of their own.

use changelogd_testkit::workspace_root;
use serde_json::Value;
use tokio::process::Command;

use super::{
    command::{output, output_of, target},
    programs::{kubeconfig, kubernetes},
};

pub async fn kubectl(arguments: &[&str]) -> Result<String, String> {
    output(command(arguments)).await
}

/// Creates or changes the objects of a text.
pub async fn apply(namespace: &str, objects: &Value) -> Result<String, String> {
    output_of(command(&["--namespace", namespace, "apply", "--filename", "-"]), &objects.to_string()).await
}

pub async fn objects(namespace: &str, arguments: &[&str]) -> Result<Value, String> {
    let arguments = [&["--namespace", namespace, "get", "--output=json"], arguments].concat();
    let text = kubectl(&arguments).await?;
    serde_json::from_str(&text).map_err(|error| format!("kubectl printed no JSON: {error}"))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = kubernetes("kubectl");
    // No request waits longer than what it waits for.
    command.arg("--kubeconfig").arg(kubeconfig()).args(arguments);
    command
}

pub async fn helm(arguments: &[&str]) -> Result<String, String> {
    let mut helm = Command::new(workspace_root().join("target/tools/bin/helm"));
    for folder in ["CACHE", "CONFIG", "DATA"] {
        helm.env(format!("HELM_{folder}_HOME"), target("run/helm").join(folder.to_lowercase()));
    }
    helm.env("KUBECONFIG", kubeconfig()).args(arguments);
    output(helm).await
}

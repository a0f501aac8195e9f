//! kubectl and helm, with this cluster and folders of their own.

use changelogd_testkit::workspace_root;
use serde_json::Value;
use tokio::process::Command;

use super::{
    command::{output, output_of, outputs, target},
    programs::{kubeconfig, kubernetes},
};

pub async fn kubectl(arguments: &[&str]) -> Result<String, String> {
    output(command(arguments)).await
}

/// Creates or changes the objects of a text.
pub async fn apply(namespace: &str, objects: &Value) -> Result<String, String> {
    apply_text(namespace, &objects.to_string()).await
}

pub async fn objects(namespace: &str, arguments: &[&str]) -> Result<Value, String> {
    let arguments = [&["--namespace", namespace, "get", "--output=json"], arguments].concat();
    let text = kubectl(&arguments).await?;
    serde_json::from_str(&text).map_err(|error| format!("kubectl printed no JSON: {error}"))
}

/// The same of YAML.
pub async fn apply_text(namespace: &str, objects: &str) -> Result<String, String> {
    with_input(&["--namespace", namespace, "apply", "--filename", "-"], objects).await
}

pub async fn with_input(arguments: &[&str], input: &str) -> Result<String, String> {
    output_of(command(arguments), input).await
}

fn command(arguments: &[&str]) -> Command {
    let mut command = kubernetes("kubectl");
    // No request waits longer than what it waits for.
    command.arg("--kubeconfig").arg(kubeconfig()).args(arguments);
    command
}

pub async fn helm(arguments: &[&str]) -> Result<String, String> {
    output(helm_command(arguments)).await
}

/// With what helm writes to standard error, such as the logs of hooks.
pub async fn helm_with_logs(arguments: &[&str]) -> Result<String, String> {
    outputs(helm_command(arguments)).await
}

fn helm_command(arguments: &[&str]) -> Command {
    let mut helm = Command::new(workspace_root().join("target/tools/bin/helm"));
    for folder in ["CACHE", "CONFIG", "DATA"] {
        helm.env(format!("HELM_{folder}_HOME"), target("run/helm").join(folder.to_lowercase()));
    }
    helm.env("KUBECONFIG", kubeconfig()).args(arguments);
    helm
}

//! Keeps docs/grpcurl.md true: every `console` block runs as it is written, on each store, and prints the output that
//! the document shows.

use std::path::{Path, PathBuf};

use crate::{
    console::{run, steps},
    contract::server::{TestServer, binary, directory},
    servers::real_process,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/grpcurl.md")).expect("the document")
}

/// The programs of the document, and what brings them.
fn require_programs() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let tools = root().join("target/tools");
    for (program, folders, source) in [
        ("grpcurl", &[tools.join("bin")][..], "make tools"),
        ("ghz", &[tools.join("bin")], "make tools"),
        ("buf", &[tools.join("npm/node_modules/.bin")], "make fetch"),
        ("jq", &folders, "the Debian package jq"),
    ] {
        let is_there = folders.iter().any(|folder| folder.join(program).is_file());
        assert!(is_there, "{program} is missing; {source} brings it");
    }
}

/// Runs the document against a server. Only addresses and folders differ.
async fn works_on(server: TestServer) {
    require_programs();
    let work = tempfile::tempdir().expect("a directory");
    let socket = work.path().join("api.sock").display().to_string();
    let folder = binary().parent().expect("a folder").display().to_string();
    let target = root().join("target").display().to_string();
    let api = server.api.clone();
    let commands = tokio::task::spawn_blocking(move || {
        let steps = steps(&document(), "console");
        assert!(steps.len() > 20, "{steps:#?}");
        assert!(steps[0].command.contains("$PWD/target/debug"), "it begins with the PATH: {}", steps[0].command);
        let substitute = |text: &str| {
            text.replace("127.0.0.1:50051", &api)
                .replace("/tmp/changelogd.sock", &socket)
                .replace("$PWD/target/debug", &folder)
                .replace("$PWD/target", &target)
        };
        run(&steps, work.path(), substitute, &[]);
    });
    commands.await.expect("each block prints what the document shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookbook_works_as_written_on_the_embedded_store() {
    let (_keep, path) = directory();
    works_on(TestServer::process(vec![format!("--data-dir={}", path.display())]).await.ready().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookbook_works_as_written_on_kafka() {
    works_on(real_process().await.ready().await).await;
}

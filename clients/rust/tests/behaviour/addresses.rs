//! Where a client finds its server.

use std::{env, process::Command};

use changelogd_client::{Client, DEFAULT_ADDRESS};

use crate::support::{Deployment, EMBEDDED, variable, workspace};

async fn assert_works(client: &Client) {
    let workspace = workspace("address");
    client.set(&Deployment::new(&workspace, "a", 1)).await.unwrap();
    assert_eq!(client.load::<Deployment>(&workspace).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_unix_socket_works() {
    let path = variable("CHANGELOGD_TEST_UNIX");
    assert_works(&Client::connect(&format!("unix:{path}")).unwrap()).await;
}

/// Set in the processes in which the test below runs itself.
const CHILD: &str = "CHANGELOGD_TEST_CHILD";

#[tokio::test]
async fn changelogd_addr_names_the_server() {
    if env::var_os(CHILD).is_some() {
        let client = Client::from_env().unwrap();
        assert_eq!(Client::connect("").unwrap().address(), client.address());
        match env::var("CHANGELOGD_ADDR") {
            Ok(address) if !address.is_empty() => assert_eq!(client.address(), address),
            _ => return assert_eq!((client.address(), DEFAULT_ADDRESS), ("127.0.0.1:50051", "127.0.0.1:50051")),
        }
        return assert_works(&client).await;
    }
    // The environment of a process with threads must not change.
    for address in [Some(variable(EMBEDDED)), Some(String::new()), None] {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "addresses::changelogd_addr_names_the_server"]).env(CHILD, "1");
        match &address {
            Some(address) => child.env("CHANGELOGD_ADDR", address),
            None => child.env_remove("CHANGELOGD_ADDR"),
        };
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{address:?}: {text}");
    }
}

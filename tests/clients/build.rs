//! Generates the API for the scripted server, with two changes that `api.rs` explains.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto/changelog.proto");
    tonic_prost_build::configure()
        // Calls without a script are UNIMPLEMENTED.
        .generate_default_stubs(true)
        .extern_path(".changelog.v1.LoadWorkspaceResponse", "crate::api::LoadWorkspaceResponse")
        .extern_path(".changelog.v1.WatchResponse", "crate::api::WatchResponse")
        .compile_fds(protox::compile(["changelog.proto"], ["../../proto"])?)?;
    Ok(())
}

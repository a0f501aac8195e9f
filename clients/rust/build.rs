//! Compiles the .proto file in Rust (protox), so that no protoc has to be installed.

use std::error::Error;

const PROTO: &str = "../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}/changelog.proto");
    let descriptors = protox::compile(["changelog.proto"], [PROTO])?;
    tonic_prost_build::configure().build_server(false).build_transport(false).compile_fds(descriptors)?;
    Ok(())
}

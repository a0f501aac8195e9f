//! Compiles the .proto files in Rust (protox), so that no protoc has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if release && env::var_os("CARGO_FEATURE_TAKE_OUT_RULES").is_some() {
        return Err("take-out-rules breaks promises on purpose: it is for tests, and never for a release build".into());
    }
    // Reflection also needs the messages of a call's error, which no message of the API names.
    let files = ["proto/changelog.proto", "proto/google/rpc/error_details.proto", "proto/google/rpc/status.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves these bytes.
    fs::write(out.join("changelog.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        // Values and tokens are shared, not copied, on their way from the log to the wire. Large values also on the way
        // to the log.
        .bytes(".")
        .codec_path("crate::proto::Codec")
        .extern_path(".changelog.v1.EntryBatch", "crate::proto::EntryBatch")
        .extern_path(".google.protobuf.Value", "crate::proto::EncodedValue")
        // One Rust type for each message of google.rpc.
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}

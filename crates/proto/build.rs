//! Compiles the `.proto` files without an external `protoc`, and keeps their descriptors for server reflection.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["agent.proto", "supervisor.proto", "control.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    #[allow(clippy::disallowed_methods, reason = "a build script's output is made again when it is damaged")]
    std::fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the protos with protox: no system `protoc` is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services = ["statement", "peer", "warden", "operator", "wrapper", "inspect"];
    let files: Vec<_> = services.iter().map(|name| format!("zeta/bft/v1/{name}.proto")).collect();
    let descriptors = protox::compile(&files, ["proto"])?;
    println!("cargo:rerun-if-changed=proto");

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;

    let mut config = tonic_prost_build::configure().build_transport(true);
    // The JSON contract is the proto: the views serialise as they are.
    for view in [
        "QuorumView",
        "PersonaView",
        "HoldView",
        "SubjectView",
        "VerdictView",
        "VoteView",
        "ActionView",
        "Explanation",
        "TimelineEntry",
        "LookView",
        "HistoryEntry",
    ] {
        config =
            config.type_attribute(format!(".zeta.bft.v1.{view}"), "#[derive(serde::Serialize, serde::Deserialize)]");
    }
    config.compile_fds(descriptors)?;
    Ok(())
}

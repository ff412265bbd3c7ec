//! Asks nix: whether it is there, and what the module evaluates to.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = "nix-instantiate";

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Why nothing can be evaluated here.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Nothing is installed on such a machine.
    #[error("there is no nix-instantiate, and it is installed as root on Debian only (apt-get install nix-bin)")]
    NotHere,
    /// It could not be installed.
    #[error("{0}")]
    NotFetched(&'static str),
}

/// Looks for nix, and installs it where that is possible.
pub fn install() -> Result<(), Unfit> {
    if runs() {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").exists() || !rustix::process::geteuid().is_root() {
        return Err(Unfit::NotHere);
    }
    let apt = |words: &[&str]| {
        Command::new("apt-get")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let package = ["install", "--yes", "--no-install-recommends", "nix-bin"];
    // Lists of packages may be missing or old: then they are fetched, and only then.
    let installed = apt(&package) || apt(&["update"]) && apt(&package);
    if installed && runs() { Ok(()) } else { Err(Unfit::NotFetched("apt-get could not install nix-bin")) }
}

fn runs() -> bool {
    let mut command = Command::new(PROGRAM);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `nix-instantiate` that reads no configuration and writes no store.
fn instantiate(words: &[&str]) -> Result<String, String> {
    let private = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(words).current_dir(root()).stdin(Stdio::null());
    for name in ["NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR", "NIX_LOCALSTATE_DIR", "HOME"] {
        command.env(name, private.path());
    }
    command.env_remove("NIX_PATH").env_remove("NIX_REMOTE");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Whether this file is a nix expression.
pub fn parse(file: &Path) -> Result<(), String> {
    instantiate(&["--parse", &file.display().to_string()]).map(drop)
}

/// What a node gets whose operator writes this into configuration.nix.
///
/// # Errors
/// What nix says when it cannot be evaluated.
pub fn evaluate(configuration: &str) -> Result<Node, String> {
    let words = ["--eval", "--strict", "--json", "--store", "dummy://"];
    let stub = ["tests/nixos/stub.nix", "--arg", "user", configuration];
    let json = instantiate(&[&words[..], &stub[..]].concat())?;
    Ok(Node(serde_json::from_str(&json).unwrap()))
}

/// The same, where it must evaluate and hold no failed assertion.
pub fn node(configuration: &str) -> Node {
    let node = evaluate(configuration).unwrap_or_else(|error| panic!("{configuration}\n{error}"));
    assert_eq!(node.failed(), [""; 0], "{configuration}");
    node
}

/// An evaluated node.
pub struct Node(pub Value);

impl Node {
    /// The messages of failed assertions.
    pub fn failed(&self) -> Vec<&str> {
        strings(&self.0["failed"])
    }

    /// `node.toml`, as zeta-bft finds it.
    pub fn node_toml(&self) -> String {
        toml::to_string(&self.0["settings"]).expect("every value of the module has a form in TOML: no null")
    }

    /// One service.
    pub fn service(&self, name: &str) -> &Value {
        let service = &self.0["services"][name];
        assert!(service.is_object(), "there is no service {name}");
        service
    }

    /// The names of all services.
    pub fn services(&self) -> Vec<&str> {
        self.0["services"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// A word in a service's environment.
    pub fn environment(&self, service: &str, name: &str) -> &str {
        let start = format!("{name}=");
        let words = strings(&self.service(service)["serviceConfig"]["Environment"]);
        words.into_iter().find_map(|word| word.strip_prefix(&start)).unwrap_or_else(|| panic!("no {name}"))
    }
}

/// A JSON list of texts.
pub fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Every nix file of the checkout.
pub fn nix_files() -> Vec<PathBuf> {
    let folders = [root().join("deploy/nixos"), root().join("tests/nixos")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "nix")).collect()
}

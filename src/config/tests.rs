//! Bad configurations and their exact complaints; good ones and what becomes of them. Here is what all of them start from.

mod complaints;
mod files;
mod k3s;
mod never;
mod patterns;
mod policy;
mod tcp;
mod users;
mod written;

use super::parse;
use super::paths::Paths;
use super::users::{Account, Users};
use std::path::Path;

const GOOD: &str = "\
cluster = \"home\"
node = \"n1\"
mode = \"act\"
[personas.otto]
vendor = \"anthropic\"
command = [\"claude\"]
[personas.lior]
vendor = \"google-gemini\"
command = [\"gemini\"]
[personas.vera]
vendor = \"openai\"
command = [\"codex\"]
";

fn paths() -> Paths {
    Paths::below(Path::new("/tmp/x"))
}

const NODE_USERS: &[&str] = &[
    "zeta-bft-warden",
    "zeta-bft-page",
    "zeta-lior",
    "zeta-bft-lior",
    "zeta-otto",
    "zeta-bft-otto",
    "zeta-vera",
    "zeta-bft-vera",
];

/// A machine with these users, numbered from 900 on.
fn users(names: &[&str]) -> Users {
    let account = |(name, id): (&&str, u32)| ((*name).to_owned(), Account { uid: id, gid: id });
    let root = ("root".to_owned(), Account { uid: 0, gid: 0 });
    Users::Only(names.iter().zip(900..).map(account).chain([root]).collect())
}

fn complaint(text: &str) -> String {
    parse(text, "node.toml", &paths()).expect_err("this configuration is bad").to_string()
}

fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

//! What the committee made of k3s: what each agent saw, what was done, who was called.

use super::CREDENTIAL;
use crate::node::{Node, PERSONAS};
use serde_json::Value;

/// A k3s that is judged soon: a young run is left alone for 10 s, which a busy machine may need to start one; two looks make a row,
/// and a repair is judged after 20 s. After a second of health the ladder begins anew.
///
/// The clock is the machine's own, of which nobody knows here whether somebody keeps it; so it decides nothing. Of what a real k3s
/// has there is no kube-proxy. `more`: further lines of the subject's table, and tables.
pub fn subject(more: &str) -> String {
    format!(
        "[policy]\nladder_reset = \"1s\"\n[policy.drill]\nenabled = true\n[policy.broken_k3s]\nvote_ttl = \"8s\"\nsettle = \"20s\"\n\
         [subjects.k3s]\nkind = \"k3s\"\nca = \"{CREDENTIAL}/ca.crt\"\n\
         credential = {{ certificate = \"{CREDENTIAL}/client.crt\", key = \"{CREDENTIAL}/client.key\" }}\n\
         grace = \"10s\"\nfailed_looks = 2\nkube_proxy = false\n\
         ignored_faults = [\"clock-unsynchronised\", \"clock-unsynchronised-but-well\"]\n{more}\n"
    )
}

impl Node {
    /// What each agent saw last.
    pub fn looks(&self) -> Vec<Value> {
        let shown = self.exec(&["zeta-bft", "explain", "k3s", "--json"]);
        let shown: Value = serde_json::from_str(&shown.out).unwrap_or_default();
        shown["looks"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until every agent finds this row and takes it for this class, held back by nothing.
    #[track_caller]
    pub fn await_row(&self, row: &str, class: &str) {
        let found = |look: &Value| {
            look["row"] == row
                && look["fault_class"].as_str().unwrap_or("healthy") == class
                && look["held_back"].is_null()
        };
        self.await_until(&format!("three agents find {row} ({class})"), || {
            let looks = self.looks();
            looks.len() == PERSONAS.len() && looks.iter().all(found)
        });
    }

    /// Waits until the log tells that two agents found this row and took it for this class, held back by nothing. What is repaired
    /// passes quickly; the log comes after.
    #[track_caller]
    pub fn await_finders(&self, row: &str, class: &str) {
        self.await_until(&format!("two agents have found {row} ({class})"), || self.finders(row, class) >= 2);
    }

    fn finders(&self, row: &str, class: &str) -> usize {
        let found = |persona: &&&str| {
            let unit = format!("zeta-bft-agent@{persona}.service");
            let log = self.ask(&["journalctl", "--no-pager", "-o", "cat", "-u", &unit]);
            log.lines().any(|line| line.contains(&format!(": {row} ({class}): ")) && !line.contains("held back"))
        };
        PERSONAS.iter().filter(found).count()
    }

    /// Everything that was done to k3s: class, action and outcome, oldest first.
    pub fn done(&self) -> Vec<String> {
        let word = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        let history = self.history();
        let of_k3s = history.iter().filter(|entry| entry["subject"] == "k3s");
        of_k3s.map(|entry| ["fault_class", "action", "outcome"].map(|name| word(entry, name)).join(" ")).collect()
    }

    /// Why humans were called because of k3s, oldest first.
    pub fn pages(&self) -> Vec<String> {
        let log = self.ask(&["journalctl", "--no-pager", "-o", "cat", "-u", "zeta-bft-warden.service"]);
        let called = log.lines().filter(|line| line.contains("page: ") && line.contains("subject=\"k3s\""));
        called.filter_map(|line| Some(line.split_once("cause=\"")?.1.split('"').next()?.to_owned())).collect()
    }

    /// Waits until a human is called for this cause.
    #[track_caller]
    pub fn await_page(&self, cause: &str) {
        self.await_until(&format!("a page for {cause}"), || self.pages().iter().any(|page| page == cause));
    }
}

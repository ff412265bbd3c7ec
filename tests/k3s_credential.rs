//! What `deploy/k3s` ships, as claims: the rights in the cluster, and the script that makes the credential. On a real API server:
//! `tests/system/claims/k3s_credential.rs`.
//!
//! The script is run where openssl is, and as root; elsewhere a line says what is skipped.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use zeta_bft::config::{self, paths::Paths};
use zeta_bft::observe::k3s::{Credential, Role};

const FILES: [&str; 3] = ["ca.crt", "client.crt", "client.key"];

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/k3s").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn openssl(words: &[&str]) -> String {
    let output = Command::new("openssl").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A server's folder as k3s lays it out, with authorities that end after so many days.
struct Server {
    dir: tempfile::TempDir,
}

impl Server {
    /// `None`, and a line that says so, where the script cannot run.
    fn lasting(days: &str) -> Option<Self> {
        let runs = |tool: &str| Command::new(tool).arg("version").output().is_ok();
        if !rustix::process::geteuid().is_root() || !runs("openssl") {
            println!("skipped: the script needs root and openssl");
            return None;
        }
        let server = Self { dir: tempfile::tempdir().unwrap() };
        let tls = server.at("k3s/server/tls");
        std::fs::create_dir_all(&tls).unwrap();
        for ca in ["client-ca", "server-ca"] {
            let [key, crt] = ["key", "crt"].map(|kind| format!("{}/{ca}.{kind}", tls.display()));
            let subject = format!("/CN=k3s-{ca}");
            let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
            openssl(&[&kind[..], &["-days", days, "-subj", &subject, "-keyout", &key, "-out", &crt]].concat());
        }
        Some(server)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// For another node, as this machine has no group of agents.
    fn mint(&self, words: &[&str]) -> Output {
        let mut command = Command::new(shipped("mint-credential"));
        command.arg("--tls").arg(self.at("k3s/server/tls")).args(["--for", "n2", "--out"]).arg(self.at("out"));
        command.args(words).output().unwrap()
    }

    #[track_caller]
    fn minted(&self, words: &[&str]) -> String {
        let output = self.mint(words);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let output = self.mint(words);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    fn files(&self) -> Vec<Vec<u8>> {
        FILES.map(|file| std::fs::read(self.at("out").join(file)).unwrap()).into()
    }

    fn shows(&self, words: &[&str]) -> String {
        let certificate = self.at("out/client.crt").display().to_string();
        openssl(&[&["x509", "-noout", "-nameopt", "RFC2253", "-in", &certificate], words].concat())
    }
}

#[test]
fn the_rights_are_to_get_health_version_and_a_nodes_object_and_nothing_else() {
    let yaml = std::fs::read_to_string(shipped("rbac.yaml")).unwrap();
    let lines: Vec<_> = yaml.lines().filter(|line| !line.starts_with('#')).map(str::trim).collect();
    let of = |key: &str| -> BTreeSet<_> { lines.iter().filter_map(|line| line.strip_prefix(key)).collect() };
    assert_eq!(of("verbs: "), [r#"["get"]"#].into());
    assert_eq!(of("resources: "), [r#"["nodes"]"#].into());
    assert_eq!(of("- apiGroups: "), [r#"[""]"#].into());
    let paths = [r#"["/livez", "/livez/*", "/readyz", "/readyz/*", "/ping", "/version"]"#];
    assert_eq!(of("- nonResourceURLs: "), paths.into());
    assert_eq!(of("kind: "), ["ClusterRole", "ClusterRoleBinding", "Group"].into());
    assert_eq!(of("name: "), ["zeta-bft"].into());
    assert_eq!(lines.iter().filter(|line| line.starts_with("- ")).count(), 3, "two rules, one subject");
}

#[test]
fn a_set_fits_together_is_for_one_node_and_its_key_is_for_root_until_it_is_there() {
    let Some(server) = Server::lasting("3650") else { return };
    let said = server.minted(&[]);
    assert_eq!(server.shows(&["-subject"]), "subject=CN=zeta-bft:n2,O=zeta-bft\n");
    assert_eq!(server.shows(&["-issuer"]), "issuer=CN=k3s-client-ca\n");
    let extensions = server.shows(&["-ext", "extendedKeyUsage,basicConstraints,keyUsage"]);
    assert!(extensions.contains("TLS Web Client Authentication") && extensions.contains("CA:FALSE"), "{extensions}");
    assert!(!extensions.contains("Server") && !extensions.contains("Sign,"), "{extensions}");
    // 365 days, and not one more.
    let lasts = |days: u32| {
        let certificate = server.at("out/client.crt");
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-checkend", &(days * 86_400).to_string(), "-in"]).arg(certificate);
        command.output().unwrap().status.success()
    };
    assert!(lasts(364) && !lasts(366));
    let key = server.at("out/client.key").display().to_string();
    assert_eq!(openssl(&["pkey", "-in", &key, "-pubout"]), server.shows(&["-pubkey"]));
    let [ca, own] = ["k3s/server/tls/server-ca.crt", "out/ca.crt"].map(|file| std::fs::read(server.at(file)).unwrap());
    assert_eq!(ca, own);
    let modes = FILES.map(|file| std::fs::metadata(server.at("out").join(file)).unwrap().mode() & 0o7777);
    assert_eq!(modes, [0o644, 0o644, 0o600]);
    assert_eq!(std::fs::metadata(server.at("out")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::read_dir(server.at("out")).unwrap().count(), 3, "nothing is left over");
    assert_eq!(std::fs::read_dir(server.at("k3s/server/tls")).unwrap().count(), 4, "nothing is left with k3s' own");
    let install = "install -m 640 -g zeta-bft-agents client.key /etc/zeta-bft/k3s";
    assert!(said.lines().any(|line| line.trim() == install), "{said}");
}

#[test]
fn what_it_says_belongs_into_node_toml_is_read_there() {
    let Some(server) = Server::lasting("3650") else { return };
    let said = server.minted(&[]);
    let snippet: String = said
        .lines()
        .skip_while(|line| line.trim() != "[subjects.k3s]")
        .take_while(|line| line.starts_with("    "))
        .fold(String::new(), |text, line| text + line.trim() + "\n");
    let shipped = std::fs::read_to_string(shipped("../node.toml")).unwrap();
    let settings = config::parse(&(shipped + &snippet), "node.toml", &Paths::below(Path::new("/nowhere"))).unwrap();
    let k3s = settings.k3s.values().next().unwrap().observer();
    assert_eq!((k3s.role, k3s.node.as_deref(), k3s.address.port()), (Role::Agent, Some("n2"), 6444));
    // There, and not where it was made.
    let [ca, certificate, key] = FILES.map(|file| Path::new("/etc/zeta-bft/k3s").join(file));
    assert_eq!((k3s.ca, k3s.credential), (ca, Credential::Certificate { certificate, key }));
}

#[test]
fn again_renews_and_a_refusal_leaves_what_is_there() {
    let Some(server) = Server::lasting("40") else { return };
    let too_long = server.refused(&[]);
    assert!(too_long.contains("client CA ends in 39 days") && too_long.contains("say --days 39"), "{too_long}");
    assert!(!server.at("out").exists());
    assert!(server.minted(&["--days", "39"]).starts_with("made a new credential"));
    let first = server.files();
    // As a power cut leaves it.
    std::fs::create_dir(server.at("out/.new.abandoned")).unwrap();
    assert!(server.minted(&["--days", "5"]).starts_with("renewed the credential"));
    let second = server.files();
    assert_eq!(first[0], second[0]);
    assert!(first[1] != second[1] && first[2] != second[2], "the key is new, too");

    std::fs::write(server.at("k3s/server/tls/client-ca.key"), "no key").unwrap();
    assert!(server.refused(&["--days", "5"]).contains("nothing was changed"));
    assert_eq!(server.files(), second);
    assert_eq!(std::fs::read_dir(server.at("out")).unwrap().count(), 3);
}

#[test]
fn every_refusal_names_its_reason() {
    let Some(server) = Server::lasting("3650") else { return };
    for days in ["0", "366", "1000", "-1", "1y"] {
        assert!(server.refused(&["--days", days]).contains("from 1 to 365"), "{days}");
    }
    for name in ["N2", "../n2", "a/CN=system:admin", "-n"] {
        assert!(server.refused(&["--for", name]).contains("is no name of a node"), "{name}");
    }
    assert_eq!(server.mint(&["--frobnicate"]).status.code(), Some(2));

    let open = server.at("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let said = server.refused(&["--out", open.to_str().unwrap()]);
    assert!(said.contains("does not belong to root alone"), "{said}");
    let link = server.at("link");
    std::os::unix::fs::symlink(server.at("k3s"), &link).unwrap();
    assert!(server.refused(&["--out", link.to_str().unwrap()]).contains("is a link"));
    std::fs::create_dir_all(server.at("out/client.key")).unwrap();
    assert!(server.refused(&[]).contains("is no regular file"));
    std::fs::remove_dir(server.at("out/client.key")).unwrap();

    let tls = |name: &str| server.at("k3s/server/tls").join(name);
    for (file, empty) in [("client-ca.key", true), ("server-ca.crt", false), ("client-ca.crt", false)] {
        let whole = std::fs::read(tls(file)).unwrap();
        std::fs::write(tls(file), if empty { "" } else { "no certificate" }).unwrap();
        let said = server.refused(&[]);
        assert!(said.contains(if empty { "is empty" } else { "is no certificate" }), "{said}");
        std::fs::remove_file(tls(file)).unwrap();
        assert!(server.refused(&[]).contains("k3s has not been started here as a server"));
        std::fs::write(tls(file), whole).unwrap();
    }
    std::fs::create_dir(server.at("k3s/agent")).unwrap();
    std::fs::remove_dir_all(server.at("k3s/server")).unwrap();
    assert!(server.refused(&[]).contains("this is an agent node"));

    let script = server.at("script");
    std::fs::copy(shipped("mint-credential"), &script).unwrap();
    for path in [server.dir.path(), &script] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&script);
    let said = text(&command.output().unwrap().stderr);
    assert!(said.contains("only root can read k3s' authorities"), "{said}");
}

#[test]
fn a_name_too_long_for_a_certificate_is_cut_and_stays_distinct() {
    let Some(server) = Server::lasting("3650") else { return };
    let names = ["a", "b"].map(|end| {
        server.minted(&["--for", &format!("{}{end}", "n.".repeat(60))]);
        server.shows(&["-subject"])
    });
    assert!(names[0].starts_with("subject=CN=zeta-bft:n.n.n."), "{names:?}");
    assert_ne!(names[0], names[1]);
}

use super::*;
use crate::config;
use crate::config::paths::Paths;
use crate::doctor::finding::{Group, Level};
use crate::doctor::tree::Tree;
use crate::protocol::types::PersonaId;

const PASSWD: &str = "root:x:0:0\nzeta-otto:x:902:902\nann:x:1000:1000\n";

fn cast() -> Cast {
    let role = Role::Wrapper(PersonaId::new("otto").unwrap());
    Cast { names: [(role, "zeta-otto".to_owned())].into() }
}

/// What is found of zeta-otto with these further groups.
fn of_user(tree: &Tree, groups: &str) -> Vec<(&'static str, Level)> {
    let accounts = Accounts::parse(PASSWD, &format!("zeta-otto:x:902:\n{groups}"));
    let mut section = Section::new(Group::Rights);
    check_users(&tree.node(), &cast(), &accounts, &BTreeMap::new(), &mut section);
    section.findings.iter().map(|finding| (finding.id, finding.level)).collect()
}

fn plain() -> Tree {
    Tree::new().file("/etc/sudoers", "root ALL=(ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n").mode("/", 0o755)
}

#[test]
fn an_ai_with_nothing_beyond_its_own_is_well() {
    assert_eq!(of_user(&plain(), "docker:x:998:ann\nsudo:x:27:ann\n"), []);
}

#[test]
fn an_ai_in_a_group_that_is_root_is_an_error() {
    for group in ["wheel", "admin", "docker", "lxd", "disk", "shadow", "libvirt"] {
        let found = of_user(&plain(), &format!("{group}:x:998:zeta-otto\n"));
        assert_eq!(found, [("root-group", Level::Error)], "{group}");
    }
    let found = of_user(&plain(), "sudo:x:27:zeta-otto\n");
    assert_eq!(found, [("root-group", Level::Error), ("sudo-root", Level::Error)]);
}

#[test]
fn a_group_that_only_reads_is_noted_and_no_more() {
    assert_eq!(of_user(&plain(), "systemd-journal:x:101:zeta-otto\n"), [("reading-group", Level::Ok)]);
    assert_eq!(of_user(&plain(), "staff:x:50:zeta-otto\n"), [("wide-group", Level::Warning)]);
}

#[test]
fn sudo_for_everything_is_an_error_and_for_one_command_a_warning() {
    let sudoers = |line: &str| Tree::new().file("/etc/sudoers", line);
    assert_eq!(of_user(&sudoers("zeta-otto ALL=(ALL) NOPASSWD: ALL\n"), ""), [("sudo-root", Level::Error)]);
    assert_eq!(of_user(&sudoers("zeta-otto ALL=(root) /bin/true\n"), ""), [("sudo-command", Level::Warning)]);
    assert_eq!(of_user(&sudoers("zeta-otto ALL=(ann) /bin/true\n"), ""), [("sudo-other", Level::Warning)]);
}

#[test]
fn what_sudo_itself_says_counts_more_than_its_files() {
    let tree = Tree::new().file("/etc/sudoers", "zeta-otto ALL=(ALL) ALL\n");
    let accounts = Accounts::parse(PASSWD, "");
    let said = BTreeMap::from([("zeta-otto".to_owned(), SudoRights::default())]);
    let mut section = Section::new(Group::Rights);
    check_users(&tree.node(), &cast(), &accounts, &said, &mut section);
    assert_eq!(section.findings, []);
}

#[test]
fn a_container_socket_that_an_ai_may_write_is_an_error() {
    // A regular file stands for the socket: only its bits are looked at.
    let tree = plain().file("/run/docker.sock", "").mode("/run/docker.sock", 0o660).owner("/run/docker.sock", 0, 998);
    assert_eq!(of_user(&tree, "engine:x:998:ann\n"), []);
    assert_eq!(of_user(&tree, "engine:x:998:zeta-otto\n"), [("root-socket", Level::Error)]);
    let tree = tree.mode("/run", 0o700);
    assert_eq!(of_user(&tree, "engine:x:998:zeta-otto\n"), []);
}

#[test]
fn a_kubeconfig_that_everybody_reads_is_a_warning() {
    let tree = plain().file(KUBECONFIG, "").mode(KUBECONFIG, 0o600);
    assert_eq!(of_user(&tree, ""), []);
    assert_eq!(of_user(&tree.mode(KUBECONFIG, 0o644), ""), [("kubeconfig-readable", Level::Warning)]);
}

#[test]
fn a_polkit_rule_that_names_an_ai_is_a_warning_and_ours_is_none() {
    let rule = "polkit.addRule(function(a, s) { if (s.user == \"zeta-otto\" && a.id == \"org.freedesktop.systemd1.manage-units\") return polkit.Result.YES; });";
    let tree = plain().file("/etc/polkit-1/rules.d/49-zeta-bft.rules", rule);
    assert_eq!(of_user(&tree, ""), []);
    let tree = tree.file("/usr/share/polkit-1/rules.d/10-other.rules", rule);
    assert_eq!(of_user(&tree, ""), [("polkit-rule", Level::Warning)]);
    let rule = "if (subject.isInGroup('ops')) return polkit.Result.YES;";
    let tree = plain().file("/etc/polkit-1/rules.d/10-ops.rules", rule);
    assert_eq!(of_user(&tree, "ops:x:77:ann\n"), []);
    assert_eq!(of_user(&tree, "ops:x:77:zeta-otto\n"), [("polkit-rule", Level::Warning)]);
}

fn settings(more: &str) -> Settings {
    let text = format!("{}\n{more}", config::default_up_toml(false));
    config::parse(&text, "node.toml", &Paths::below("/d".as_ref())).unwrap()
}

fn of_files(tree: &Tree, more: &str) -> Vec<(&'static str, String, String)> {
    let accounts = Accounts::parse(PASSWD, "ops:x:77:zeta-otto\n");
    let mut section = Section::new(Group::Rights);
    let program = Path::new("/usr/bin/zeta-bft");
    check_files(&tree.node(), Some(&settings(more)), program, &[], &accounts, &mut section);
    section.findings.into_iter().map(|finding| (finding.id, finding.subject, finding.fix.unwrap_or_default())).collect()
}

const RUNG: &str = "[[personas.otto.ladder]]\naction = \"run\"\nargv = [\"/opt/mend\", \"/opt/cli.tgz\", \"/opt\"]\n";

fn rungs() -> Tree {
    plain().file("/usr/bin/zeta-bft", "").file("/opt/mend", "").file("/opt/cli.tgz", "")
}

#[test]
fn what_only_root_can_write_may_run_as_root() {
    assert_eq!(of_files(&rungs(), RUNG), []);
}

#[test]
fn a_rung_that_an_ai_can_write_is_an_error() {
    let found = of_files(&rungs().owner("/opt/mend", 902, 902), RUNG);
    assert_eq!(found, [("rung-writable", "/opt/mend".to_owned(), "chown root /opt/mend".to_owned())]);
    let tree = rungs().owner("/opt", 0, 77).mode("/opt", 0o775);
    let found = of_files(&tree, RUNG);
    assert_eq!(
        found.iter().map(|(id, path, _)| (*id, path.as_str())).collect::<Vec<_>>(),
        [("rung-writable", "/opt/mend"), ("rung-writable", "/opt/cli.tgz")]
    );
}

#[test]
fn a_file_that_root_reads_counts_like_the_command() {
    let found = of_files(&rungs().mode("/opt/cli.tgz", 0o666), RUNG);
    assert_eq!(found, [("rung-writable", "/opt/cli.tgz".to_owned(), "chmod o-w /opt/cli.tgz".to_owned())]);
}

#[test]
fn a_rung_that_is_not_there_can_only_fail() {
    let found = of_files(&rungs().gone("/opt/mend"), RUNG);
    assert_eq!(found[0].0, "command-missing");
}

#[test]
fn a_program_unit_folder_or_page_command_that_others_can_write_is_an_error() {
    let tree =
        rungs().mode("/usr/bin/zeta-bft", 0o757).folder("/etc/systemd/system").mode("/etc/systemd/system", 0o777);
    let tree = tree.file("/opt/page", "").mode("/opt/page", 0o757);
    let found = of_files(&tree, "[page]\ncommand = [\"/opt/page\"]\n");
    let ids: Vec<_> = found.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, ["program-writable", "unit-writable", "page-writable"]);
}

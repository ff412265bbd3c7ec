//! What is never automatic, whatever is configured.

use crate::config::never;
use std::path::Path;

#[test]
fn what_is_never_automatic_is_refused_however_it_is_spelled() {
    let argv = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in [
        "/usr/local/bin/k3s server --cluster-reset",
        "/usr/local/bin/k3s certificate rotate-ca --path /x",
        "/bin/rm -rf /var/lib/rancher/k3s/server/tls",
        "/bin/rm -rf /var/lib/rancher/k3s//server/./tls",
        "/bin/sh -c 'rm /var/lib/rancher/k3s/server/\"cred\"/passwd'",
        "/bin/mv /var/lib/rancher/k3s/server/db/state.db /tmp",
        "/bin/rm x.db-wal",
        "/usr/local/bin/k3s-uninstall.sh",
        "/usr/bin/kubectl delete node n1",
        "/usr/bin/timedatectl set-time 12:00",
    ] {
        for consent in [false, true] {
            let found = never::check_command(&argv(line), consent);
            assert!(matches!(found, Err(never::Never::Always { .. })), "{line}: {found:?}");
        }
    }
    for line in ["/usr/local/bin/k3s-killall.sh", "/usr/local/bin/k3s certificate rotate", "/sbin/reboot"] {
        let found = never::check_command(&argv(line), false);
        assert!(matches!(found, Err(never::Never::WithoutOperator { .. })), "{line}: {found:?}");
        assert_eq!(never::check_command(&argv(line), true), Ok(()), "{line}");
    }
    assert_eq!(never::check_command(&argv("/usr/bin/npm install --global @openai/codex"), false), Ok(()));
}

#[test]
fn only_files_below_few_folders_are_moved_or_copied_aside() {
    let state = Path::new("/var/lib/zeta-bft");
    let check = |path, copy| never::check_path(path, copy, state);
    assert_eq!(check("/var/lib/rancher/k3s/agent/client-kubelet.key", false), Ok(()));
    assert_eq!(check("/var/lib/rancher/k3s/server/db", true), Ok(()));
    assert_eq!(check("/var/lib/rancher/k3s/server/db/state.db-wal", true), Ok(()));
    assert_eq!(check("/var/lib/zeta-bft/agent-otto/last.receipt", false), Ok(()));
    // Of that folder only empty keys are moved.
    assert_eq!(check("/var/lib/rancher/k3s/agent", false), Ok(()));
    for path in [
        "agent/x",
        "/",
        "/var/lib/rancher/k3s/agent/../server/tls",
        "/var/lib/rancher/k3s/agent//x",
        "/var/lib/rancher/k3s/agent/./x",
        "/var/lib/rancher/k3s/agent/",
    ] {
        assert!(matches!(check(path, true), Err(never::Never::NotNormal(_))), "{path}");
    }
    for path in ["/var/lib/rancher/k3s/agents/x", "/etc/passwd", "/var/lib/zeta-bft", "/var/lib/rancher/k3s"] {
        for copy in [false, true] {
            assert!(matches!(check(path, copy), Err(never::Never::Outside { .. })), "{path}");
        }
    }
    let containers_and_all = check("/var/lib/rancher/k3s/agent", true);
    assert!(matches!(containers_and_all, Err(never::Never::Outside { .. })), "{containers_and_all:?}");
    for path in
        ["/var/lib/rancher/k3s/server/db", "/var/lib/rancher/k3s/server/tls", "/var/lib/zeta-bft/warden/warden.journal"]
    {
        assert!(matches!(check(path, false), Err(never::Never::Always { .. })), "{path}");
    }
}

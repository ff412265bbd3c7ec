//! The committee ends when it is asked to, leaves nothing behind, and goes on where it was.

use super::node::{Config, Folder, PATIENCE, comes_true, is_alive, kill, pids_in, processes_naming, tick};
use rustix::process::Signal;
use zeta_bft::protocol::record::Record;

fn ends_and_goes_on(signal: Signal) {
    let folder = Folder::new();
    let pids = folder.file("pids");
    let ticks =
        format!("date; setsid -f sh -c 'echo $$ >> {pids}; exec sleep 1000'; echo $$ >> {pids}; exec sleep 1000");
    let config = Config::default().everybody(&tick(&ticks, "10m"));
    let node = folder.up(&config, &[]);
    let old = node.unit("lior");
    kill(node.pid("lior"), Signal::KILL);
    node.wait_replaced("lior", &old);
    node.wait_until(PATIENCE, "every tick runs", || pids_in(&pids).len() >= 8);
    let budgets = |node: &super::node::Node| {
        let quorum = node.quorum();
        ["otto", "lior", "vera"].map(|name| quorum.subject(name)["budget"].clone())
    };
    let (spent, records, history) = (budgets(&node), node.journal().len(), node.history());
    assert!(spent[1].as_u64() < spent[0].as_u64(), "{spent:?}");

    let paths = node.paths.clone();
    let (status, folder) = node.stop(signal);
    assert_eq!(status.code(), Some(0));
    assert_eq!(processes_naming(folder.path()), [0_u32; 0]);
    let left: Vec<_> = pids_in(&pids).into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "ticks {left:?} outlived their committee");
    let served = std::fs::read_dir(paths.run()).unwrap().map(|entry| entry.unwrap().path());
    let served: Vec<_> = served.filter(|path| !path.is_dir() || path.read_dir().unwrap().next().is_some()).collect();
    assert!(served.is_empty(), "{served:?}");

    let node = folder.up(&config, &[]);
    assert_eq!(budgets(&node), spent);
    assert_eq!(node.history(), history);
    let journal = node.journal();
    assert!(journal.len() > records, "the journal goes on");
    let boots = journal.iter().filter(|record| matches!(record, Record::Boot { .. })).count();
    assert_eq!(boots, 2);
    let old = node.unit("vera");
    kill(node.pid("vera"), Signal::KILL);
    node.wait_replaced("vera", &old);
    node.verify();
    node.nobody_is_accused();
}

#[test]
fn after_sigterm_no_child_is_left_and_the_next_up_goes_on_with_journal_and_budgets() {
    ends_and_goes_on(Signal::TERM);
}

#[test]
fn after_ctrl_c_no_child_is_left_and_the_next_up_goes_on_with_journal_and_budgets() {
    ends_and_goes_on(Signal::INT);
}

#[test]
fn a_rung_ends_with_the_up_that_began_it() {
    let folder = Folder::new();
    let (page, rung) = (folder.file("page-pids"), folder.file("rung-pids"));
    let lingers = |pids: &str| {
        format!("setsid -f sh -c 'echo $$ >> {pids}; exec sleep 1000'; sleep 1000 & echo $! >> {pids}; wait")
    };
    let config = Config::default().with(&format!(
        "[page]\ncommand = [\"/bin/sh\", \"-c\", \"{}\"]\nlimit = \"10m\"\n\
         [[personas.vera.ladder]]\naction = \"page\"\n[[personas.vera.ladder]]\naction = \"restart\"\n\
         [[personas.lior.ladder]]\naction = \"run\"\nargv = [\"/bin/sh\", \"-c\", \"{}\"]\nlimit = \"10m\"\n",
        lingers(&page),
        lingers(&rung)
    ));
    let mut node = folder.up(&config, &["--drill"]);
    kill(node.pid("vera"), Signal::KILL);
    node.wait_until(PATIENCE, "a human is called", || pids_in(&page).len() >= 2);
    kill(node.pid("lior"), Signal::KILL);
    node.wait_until(PATIENCE, "the rung runs", || pids_in(&rung).len() >= 2);
    node.kill_up();
    let running = || [&page, &rung].into_iter().flat_map(|file| pids_in(file)).filter(|pid| is_alive(*pid));
    let ended = comes_true(PATIENCE, &mut || running().count() == 0);
    running().for_each(|pid| kill(pid, Signal::KILL));
    assert!(ended, "a rung or a page outlived its `up`");
    assert!(comes_true(PATIENCE, &mut || processes_naming(node.path()).is_empty()), "nothing else is left");
}

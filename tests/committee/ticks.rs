//! What a persona's ticks say of it: broken, out of quota, or merely asleep.

use super::node::{Config, Folder, PATIENCE, kill, lines_in, tick};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_persona_whose_every_tick_fails_goes_up_its_ladder_is_held_and_paged_and_blocks_nobody() {
    let folder = Folder::new();
    let (broken, ran, paged) = (folder.file("broken"), folder.file("ran"), folder.file("paged"));
    let ladder = format!(
        "[[personas.lior.ladder]]\naction = \"restart\"\n\
         [[personas.lior.ladder]]\naction = \"run\"\nargv = [\"/bin/sh\", \"-c\", \"echo ran >> {ran}\"]\nlimit = \"5s\"\n"
    );
    let config = Config::default()
        .persona("lior", tick(&format!("test ! -e {broken} && date"), "200ms"))
        .with(&format!("{ladder}[policy]\ncool_down = \"100ms\"\ncool_down_max = \"500ms\"\n"))
        .paging(&paged);
    let node = folder.up(&config, &[]);
    std::fs::write(&broken, "").unwrap();
    node.wait_until(PATIENCE, "lior's ladder begins", || !node.intents("lior").is_empty());
    let old = node.unit("vera");
    kill(node.pid("vera"), Signal::KILL);
    node.wait_replaced("vera", &old);
    node.wait_until(PATIENCE * 2, "lior is held for its ladder", || {
        let quorum = node.quorum();
        let lior = quorum.subject("lior");
        lior["state"] == "held" && lior["held_by"] == "ladder"
    });
    let rungs: Vec<_> = node.intents("lior").iter().map(|intent| (intent.rung.0, intent.action.to_string())).collect();
    assert_eq!(rungs, [(0, "restart".to_owned()), (1, "run".to_owned())]);
    assert!(node.intents("lior").iter().all(|intent| intent.class.to_string() == "BROKEN"));
    assert_eq!(lines_in(&ran), 1);
    node.wait_until(PATIENCE, "a human is called", || lines_in(&paged) > 0);
    assert!(node.log().contains("page: "), "a page is a log event");
    assert!(node.metric("zeta_bft_pages_total", &["ladder"]) >= 1.0);

    let (run, starts) = (node.unit("lior").incarnation, node.starts("lior"));
    node.holds_for(Duration::from_secs(5), "lior stays held", || node.quorum().subject("lior")["held_by"] == "ladder");
    assert_eq!((node.unit("lior").incarnation, node.starts("lior")), (run, starts));
    assert_eq!(lines_in(&paged), 1, "{}", std::fs::read_to_string(&paged).unwrap());
    let old = node.unit("otto");
    kill(node.pid("otto"), Signal::KILL);
    node.wait_replaced("otto", &old);
    node.verify();
}

#[test]
fn a_command_on_a_rung_is_judged_by_the_next_tick_and_not_by_those_before_it() {
    let folder = Folder::new();
    let broken = folder.file("broken");
    let ladder = format!(
        "[[personas.lior.ladder]]\naction = \"run\"\nargv = [\"/bin/rm\", \"{broken}\"]\nlimit = \"5s\"\n\
         [[personas.lior.ladder]]\naction = \"restart\"\n"
    );
    let config = Config::default().persona("lior", tick(&format!("test ! -e {broken} && date"), "500ms")).with(&ladder);
    let node = folder.up(&config, &[]);
    let old = node.unit("lior").incarnation;
    std::fs::write(&broken, "").unwrap();
    node.wait_until(PATIENCE, "the command has run", || !node.history().is_empty());
    node.wait_healthy();
    let rungs: Vec<_> = node.intents("lior").iter().map(|intent| (intent.rung.0, intent.action.to_string())).collect();
    assert_eq!(rungs, [(0, "run".to_owned())]);
    assert_eq!(node.unit("lior").incarnation, old);
    node.verify();
}

#[test]
fn a_persona_out_of_quota_is_never_restarted_and_shown_with_the_time_it_resumes() {
    let folder = Folder::new();
    let (empty, ticks) = (folder.file("empty"), folder.file("ticks"));
    let script = format!(
        "echo tick >> {ticks}; if test -e {empty}; then echo 'quota exceeded, try again at 3pm'; exit 1; fi; date"
    );
    let node = folder.up(&Config::default().persona("lior", tick(&script, "100ms")), &[]);
    let old = node.unit("lior").incarnation;
    std::fs::write(&empty, "").unwrap();
    node.wait_until(PATIENCE, "lior's quota shows", || {
        let quorum = node.quorum();
        let lior = quorum.subject("lior");
        lior["fault_class"] == "ENVIRONMENT" && lior["resume_at"].is_string()
    });
    let begun = lines_in(&ticks);
    node.wait_until(PATIENCE, "thirty more ticks fail", || lines_in(&ticks) >= begun + 30);
    let quorum = node.quorum();
    let lior = quorum.subject("lior");
    assert_eq!(lior["fault_class"], "ENVIRONMENT", "{quorum}");
    // Three in the afternoon where the tick runs; shown in UTC, so only the minute is known.
    assert!(lior["resume_at"].as_str().unwrap().contains(":00:00"), "{quorum}");
    assert_eq!(node.unit("lior").incarnation, old);
    assert!(node.receipts().is_empty());
    std::fs::remove_file(&empty).unwrap();
    node.wait_healthy();
}

#[test]
fn a_persona_asleep_between_two_ticks_is_healthy() {
    let folder = Folder::new();
    let ticks = folder.file("ticks");
    let node = folder.up(&Config::default().everybody(&tick(&format!("date | tee -a {ticks}"), "10m")), &[]);
    // Sixty heartbeats, and no tick among them.
    node.holds_for(Duration::from_secs(15), "everything is healthy", || node.quorum().code == 0);
    assert_eq!(lines_in(&ticks), 3);
    assert!(node.receipts().is_empty());
    assert_eq!(node.log().matches("started unit=").count(), 7);
}

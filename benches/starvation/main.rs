//! Whether anybody who was not harmed is repaired while the node starves, beside what serf makes of the same hour.
//!
//! ```text
//! cargo bench --bench starvation                                   # 30 minutes; needs stress-ng and serf
//! ZETA_BFT_MINUTES=6 ZETA_BFT_SEED=7 cargo bench --bench starvation
//! ```
//!
//! A committee under `up --drill`, so that no budget ends the run, and three members of serf beside it. One want after the other
//! holds for a while ([`pressure`]). Meanwhile one deed at a time, drawn from the seed, is done to a process of ours and to a
//! member of serf alike:
//!
//! | deed | is harm |
//! |---|---|
//! | kill a wrapper or an agent; stop a wrapper for good | yes: it must run anew |
//! | stop an agent for seconds, and let it go on | yes: it may be replaced |
//! | stop a wrapper or an agent for at most 300 ms; give an agent the lowest priority for seconds; nothing at all | no |
//!
//! A *wrong action* is an INTENT against a run that was not harmed. A *false suspicion* is one agent's DOWN, or one member's
//! `Suspect`, about who was not harmed. Detection lasts until a new process runs with us, and until both others report the member
//! as failed with serf, which repairs nothing.
//!
//! Writes `starvation.json`, `starvation.svg` and what the committee said into `target/starvation` (`ZETA_BFT_RECORD` names another folder), and fails if
//! one action was wrong.

mod deeds;
#[path = "../../tests/committee/node.rs"]
#[allow(dead_code, reason = "the claims use all of it")]
mod node;
mod plot;
mod pressure;
#[path = "../../tests/committee/quorum.rs"]
#[allow(dead_code, reason = "the claims use all of it")]
mod quorum;
mod record;
#[path = "../../tests/sim/rng.rs"]
#[allow(dead_code, reason = "the simulator uses all of it")]
mod rng;
mod serf;
#[path = "../../tests/committee/turn.rs"]
#[allow(dead_code, reason = "the claims use all of it")]
mod turn;

use deeds::Stage;
use node::{Config, Folder};
use pressure::Pressure;
use record::Record;
use rng::Rng;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use zeta_bft::clock;

/// Each want comes at least twice in half an hour.
const TURNS: u32 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--test") {
        println!("starvation: run it with `cargo bench --bench starvation`");
        return ExitCode::SUCCESS;
    }
    for (program, version) in [("stress-ng", "--version"), ("serf", "version")] {
        let ran = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !ran.is_ok_and(|status| status.success()) {
            println!("starvation: skipped: {program} is missing (apt-get install stress-ng serf)");
            return ExitCode::SUCCESS;
        }
    }
    let (record, log) = measure(Duration::from_secs(60 * number("ZETA_BFT_MINUTES", 30)), number("ZETA_BFT_SEED", 1));
    let folder = std::env::var_os("ZETA_BFT_RECORD").map_or_else(|| PathBuf::from("target/starvation"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("the record's folder");
    std::fs::write(folder.join("starvation.json"), record.json()).expect("the record");
    std::fs::write(folder.join("committee.log"), log).expect("what the committee said");
    plot::draw(&record, &folder.join("starvation.svg")).expect("the plot");
    println!("{record}");
    println!("record: {}", folder.display());
    if record.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let value = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number"));
    std::env::var(name).map_or(otherwise, value)
}

fn measure(time: Duration, seed: u64) -> (Record, String) {
    println!("seed {seed}, {} minutes", time.as_secs() / 60);
    let mut rng = Rng::new(seed);
    let node = Folder::alone().up(&Config::default(), &["--drill"]);
    let scratch = tempfile::tempdir().expect("a folder for what stress-ng writes");
    let mut stage = Stage::new(node, serf::Ring::start(), seed);
    let wants = || Pressure::ALL.into_iter().cycle().take(Pressure::ALL.len() * TURNS as usize);
    let each = time / u32::try_from(wants().count()).expect("few");
    for pressure in wants() {
        let mut load = pressure.begin(scratch.path());
        let began = clock::now();
        stage.under(pressure);
        while clock::now().saturating_since(began) < each {
            stage.step(&mut rng);
            assert!(load.holds(), "stress-ng ended under {}", pressure.name());
        }
        drop(load);
        println!("{}", stage.line());
    }
    stage.end()
}

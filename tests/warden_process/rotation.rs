//! Rosters that follow one another, with real wardens.

use crate::node::Node;
use std::path::Path;
use zeta_bft::keys;
use zeta_bft::protocol::types::PersonaId;
use zeta_bft::wire::v1;

fn new_key(path: &Path) {
    std::fs::remove_file(path).unwrap();
    keys::save(path, &keys::generate()).unwrap();
}

#[tokio::test]
async fn new_keys_and_their_roster_are_taken_over_with_all_that_the_journal_holds() {
    let node = Node::new();
    let mut warden = node.start();
    node.ready().await;
    let hold = v1::HoldRequest { subject: Some("lior".into()), for_seconds: None, reason: "upgrade".into() };
    node.operator().await.hold(hold).await.unwrap();
    assert!(warden.drained().await.success());

    let first = std::fs::read(node.paths.roster()).unwrap();
    new_key(&node.paths.warden_key());
    new_key(&node.paths.persona_key(&PersonaId::new("vera").unwrap()));
    let (code, said) = node.refused();
    assert!(code == Some(1) && said.contains("sign a roster that names this key"), "{said}");
    let (well, said) = node.run(&["roster", "sign"]);
    assert!(well && said.contains("vera has a new key\nthe warden has a new key\nkept roster 1 as "), "{said}");
    assert_eq!(std::fs::read(node.paths.roster_of(1)).unwrap(), first);

    let mut warden = node.start();
    node.ready().await;
    let view = node.quorum().await;
    assert_eq!((view.roster_epoch, view.holds.len(), view.warden_instance.as_str()), (2, 1, "2"));
    assert!(warden.drained().await.success());
    let (well, said) = node.run(&["verify", node.paths.journal().to_str().unwrap()]);
    assert!(well && said.contains("roster 1") && said.contains("roster 2"), "{said}");

    // Back to the old one: its keys may be in wrong hands by now.
    std::fs::write(node.paths.roster(), first).unwrap();
    let (code, said) = node.refused();
    assert!(code == Some(1), "{said}");
}

#[tokio::test]
async fn a_roster_that_was_rolled_back_is_refused_with_both_numbers() {
    let node = Node::new();
    let vera = node.paths.persona_key(&PersonaId::new("vera").unwrap());
    let first = std::fs::read(node.paths.roster()).unwrap();
    new_key(&vera);
    assert!(node.run(&["roster", "sign"]).0);
    let mut warden = node.start();
    node.ready().await;
    assert!(warden.drained().await.success());
    std::fs::write(node.paths.roster(), first).unwrap();
    let (code, said) = node.refused();
    assert_eq!(code, Some(1));
    assert!(said.contains("the journal goes on from roster 2") && said.contains("rolled back"), "{said}");
}

#[test]
fn a_roster_that_would_say_the_same_is_not_signed() {
    let node = Node::new();
    let (well, said) = node.run(&["roster", "sign"]);
    assert!(!well && said.contains("nothing was signed"), "{said}");
    assert!(!node.paths.roster_of(1).exists());
}

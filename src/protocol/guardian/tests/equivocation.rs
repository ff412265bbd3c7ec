//! Two statements with one number: who proves what against whom, and what is no fault.

use super::alone::*;
use super::*;

#[test]
fn a_restart_of_the_warden_never_makes_a_correct_guardian_equivocate() {
    let mut alone = Alone::well();
    let mut said = BTreeMap::new();
    for number in 11..15 {
        alone.step(GuardianInput::WardenLost);
        alone.unit("otto", Some(killed(2)));
        alone.run(700);
        alone.connect(number);
        let mut anew = episode("otto", 2, 0, StateName::Healthy);
        anew.id = EpisodeId::new(WardenInstance(number), 1);
        alone.publish(anew);
        alone.run(700);
        alone.unit("otto", Some(running(2)));
        alone.run(300);
    }
    let key = VerifyingKey::new(session_key("lior").public()).unwrap();
    for effect in &alone.out {
        let (GuardianEffect::ToWarden(envelope) | GuardianEffect::Broadcast(envelope)) = effect else { continue };
        let Ok(statement) = GuardianStatement::open(envelope, &key, &Proto) else { continue };
        let header = statement.header();
        let known = said.entry(header.seq).or_insert(envelope.digest());
        assert_eq!(*known, envelope.digest(), "number {} was used twice", header.seq);
    }
    assert!(said.len() > 20);
    assert!(alone.votes().iter().any(|vote| vote.header.incarnation.to_string() == "1.14"));
}

#[test]
fn two_statements_with_one_number_are_proven_at_once_and_cost_the_liar_our_ear() {
    let mut alone = Alone::well();
    let seq = alone.speaking.remove("otto").unwrap() - 1;
    alone.peer("otto", heartbeat_of("otto", seq, 1, Vec::new()));
    assert_eq!(alone.proofs(), 1);
    assert!(alone.out.iter().any(|effect| matches!(effect, GuardianEffect::ProofToWarden(_))));
    alone.peer("otto", heartbeat_of("otto", seq + 1, 0, Vec::new()));
    assert_eq!(alone.rejected(), ["quarantined"]);
    alone.run(3_000);
    assert_eq!(alone.says("otto/agent"), (UNKNOWN, Some(FaultClass::Unknown), Reason::CannotSee));
    alone.out.clear();
    alone.peer("otto", mint("otto", &key("otto's next session"), 21));
    let guilty = alone.guardian.view(Timestamp::ZERO).peers.iter().any(|peer| peer.guilty);
    assert!(!guilty, "a session that the warden mints afterwards ends it");
}

#[test]
fn a_lie_told_to_another_peer_is_fetched_and_proven_within_a_heartbeat() {
    let mut alone = Alone::well();
    let seq = alone.speaking["otto"] - 1;
    let lie = heartbeat_of("otto", seq, 1, Vec::new());
    let head = Head { persona: persona("otto"), session_key: session_key("otto").public(), seq, digest: lie.digest() };
    let next = alone.speaking["vera"];
    alone.peer("vera", heartbeat_of("vera", next, 0, vec![head]));
    let fetch = GuardianEffect::Fetch { from: persona("vera"), session_key: session_key("otto").public(), seq };
    assert!(alone.out.contains(&fetch));
    let session = mint("otto", &session_key("otto"), 20);
    alone.step(GuardianInput::Fetched { session, statement: lie });
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn a_statement_that_the_warden_shows_is_compared_and_proves_what_it_contradicts() {
    let mut alone = Alone::well();
    let seq = alone.speaking["otto"] - 1;
    alone.step(GuardianInput::FromWarden(heartbeat_of("otto", seq, 0, Vec::new())));
    alone.step(GuardianInput::FromWarden(heartbeat_of("otto", seq + 50, 0, Vec::new())));
    assert_eq!((alone.proofs(), alone.rejected()), (0, vec![]));
    alone.step(GuardianInput::FromWarden(heartbeat_of("otto", seq, 1, Vec::new())));
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn a_session_asked_for_under_anothers_key_hides_no_lie_of_that_one() {
    let mut alone = Alone::well();
    let seq = alone.speaking.remove("vera").unwrap() - 1;
    alone.speaking.remove("otto");
    alone.peer("otto", mint("otto", &session_key("vera"), 21));
    assert!(alone.guardian.held(&session_key("vera").public(), seq).is_some());
    alone.step(GuardianInput::FromWarden(heartbeat_of("vera", seq, 1, Vec::new())));
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn every_statement_of_a_peer_is_named_in_the_next_heartbeat_even_when_another_followed() {
    let mut alone = Alone::well();
    let next = alone.speaking.remove("otto").unwrap();
    for seq in next..next + 3 {
        alone.peer("otto", heartbeat_of("otto", seq, 0, Vec::new()));
    }
    alone.run(300);
    let named = alone.named("otto");
    assert!((next..next + 3).all(|seq| named.contains(&seq)), "{named:?}");
    assert!(alone.guardian.held(&session_key("otto").public(), next).is_some(), "and a peer can fetch it");
}

#[test]
fn a_lie_followed_by_many_statements_is_still_named() {
    let mut alone = Alone::well();
    let next = alone.speaking.remove("otto").unwrap();
    for seq in next..next + 200 {
        alone.peer("otto", heartbeat_of("otto", seq, 0, Vec::new()));
    }
    alone.run(300);
    assert!(alone.named("otto").contains(&next), "the first is named first");
    // As fast as anybody may speak, without end, and one more of another's.
    alone.speaking.remove("vera");
    let mut said = next + 200;
    for _ in 0..40 {
        for seq in said..said + 25 {
            alone.peer("otto", heartbeat_of("otto", seq, 0, Vec::new()));
        }
        said += 25;
        alone.run(250);
    }
    alone.peer("vera", heartbeat_of("vera", 500, 0, Vec::new()));
    alone.peer("vera", heartbeat_of("vera", 501, 0, Vec::new()));
    alone.run(300);
    let (of_otto, of_vera) = (alone.named("otto"), alone.named("vera"));
    assert!((next..said).all(|seq| of_otto.contains(&seq)), "of {} {} were named", said - next, of_otto.len());
    assert!(of_vera.contains(&500));
}

/// A liar opens another session for its key and shows it to nobody but the warden.
#[test]
fn a_session_withheld_from_peers_hides_no_second_face() {
    for fetched in [false, true] {
        let mut alone = Alone::well();
        let seq = alone.speaking.remove("otto").unwrap() - 1;
        let lie = heartbeat_under(21, "otto", seq, 1, Vec::new());
        if fetched {
            let session = mint("otto", &session_key("otto"), 21);
            alone.step(GuardianInput::Fetched { session, statement: lie });
        } else {
            alone.step(GuardianInput::FromWarden(lie));
        }
        assert_eq!((alone.proofs(), alone.rejected()), (1, vec![]));
    }
}

#[test]
fn a_proof_found_while_the_warden_was_away_reaches_it_whatever_session_the_liar_shows_first() {
    let mut alone = Alone::well();
    alone.step(GuardianInput::WardenLost);
    let seq = alone.speaking.remove("otto").unwrap() - 1;
    alone.peer("otto", heartbeat_of("otto", seq, 1, Vec::new()));
    assert_eq!(alone.proofs(), 1);
    alone.peer("otto", mint("otto", &session_key("otto"), 21));
    alone.out.clear();
    alone.connect(12);
    assert!(alone.out.iter().any(|effect| matches!(effect, GuardianEffect::ProofToWarden(_))));
    // To others it is old news, which would cost otto their ear anew.
    alone.step(GuardianInput::PeerConnected(persona("vera")));
    assert!(!alone.out.iter().any(|effect| matches!(effect, GuardianEffect::ProofToPeer(..))));
}

/// Its own heads are its own choice: one heartbeat is worth one question for each of the others.
#[test]
fn made_up_heads_make_a_guardian_ask_once_for_each_persona() {
    let mut alone = Alone::well();
    let (last, next) = (alone.speaking["otto"] - 1, alone.speaking["vera"]);
    let key = session_key("otto").public();
    let made_up = |seq| Head { persona: persona("otto"), session_key: key, seq, digest: Digest([7; 32]) };
    alone.peer("vera", heartbeat_of("vera", next, 0, (1..=last).map(made_up).collect()));
    let fetches = alone.out.iter().filter(|effect| matches!(effect, GuardianEffect::Fetch { .. }));
    assert_eq!(fetches.count(), 1);
}

#[test]
fn gaps_repetitions_and_late_statements_are_no_fault() {
    let mut alone = Alone::well();
    let next = alone.speaking.remove("otto").unwrap();
    for seq in [next + 10, next + 5, next + 5, next + 10, next + 11] {
        alone.peer("otto", heartbeat_of("otto", seq, 0, Vec::new()));
    }
    assert_eq!((alone.proofs(), alone.rejected()), (0, vec![]));
}

#[test]
fn a_proof_is_checked_before_it_counts_and_spread_once() {
    let mut alone = Alone::well();
    let session = mint("otto", &session_key("otto"), 20);
    let (first, second) = (heartbeat_of("otto", 500, 0, vec![]), heartbeat_of("otto", 500, 1, vec![]));
    let proof = EquivocationProof { session, first: first.clone(), second };
    for forged in [
        EquivocationProof { second: first.clone(), ..proof.clone() },
        EquivocationProof { second: heartbeat_of("otto", 501, 1, vec![]), ..proof.clone() },
        EquivocationProof { second: heartbeat_of("vera", 500, 1, vec![]), ..proof.clone() },
        EquivocationProof { session: mint("otto", &session_key("vera"), 20), ..proof.clone() },
    ] {
        alone.step(GuardianInput::ProofFromPeer(forged));
    }
    assert_eq!(alone.proofs(), 0);
    assert_eq!(alone.rejected(), ["bad_proof", "bad_proof", "wrong_key", "wrong_key"]);
    alone.step(GuardianInput::ProofFromPeer(proof.clone()));
    alone.step(GuardianInput::ProofFromPeer(proof));
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn of_two_sessions_that_answer_two_requests_the_newer_is_spoken_under() {
    let mut alone = Alone::well();
    alone.step(GuardianInput::SessionOpened(mint("lior", &session_key("lior"), 11)));
    assert!(alone.out.contains(&GuardianEffect::Event(GuardianEvent::SessionOpened)) && alone.rejected().is_empty());
}

#[test]
fn a_session_that_is_older_or_comes_without_a_warden_is_refused() {
    let mut alone = Alone::well();
    // Newer, but nobody is there.
    alone.step(GuardianInput::WardenLost);
    alone.step(GuardianInput::SessionOpened(mint("lior", &session_key("lior"), 11)));
    // Asked for, but older, and the very same.
    for number in [9, 10] {
        alone.connect(number);
    }
    assert_eq!(alone.rejected(), ["stale_session"; 3]);
    alone.out.clear();
    alone.connect(12);
    assert!(alone.out.contains(&GuardianEffect::Event(GuardianEvent::SessionOpened)) && alone.rejected().is_empty());
}

#[test]
fn a_peer_that_connects_again_and_again_makes_us_say_nothing_to_others() {
    let mut alone = Alone::well();
    let seq = alone.speaking.remove("otto").unwrap() - 1;
    alone.peer("otto", heartbeat_of("otto", seq, 1, Vec::new()));
    assert_eq!(alone.proofs(), 1);
    alone.out.clear();
    for _ in 0..3 {
        alone.step(GuardianInput::PeerConnected(persona("vera")));
    }
    let told =
        |effect: &&GuardianEffect| matches!(effect, GuardianEffect::ProofToPeer(to, _) if *to == persona("vera"));
    assert_eq!(alone.out.iter().filter(told).count(), 3, "who connects may not know it yet");
    assert_eq!(alone.proofs(), 0);
    assert!(!alone.out.iter().any(|effect| matches!(effect, GuardianEffect::Broadcast(_))));
}

#[test]
fn statements_of_another_author_key_or_connection_are_refused() {
    let mut alone = Alone::well();
    let next = alone.speaking["otto"];
    alone.peer("vera", heartbeat_of("otto", next, 0, Vec::new()));
    alone.peer("vera", mint("otto", &key("otto's next session"), 30));
    alone.peer("otto", mint("otto", &key("otto's next session"), 3));
    let mut forged = heartbeat_of("otto", next, 0, Vec::new());
    forged.signature[0] ^= 1;
    alone.peer("otto", forged);
    assert_eq!(alone.rejected(), ["wrong_key", "wrong_author", "stale_session", "bad_signature"]);
}

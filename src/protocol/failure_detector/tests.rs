use super::*;

const PATIENCE: Duration = Duration::from_millis(600);
const PING: Duration = Duration::from_millis(250);

fn at(ms: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(ms)
}

/// Pings every 250 ms, all answered after `round_trip`, from `from` on; returns the time of the next ping.
fn answered(detector: &mut HangDetector, from: u64, count: u64, round_trip: u64) -> u64 {
    for n in 0..count {
        detector.asked(at(from + n * 250));
        detector.heard(at(from + n * 250 + round_trip), Some(Duration::from_millis(round_trip)));
    }
    from + count * 250
}

fn pinged() -> HangDetector {
    let mut detector = HangDetector::of_pings(PING, PATIENCE);
    detector.restart(at(0), at(0));
    detector
}

#[test]
fn silence_needs_two_missed_pings_and_the_patience() {
    let health = SelfHealth::default();
    let mut detector = pinged();
    let next = answered(&mut detector, 0, 8, 1);
    detector.asked(at(next));
    assert_eq!(detector.liveness(at(next + 5_000), &health), Liveness::Answering, "one ping proves nothing");
    detector.asked(at(next + 250));
    // Its last answer came 1 ms after the ping before.
    let over = next - 249 + 600;
    assert_eq!(detector.liveness(at(over - 1), &health), Liveness::Answering);
    assert_eq!(detector.deadline(&health), Some(at(over)));
    assert_eq!(detector.liveness(at(over), &health), Liveness::Silent);
    detector.heard(at(over + 1), Some(Duration::from_millis(352)));
    assert_eq!(detector.liveness(at(over + 2), &health), Liveness::Answering);
}

#[test]
fn what_was_not_asked_in_time_is_not_the_processs_silence() {
    let health = SelfHealth::default();
    let mut detector = pinged();
    let next = answered(&mut detector, 0, 8, 1);
    // The observer pings again only after two seconds.
    detector.asked(at(next + 2_000));
    detector.asked(at(next + 2_001));
    assert_eq!(detector.deadline(&health), Some(at(next + 2_000 - 250 + 600)));
}

#[test]
fn an_answer_that_usually_takes_long_is_given_its_usual_time() {
    let health = SelfHealth::default();
    let mut detector = pinged();
    // The deviation of what never changes dies out: 500 ms each, and 500 ms it is given, though the patience ends before.
    let next = answered(&mut detector, 0, 80, 500);
    detector.asked(at(next));
    detector.asked(at(next + 250));
    let given = detector.deadline(&health).unwrap().saturating_since(at(next));
    assert!((Duration::from_millis(500)..Duration::from_millis(610)).contains(&given), "{given:?}");
}

#[test]
fn slow_answers_lengthen_the_patience_but_not_without_bound() {
    let health = SelfHealth::default();
    let mut slow = pinged();
    let next = answered(&mut slow, 0, 40, 900);
    slow.asked(at(next));
    let patience = slow.deadline(&health).unwrap().saturating_since(at(next));
    assert!(patience > PATIENCE && patience <= PATIENCE * LONGEST, "{patience:?}");
    let mut endless = pinged();
    let next = answered(&mut endless, 0, 40, 60_000);
    endless.asked(at(next));
    assert_eq!(endless.deadline(&health), Some(at(next) + PATIENCE * LONGEST));
}

#[test]
fn an_unwell_observer_is_more_patient_and_recovers() {
    let mut health = SelfHealth::default();
    let mut detector = pinged();
    let next = answered(&mut detector, 0, 8, 1);
    detector.asked(at(next));
    detector.asked(at(next + 250));
    health.note(at(next), Duration::from_millis(150));
    assert_eq!(detector.deadline(&health), Some(at(next - 249) + PATIENCE * 2));
    for _ in 0..20 {
        health.note(at(next), Duration::from_secs(1));
    }
    assert!(health.is_unwell());
    for n in 1..=8 {
        health.note(at(next + n * 250), Duration::from_millis(1));
    }
    assert_eq!(health.score(), 0);
}

#[test]
fn a_young_run_is_in_grace_until_it_has_proven_itself() {
    let health = SelfHealth::default();
    let mut detector = HangDetector::of_pings(PING, PATIENCE);
    detector.restart(at(0), at(30_000));
    detector.asked(at(0));
    detector.asked(at(250));
    assert_eq!(detector.liveness(at(29_999), &health), Liveness::Unheard);
    assert_eq!(detector.liveness(at(30_000), &health), Liveness::Silent);
    let next = answered(&mut detector, 250, u64::from(PROVEN), 1);
    detector.asked(at(next));
    detector.asked(at(next + 250));
    assert_eq!(detector.liveness(at(next + 700), &health), Liveness::Silent);
}

#[test]
fn heartbeats_that_stop_are_silence_and_an_early_one_is_not_held_against_the_next() {
    let health = SelfHealth::default();
    let mut detector = HangDetector::of_heartbeats(PING, PATIENCE);
    detector.restart(at(0), at(0));
    for n in 0..20 {
        detector.heard(at(n * 250), None);
    }
    detector.heard(at(4_760), None);
    assert_eq!(detector.liveness(at(4_760 + 250 + 599), &health), Liveness::Answering);
    assert_eq!(detector.liveness(at(4_760 + 250 + 600), &health), Liveness::Silent);
}

#[test]
fn the_observers_own_sleep_is_nobodys_silence() {
    let health = SelfHealth::default();
    let mut detector = pinged();
    let next = answered(&mut detector, 0, 8, 1);
    detector.asked(at(next));
    // It was late by 390 ms, and then pinged once more before it read the answer.
    detector.forgive(at(next + 640), Duration::from_millis(390));
    detector.asked(at(next + 640));
    assert_eq!(detector.liveness(at(next + 641), &health), Liveness::Answering);
    // It slept for a minute.
    detector.excuse(at(60_000), at(63_000));
    detector.asked(at(60_000));
    detector.asked(at(60_250));
    assert_eq!(detector.liveness(at(62_999), &health), Liveness::Unheard);
    assert_eq!(detector.liveness(at(63_000), &health), Liveness::Silent);
}

//! What a liar says of a subject: in form and evidence what a correct guardian would say. The model's liars and the compromised
//! agent among real processes say it alike.

use zeta_bft::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, Verdict};
use zeta_bft::protocol::statement::{Choice, EpisodeStatement, Header, Vote};
use zeta_bft::protocol::types::{Digest, Incarnation, SubjectName, Timestamp};

/// A word on a subject; without a class it is UP.
pub fn attest(
    subject: &SubjectName,
    incarnation: Incarnation,
    class: Option<FaultClass>,
    now: Timestamp,
) -> Attestation {
    Attestation {
        subject: subject.clone(),
        incarnation,
        verdict: if class.is_some() { Verdict::Down } else { Verdict::Up },
        class,
        evidence: class.map_or(Evidence::Soft, FaultClass::evidence),
        reason: match class {
            None => Reason::Running,
            Some(FaultClass::Crash) => Reason::Killed,
            Some(FaultClass::Hang) => Reason::PingSilent,
            Some(_) => Reason::TickFailed,
        },
        observation: Digest::of(b"a lie"),
        observed_at: now,
        resume_at: None,
    }
}

/// A vote on the episode as it was published, on an observation made when the header says.
pub fn vote(header: Header, episode: &EpisodeStatement, class: FaultClass, choice: Choice) -> Vote {
    let attestation = attest(&episode.subject, episode.incarnation, Some(class), header.observed_at);
    Vote {
        header,
        episode: episode.id,
        round: episode.round,
        nonce: episode.nonce,
        set_epoch: episode.set_epoch,
        subject: episode.subject.clone(),
        incarnation: episode.incarnation,
        rung: episode.rung,
        class,
        choice,
        challenge: episode.challenge,
        attestation,
    }
}

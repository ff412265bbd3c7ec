//! Receipts with their certificates, and proofs of equivocation, from an author who holds every key: whatever is signed, nothing
//! is accepted that q vendors did not ask for, and nobody is proven guilty who signed no two statements under one number.
//!
//! The bytes are the payload of a statement. What is signed in it is signed anew by whom it names, so that the rules behind the
//! signatures are reached.

use super::world::{PERSONAS, key, roster, sealed, session_key};
use std::collections::BTreeSet;
use std::time::Duration;
use zeta_bft::protocol::certificate::{MAX_AGE, ReceiptSequence, check_receipt};
use zeta_bft::protocol::evidence::Verdict;
use zeta_bft::protocol::signing::{Domain, SigningKey};
use zeta_bft::protocol::statement::{
    Choice, Codec, Envelope, EpisodeStatement, EquivocationProof, Heartbeat, Receipt, Session, Vote,
};
use zeta_bft::protocol::types::{PersonaId, SubjectName, VendorId};
use zeta_bft::wire::{Proto, max_payload};

fn signer(persona: &PersonaId) -> Option<SigningKey> {
    PERSONAS.iter().any(|(name, _)| *name == persona.as_str()).then(|| session_key(persona.as_str()))
}

/// As its author would have signed it.
fn resigned(envelope: &Envelope) -> Envelope {
    let payload = &envelope.payload;
    match envelope.domain {
        Domain::Episode => sealed(Domain::Episode, payload, &key("warden")),
        Domain::Session => match Codec::<Session>::decode(&Proto, payload) {
            Ok(mut session) => {
                if PERSONAS.iter().any(|(name, _)| *name == session.persona.as_str()) {
                    let request = &session.request.payload;
                    session.request = sealed(Domain::SessionRequest, request, &key(session.persona.as_str()));
                }
                Envelope::seal(&session, &key("warden"), &Proto)
            }
            Err(_) => sealed(Domain::Session, payload, &key("warden")),
        },
        Domain::Vote => {
            let author = Codec::<Vote>::decode(&Proto, payload).ok().and_then(|vote| signer(&vote.header.persona));
            author.map_or_else(|| envelope.clone(), |key| sealed(Domain::Vote, payload, &key))
        }
        Domain::Heartbeat => {
            let read = Codec::<Heartbeat>::decode(&Proto, payload).ok();
            let author = read.and_then(|heartbeat| signer(&heartbeat.header.persona));
            author.map_or_else(|| envelope.clone(), |key| sealed(Domain::Heartbeat, payload, &key))
        }
        _ => envelope.clone(),
    }
}

fn vendor(persona: &PersonaId) -> Option<VendorId> {
    roster().member(persona).map(|member| member.vendor.clone())
}

fn own_vendor(subject: &SubjectName) -> Option<VendorId> {
    vendor(&PersonaId::new(subject.as_str().trim_end_matches("/agent")).ok()?)
}

/// A receipt's payload.
pub(crate) fn certificate(data: &[u8]) {
    let Ok(mut receipt) = Codec::<Receipt>::decode(&Proto, data) else { return };
    if let Some(certificate) = &mut receipt.certificate {
        certificate.episode = resigned(&certificate.episode);
        certificate.votes.iter_mut().for_each(|vote| *vote = resigned(vote));
        certificate.sessions.iter_mut().for_each(|session| *session = resigned(session));
    }
    let envelope = Envelope::seal(&receipt, &key("warden"), &Proto);
    assert!(envelope.payload.len() <= max_payload(Domain::Receipt), "what was taken in piece by piece fits as a whole");
    let found = check_receipt(&envelope, roster(), &Proto);
    assert_eq!(found, check_receipt(&envelope, roster(), &Proto), "the same input, the same word");
    let Ok(checked) = found else { return };
    assert_eq!(checked.envelope(), &envelope, "what holds keeps its bytes");
    let sequence = &mut ReceiptSequence::default();
    assert_eq!(sequence.take(&checked, &Proto), sequence.take(&checked, &Proto), "the same one again changes nothing");
    let Some(found) = checked.certificate() else {
        assert!(receipt.certificate.is_none());
        return;
    };
    authorised(&receipt, found.vendors());
}

/// Rule S1, counted once more and in another way.
fn authorised(receipt: &Receipt, counted: &BTreeSet<VendorId>) {
    let certificate = receipt.certificate.as_ref().expect("one was checked");
    let episode: EpisodeStatement = Proto.decode(&certificate.episode.payload).expect("it was checked");
    assert!((&episode.subject, episode.incarnation) == (&receipt.subject, receipt.before));
    let mut vendors = BTreeSet::new();
    for sealed in &certificate.votes {
        let vote: Vote = Proto.decode(&sealed.payload).expect("it was checked");
        let seen = &vote.attestation;
        assert_eq!((vote.choice, vote.class, vote.nonce), (Choice::Approve, receipt.class, episode.nonce));
        assert_eq!((&vote.subject, vote.incarnation), (&receipt.subject, receipt.before));
        assert_eq!((&seen.subject, seen.incarnation), (&receipt.subject, receipt.before), "its own observation");
        assert_eq!((seen.verdict, seen.class), (Verdict::Down, Some(receipt.class)));
        let age = receipt.at.as_nanos().checked_sub(seen.observed_at.as_nanos()).map(Duration::from_nanos);
        assert!(age.is_some_and(|age| age <= MAX_AGE), "{age:?}");
        vendors.insert(vendor(&vote.header.persona).expect("it is in the roster"));
    }
    assert!(vendors.len() >= roster().q(), "{vendors:?}");
    assert!(own_vendor(&receipt.subject).is_none_or(|own| !vendors.contains(&own)), "its own vendor voted");
    assert_eq!(&vendors, counted);
}

/// A proof's bytes.
pub(crate) fn proof(data: &[u8]) {
    let Ok(read) = Codec::<EquivocationProof>::decode(&Proto, data) else { return };
    let proof = EquivocationProof {
        session: resigned(&read.session),
        first: resigned(&read.first),
        second: resigned(&read.second),
    };
    for proof in [&read, &proof] {
        let Ok(proven) = proof.check(roster(), &Proto) else { continue };
        let header = |envelope: &Envelope| match envelope.domain {
            Domain::Vote => Codec::<Vote>::decode(&Proto, &envelope.payload).map(|vote| vote.header),
            _ => Codec::<Heartbeat>::decode(&Proto, &envelope.payload).map(|heartbeat| heartbeat.header),
        };
        let (first, second) = (header(&proof.first).expect("checked"), header(&proof.second).expect("checked"));
        assert_ne!(proof.first.payload, proof.second.payload);
        assert_eq!((first.seq, second.seq), (proven.seq, proven.seq));
        assert_eq!((&first.persona, &second.persona), (&proven.persona, &proven.persona));
        assert_eq!((first.session_key, second.session_key), (proven.session_key, proven.session_key));
        assert_eq!((&first.cluster, &first.node), (roster().cluster(), roster().node()));
        assert_eq!(proven.session_key, session_key(proven.persona.as_str()).public(), "nobody signs for another");
    }
}

//! The signed statements.

use super::attestation::{choice, fault_class};
use super::fields::{bytes, cut, list, name, required, text, word};
use super::{MAX_ATTESTATIONS, MAX_GUARDIANS, v1};
use crate::protocol::evidence::Attestation;
use crate::protocol::record::CompactedHead;
use crate::protocol::roster::{Member, RosterStatement};
use crate::protocol::statement::{
    ActionCertificate, ActionKind, Choice, DecodeError, EpisodeStatement, Head, Header, Heartbeat, JournalHead,
    Outcome, Receipt, ReceiptKind, Session, SessionRequest, StateName, Vote,
};
use crate::protocol::types::{
    BootId, ClusterId, Digest, EpisodeId, InvocationId, NodeId, Nonce, PersonaId, PublicKey, Round, Rung,
    SessionIncarnation, SetEpoch, SubjectName, Timestamp, VendorId, WardenInstance,
};

fn optional_nonce(value: Option<Vec<u8>>, field: &'static str) -> Result<Option<Nonce>, DecodeError> {
    value.map(|value| bytes(&value, field, Nonce::from_slice)).transpose()
}

impl From<&Header> for v1::Header {
    fn from(header: &Header) -> Self {
        Self {
            cluster: header.cluster.as_str().to_owned(),
            node: header.node.as_str().to_owned(),
            boot_id: header.boot.0.to_vec(),
            roster_epoch: header.roster_epoch,
            roster_digest: header.roster.0.to_vec(),
            policy_digest: header.policy.0.to_vec(),
            persona: header.persona.as_str().to_owned(),
            incarnation: header.incarnation.0,
            session_key: header.session_key.0.to_vec(),
            seq: header.seq,
            observed_at_ns: header.observed_at.as_nanos(),
        }
    }
}

impl TryFrom<v1::Header> for Header {
    type Error = DecodeError;

    fn try_from(message: v1::Header) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: name(&message.cluster, "cluster", ClusterId::new)?,
            node: name(&message.node, "node", NodeId::new)?,
            boot: bytes(&message.boot_id, "boot_id", BootId::from_slice)?,
            roster_epoch: message.roster_epoch,
            roster: bytes(&message.roster_digest, "roster_digest", Digest::from_slice)?,
            policy: bytes(&message.policy_digest, "policy_digest", Digest::from_slice)?,
            persona: name(&message.persona, "persona", PersonaId::new)?,
            incarnation: SessionIncarnation(message.incarnation),
            session_key: bytes(&message.session_key, "session_key", PublicKey::from_slice)?,
            seq: message.seq,
            observed_at: Timestamp::from_nanos(message.observed_at_ns),
        })
    }
}

impl From<&SessionRequest> for v1::SessionRequest {
    fn from(request: &SessionRequest) -> Self {
        Self {
            cluster: request.cluster.as_str().to_owned(),
            node: request.node.as_str().to_owned(),
            persona: request.persona.as_str().to_owned(),
            session_key: request.session_key.0.to_vec(),
            nonce: request.nonce.0.to_vec(),
            roster_digest: request.roster.0.to_vec(),
            policy_digest: request.policy.0.to_vec(),
        }
    }
}

impl TryFrom<v1::SessionRequest> for SessionRequest {
    type Error = DecodeError;

    fn try_from(message: v1::SessionRequest) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: name(&message.cluster, "cluster", ClusterId::new)?,
            node: name(&message.node, "node", NodeId::new)?,
            persona: name(&message.persona, "persona", PersonaId::new)?,
            session_key: bytes(&message.session_key, "session_key", PublicKey::from_slice)?,
            nonce: bytes(&message.nonce, "nonce", Nonce::from_slice)?,
            roster: bytes(&message.roster_digest, "roster_digest", Digest::from_slice)?,
            policy: bytes(&message.policy_digest, "policy_digest", Digest::from_slice)?,
        })
    }
}

impl From<&Session> for v1::Session {
    fn from(session: &Session) -> Self {
        Self {
            request: Some((&session.request).into()),
            cluster: session.cluster.as_str().to_owned(),
            node: session.node.as_str().to_owned(),
            boot_id: session.boot.0.to_vec(),
            persona: session.persona.as_str().to_owned(),
            session_key: session.session_key.0.to_vec(),
            incarnation: session.incarnation.0,
            uid: session.uid,
            unit: session.unit.as_str().to_owned(),
            invocation_id: session.invocation.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Session> for Session {
    type Error = DecodeError;

    fn try_from(message: v1::Session) -> Result<Self, DecodeError> {
        Ok(Self {
            request: required(message.request, "request")?.try_into()?,
            cluster: name(&message.cluster, "cluster", ClusterId::new)?,
            node: name(&message.node, "node", NodeId::new)?,
            boot: bytes(&message.boot_id, "boot_id", BootId::from_slice)?,
            persona: name(&message.persona, "persona", PersonaId::new)?,
            session_key: bytes(&message.session_key, "session_key", PublicKey::from_slice)?,
            incarnation: SessionIncarnation(message.incarnation),
            uid: message.uid,
            unit: name(&message.unit, "unit", SubjectName::new)?,
            invocation: bytes(&message.invocation_id, "invocation_id", InvocationId::from_slice)?,
        })
    }
}

impl From<&Head> for v1::Head {
    fn from(head: &Head) -> Self {
        Self {
            persona: head.persona.as_str().to_owned(),
            session_key: head.session_key.0.to_vec(),
            seq: head.seq,
            digest: head.digest.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Head> for Head {
    type Error = DecodeError;

    fn try_from(message: v1::Head) -> Result<Self, DecodeError> {
        Ok(Self {
            persona: name(&message.persona, "persona", PersonaId::new)?,
            session_key: bytes(&message.session_key, "session_key", PublicKey::from_slice)?,
            seq: message.seq,
            digest: bytes(&message.digest, "digest", Digest::from_slice)?,
        })
    }
}

impl From<&JournalHead> for v1::JournalHead {
    fn from(head: &JournalHead) -> Self {
        Self { seq: head.seq, hash: head.hash.0.to_vec() }
    }
}

impl TryFrom<v1::JournalHead> for JournalHead {
    type Error = DecodeError;

    fn try_from(message: v1::JournalHead) -> Result<Self, DecodeError> {
        Ok(Self { seq: message.seq, hash: bytes(&message.hash, "hash", Digest::from_slice)? })
    }
}

impl From<&CompactedHead> for v1::JournalHead {
    fn from(head: &CompactedHead) -> Self {
        (&head.0).into()
    }
}

impl TryFrom<v1::JournalHead> for CompactedHead {
    type Error = DecodeError;

    fn try_from(message: v1::JournalHead) -> Result<Self, DecodeError> {
        message.try_into().map(Self)
    }
}

impl From<&Heartbeat> for v1::Heartbeat {
    fn from(heartbeat: &Heartbeat) -> Self {
        Self {
            header: Some((&heartbeat.header).into()),
            attestations: heartbeat.attestations.iter().map(Into::into).collect(),
            health: heartbeat.health,
            heads: heartbeat.heads.iter().map(Into::into).collect(),
            receipt: Some((&heartbeat.receipt).into()),
        }
    }
}

impl TryFrom<v1::Heartbeat> for Heartbeat {
    type Error = DecodeError;

    fn try_from(message: v1::Heartbeat) -> Result<Self, DecodeError> {
        let attestations: Vec<Attestation> = list(message.attestations, "attestations", MAX_ATTESTATIONS)?;
        // Two words on one subject would be read differently by different readers.
        if !attestations.is_sorted_by(|a, b| a.subject < b.subject) {
            return Err(DecodeError::OutOfRange("attestations"));
        }
        Ok(Self {
            header: required(message.header, "header")?.try_into()?,
            attestations,
            health: message.health,
            heads: list(message.heads, "heads", Heartbeat::MAX_HEADS)?,
            receipt: required(message.receipt, "receipt")?.try_into()?,
        })
    }
}

impl From<&EpisodeStatement> for v1::Episode {
    fn from(episode: &EpisodeStatement) -> Self {
        Self {
            cluster: episode.cluster.as_str().to_owned(),
            node: episode.node.as_str().to_owned(),
            boot_id: episode.boot.0.to_vec(),
            roster_digest: episode.roster.0.to_vec(),
            policy_digest: episode.policy.0.to_vec(),
            subject: episode.subject.as_str().to_owned(),
            id: episode.id.0,
            round: episode.round.0,
            nonce: episode.nonce.0.to_vec(),
            set_epoch: episode.set_epoch.0,
            incarnation: Some((&episode.incarnation).into()),
            rung: episode.rung.0,
            state: episode.state.as_str().to_owned(),
            challenge: episode.challenge.map(|nonce| nonce.0.to_vec()),
            budget: episode.budget,
        }
    }
}

impl TryFrom<v1::Episode> for EpisodeStatement {
    type Error = DecodeError;

    fn try_from(message: v1::Episode) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: name(&message.cluster, "cluster", ClusterId::new)?,
            node: name(&message.node, "node", NodeId::new)?,
            boot: bytes(&message.boot_id, "boot_id", BootId::from_slice)?,
            roster: bytes(&message.roster_digest, "roster_digest", Digest::from_slice)?,
            policy: bytes(&message.policy_digest, "policy_digest", Digest::from_slice)?,
            subject: name(&message.subject, "subject", SubjectName::new)?,
            id: EpisodeId(message.id),
            round: Round(message.round),
            nonce: bytes(&message.nonce, "nonce", Nonce::from_slice)?,
            set_epoch: SetEpoch(message.set_epoch),
            incarnation: required(message.incarnation, "incarnation")?.try_into()?,
            rung: Rung(message.rung),
            state: word(&message.state, "state", StateName::from_word)?,
            challenge: optional_nonce(message.challenge, "challenge")?,
            budget: message.budget,
        })
    }
}

impl From<&Vote> for v1::Vote {
    fn from(vote: &Vote) -> Self {
        Self {
            header: Some((&vote.header).into()),
            episode: vote.episode.0,
            round: vote.round.0,
            nonce: vote.nonce.0.to_vec(),
            set_epoch: vote.set_epoch.0,
            subject: vote.subject.as_str().to_owned(),
            incarnation: Some((&vote.incarnation).into()),
            rung: vote.rung.0,
            fault_class: v1::FaultClass::from(vote.class).into(),
            choice: v1::Choice::from(vote.choice).into(),
            challenge: vote.challenge.map(|nonce| nonce.0.to_vec()),
            attestation: Some((&vote.attestation).into()),
        }
    }
}

impl TryFrom<v1::Vote> for Vote {
    type Error = DecodeError;

    fn try_from(message: v1::Vote) -> Result<Self, DecodeError> {
        let (class, choice) = (fault_class(message.fault_class)?, choice(message.choice)?);
        if choice == Choice::Approve && !class.is_votable() {
            return Err(DecodeError::OutOfRange("fault_class"));
        }
        Ok(Self {
            header: required(message.header, "header")?.try_into()?,
            episode: EpisodeId(message.episode),
            round: Round(message.round),
            nonce: bytes(&message.nonce, "nonce", Nonce::from_slice)?,
            set_epoch: SetEpoch(message.set_epoch),
            subject: name(&message.subject, "subject", SubjectName::new)?,
            incarnation: required(message.incarnation, "incarnation")?.try_into()?,
            rung: Rung(message.rung),
            class,
            choice,
            challenge: optional_nonce(message.challenge, "challenge")?,
            attestation: required(message.attestation, "attestation")?.try_into()?,
        })
    }
}

impl From<&ActionCertificate> for v1::ActionCertificate {
    fn from(certificate: &ActionCertificate) -> Self {
        Self {
            episode: Some((&certificate.episode).into()),
            votes: certificate.votes.iter().map(Into::into).collect(),
            sessions: certificate.sessions.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ActionCertificate> for ActionCertificate {
    type Error = DecodeError;

    fn try_from(message: v1::ActionCertificate) -> Result<Self, DecodeError> {
        Ok(Self {
            episode: required(message.episode, "episode")?.try_into()?,
            votes: list(message.votes, "votes", MAX_GUARDIANS)?,
            sessions: list(message.sessions, "sessions", MAX_GUARDIANS)?,
        })
    }
}

impl From<&Receipt> for v1::Receipt {
    fn from(receipt: &Receipt) -> Self {
        Self {
            cluster: receipt.cluster.as_str().to_owned(),
            node: receipt.node.as_str().to_owned(),
            boot_id: receipt.boot.0.to_vec(),
            warden_instance: receipt.warden.0,
            seq: receipt.seq,
            previous: receipt.previous.0.to_vec(),
            kind: receipt.kind.as_str().to_owned(),
            episode: receipt.episode.0,
            round: receipt.round.0,
            rung: receipt.rung.0,
            subject: receipt.subject.as_str().to_owned(),
            action: receipt.action.as_str().to_owned(),
            fault_class: v1::FaultClass::from(receipt.class).into(),
            before: Some((&receipt.before).into()),
            after: receipt.after.as_ref().map(Into::into),
            outcome: receipt.outcome.map(|outcome| outcome.as_str().to_owned()),
            detail: cut(&receipt.detail, Receipt::MAX_DETAIL),
            certificate: receipt.certificate.as_ref().map(Into::into),
            intent: receipt.intent,
            at_ns: receipt.at.as_nanos(),
            wall_ms: receipt.wall_ms,
        }
    }
}

impl TryFrom<v1::Receipt> for Receipt {
    type Error = DecodeError;

    fn try_from(message: v1::Receipt) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: name(&message.cluster, "cluster", ClusterId::new)?,
            node: name(&message.node, "node", NodeId::new)?,
            boot: bytes(&message.boot_id, "boot_id", BootId::from_slice)?,
            warden: WardenInstance(message.warden_instance),
            seq: message.seq,
            previous: bytes(&message.previous, "previous", Digest::from_slice)?,
            kind: word(&message.kind, "kind", ReceiptKind::from_word)?,
            episode: EpisodeId(message.episode),
            round: Round(message.round),
            rung: Rung(message.rung),
            subject: name(&message.subject, "subject", SubjectName::new)?,
            action: word(&message.action, "action", ActionKind::from_word)?,
            class: fault_class(message.fault_class)?,
            before: required(message.before, "before")?.try_into()?,
            after: message.after.map(TryInto::try_into).transpose()?,
            outcome: message.outcome.map(|outcome| word(&outcome, "outcome", Outcome::from_word)).transpose()?,
            detail: text(message.detail, "detail", Self::MAX_DETAIL)?,
            certificate: message.certificate.map(TryInto::try_into).transpose()?,
            intent: message.intent,
            at: Timestamp::from_nanos(message.at_ns),
            wall_ms: message.wall_ms,
        })
    }
}

impl From<&RosterStatement> for v1::Roster {
    fn from(roster: &RosterStatement) -> Self {
        Self {
            cluster: roster.cluster.as_str().to_owned(),
            node: roster.node.as_str().to_owned(),
            epoch: roster.epoch,
            previous: roster.previous.0.to_vec(),
            members: roster
                .members
                .iter()
                .map(|member| v1::Member {
                    persona: member.persona.as_str().to_owned(),
                    vendor: member.vendor.as_str().to_owned(),
                    key: member.key.0.to_vec(),
                })
                .collect(),
            f: roster.f,
            q: roster.q,
            warden_key: roster.warden.0.to_vec(),
            operator_key: roster.operator.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Roster> for RosterStatement {
    type Error = DecodeError;

    fn try_from(message: v1::Roster) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: name(&message.cluster, "cluster", ClusterId::new)?,
            node: name(&message.node, "node", NodeId::new)?,
            epoch: message.epoch,
            previous: bytes(&message.previous, "previous", Digest::from_slice)?,
            members: list(message.members, "members", MAX_GUARDIANS)?,
            f: message.f,
            q: message.q,
            warden: bytes(&message.warden_key, "warden_key", PublicKey::from_slice)?,
            operator: bytes(&message.operator_key, "operator_key", PublicKey::from_slice)?,
        })
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = DecodeError;

    fn try_from(message: v1::Member) -> Result<Self, DecodeError> {
        Ok(Self {
            persona: name(&message.persona, "persona", PersonaId::new)?,
            vendor: name(&message.vendor, "vendor", VendorId::new)?,
            key: bytes(&message.key, "key", PublicKey::from_slice)?,
        })
    }
}

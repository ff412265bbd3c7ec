//! Records of the warden's journal.

use super::fields::{bytes, cut, name, nanos, required, text};
use super::{MAX_REASON, v1};
use crate::protocol::record::{Forgiveness, LedgerEntry, OperatorOrder, Record};
use crate::protocol::statement::DecodeError;
use crate::protocol::types::{
    BootId, EpisodeId, PersonaId, PublicKey, Rung, SessionIncarnation, SubjectName, Timestamp, WardenInstance,
};
use std::time::Duration;
use v1::operator_record::Order;
use v1::record::Record as Kind;

fn optional_subject(value: Option<String>) -> Result<Option<SubjectName>, DecodeError> {
    value.map(|value| name(&value, "subject", SubjectName::new)).transpose()
}

fn subject_text(subject: Option<&SubjectName>) -> Option<String> {
    subject.map(|subject| subject.as_str().to_owned())
}

fn forgiveness(operator: &v1::OperatorRecord) -> Result<Option<Forgiveness>, DecodeError> {
    let key = |bytes: &Option<Vec<u8>>, field| {
        bytes.as_ref().map(|key| PublicKey::from_slice(key).ok_or(DecodeError::OutOfRange(field))).transpose()
    };
    let burnt = key(&operator.burnt_key, "burnt_key")?;
    let answered = key(&operator.answered_key, "answered_key")?;
    match operator.forgiven_before.map(SessionIncarnation) {
        Some(before) => Ok(Some(Forgiveness { before, burnt, answered })),
        None if burnt.is_some() || answered.is_some() => Err(DecodeError::Missing("forgiven_before")),
        None => Ok(None),
    }
}

impl From<&Record> for v1::Record {
    fn from(record: &Record) -> Self {
        let kind = match record {
            Record::Boot { instance, boot, at } => {
                Kind::Boot(v1::BootRecord { instance: instance.0, boot_id: boot.0.to_vec(), at_ns: at.as_nanos() })
            }
            Record::Receipt(receipt) => Kind::Receipt(receipt.into()),
            Record::Ledger(entry) => Kind::Ledger(entry.into()),
            Record::Quarantine { persona, proof } => Kind::Quarantine(v1::QuarantineRecord {
                persona: persona.as_str().to_owned(),
                proof: Some(proof.into()),
            }),
            Record::Operator { uid, order, reason, wall, forgiveness } => Kind::Operator(v1::OperatorRecord {
                uid: *uid,
                reason: cut(reason, MAX_REASON),
                wall_s: *wall,
                forgiven_before: forgiveness.map(|forgiveness| forgiveness.before.0),
                burnt_key: forgiveness.and_then(|forgiveness| Some(forgiveness.burnt?.0.to_vec())),
                answered_key: forgiveness.and_then(|forgiveness| Some(forgiveness.answered?.0.to_vec())),
                order: Some(order.into()),
            }),
            Record::Roster(roster) => Kind::Roster(roster.into()),
            Record::Head(head) => Kind::Head(head.into()),
        };
        Self { record: Some(kind) }
    }
}

impl TryFrom<v1::Record> for Record {
    type Error = DecodeError;

    fn try_from(message: v1::Record) -> Result<Self, DecodeError> {
        Ok(match required(message.record, "record")? {
            Kind::Boot(boot) => Self::Boot {
                instance: WardenInstance(boot.instance),
                boot: bytes(&boot.boot_id, "boot_id", BootId::from_slice)?,
                at: Timestamp::from_nanos(boot.at_ns),
            },
            Kind::Receipt(receipt) => Self::Receipt(receipt.try_into()?),
            Kind::Ledger(entry) => Self::Ledger(entry.try_into()?),
            Kind::Quarantine(quarantine) => Self::Quarantine {
                persona: name(&quarantine.persona, "persona", PersonaId::new)?,
                proof: required(quarantine.proof, "proof")?.try_into()?,
            },
            Kind::Operator(operator) => Self::Operator {
                uid: operator.uid,
                forgiveness: forgiveness(&operator)?,
                order: required(operator.order, "order")?.try_into()?,
                reason: text(operator.reason, "reason", MAX_REASON)?,
                wall: operator.wall_s,
            },
            Kind::Roster(roster) => Self::Roster(roster.try_into()?),
            Kind::Head(head) => Self::Head(head.try_into()?),
        })
    }
}

impl From<&OperatorOrder> for Order {
    fn from(order: &OperatorOrder) -> Self {
        match order {
            OperatorOrder::Hold { subject, until } => {
                Self::Hold(v1::HoldOrder { subject: subject_text(subject.as_ref()), until_s: *until })
            }
            OperatorOrder::Release { subject } => {
                Self::Release(v1::ReleaseOrder { subject: subject_text(subject.as_ref()) })
            }
            OperatorOrder::Approve { episode } => Self::ApproveEpisode(episode.0),
            OperatorOrder::Readmit { persona } => Self::ReadmitPersona(persona.as_str().to_owned()),
        }
    }
}

impl TryFrom<Order> for OperatorOrder {
    type Error = DecodeError;

    fn try_from(message: Order) -> Result<Self, DecodeError> {
        Ok(match message {
            Order::Hold(hold) => Self::Hold { subject: optional_subject(hold.subject)?, until: hold.until_s },
            Order::Release(release) => Self::Release { subject: optional_subject(release.subject)? },
            Order::ApproveEpisode(episode) => Self::Approve { episode: EpisodeId(episode) },
            Order::ReadmitPersona(persona) => {
                Self::Readmit { persona: name(&persona, "readmit_persona", PersonaId::new)? }
            }
        })
    }
}

impl From<&LedgerEntry> for v1::LedgerEntry {
    fn from(entry: &LedgerEntry) -> Self {
        Self {
            subject: subject_text(entry.subject.as_ref()),
            tokens: entry.tokens,
            spent_today: entry.spent_today,
            day_began_ns: nanos(entry.day_began),
            accumulated_ns: nanos(entry.accumulated),
            rung: entry.rung.0,
            cool_down_ns: nanos(entry.cool_down),
            cool_down_from_ns: nanos(entry.cool_down_from),
            exhausted: entry.exhausted,
            tried: entry.tried,
        }
    }
}

impl TryFrom<v1::LedgerEntry> for LedgerEntry {
    type Error = DecodeError;

    fn try_from(message: v1::LedgerEntry) -> Result<Self, DecodeError> {
        Ok(Self {
            subject: optional_subject(message.subject)?,
            tokens: message.tokens,
            spent_today: message.spent_today,
            day_began: Duration::from_nanos(message.day_began_ns),
            accumulated: Duration::from_nanos(message.accumulated_ns),
            rung: Rung(message.rung),
            cool_down: Duration::from_nanos(message.cool_down_ns),
            cool_down_from: Duration::from_nanos(message.cool_down_from_ns),
            exhausted: message.exhausted,
            tried: message.tried,
        })
    }
}

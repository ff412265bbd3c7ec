//! Words and attestations.

use super::fields::{bytes, name, required, word};
use super::v1;
use crate::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, Verdict};
use crate::protocol::statement::{Choice, DecodeError};
use crate::protocol::types::{BootId, Digest, Incarnation, InvocationId, SubjectName, Timestamp};

macro_rules! words {
    ($type:ident, $decode:ident, $field:literal: $($variant:ident),+) => {
        impl From<$type> for v1::$type {
            fn from(word: $type) -> Self {
                match word { $($type::$variant => Self::$variant,)+ }
            }
        }

        pub(super) fn $decode(number: i32) -> Result<$type, DecodeError> {
            match v1::$type::try_from(number) {
                $(Ok(v1::$type::$variant) => Ok($type::$variant),)+
                Ok(v1::$type::Unspecified) => Err(DecodeError::Missing($field)),
                Err(_) => Err(DecodeError::OutOfRange($field)),
            }
        }
    };
}

words!(Verdict, verdict, "verdict": Up, Down, Unknown);
words!(FaultClass, fault_class, "fault_class": Crash, Hang, Broken, Environment, Operator, Unknown);
words!(Evidence, evidence, "evidence": Hard, Soft);
words!(Choice, choice, "choice": Approve, Withdraw);

impl From<&Incarnation> for v1::Incarnation {
    fn from(incarnation: &Incarnation) -> Self {
        Self { boot_id: incarnation.boot.0.to_vec(), invocation_id: incarnation.invocation.0.to_vec() }
    }
}

impl TryFrom<v1::Incarnation> for Incarnation {
    type Error = DecodeError;

    fn try_from(message: v1::Incarnation) -> Result<Self, DecodeError> {
        Ok(Self {
            boot: bytes(&message.boot_id, "boot_id", BootId::from_slice)?,
            invocation: bytes(&message.invocation_id, "invocation_id", InvocationId::from_slice)?,
        })
    }
}

impl From<&Attestation> for v1::Attestation {
    fn from(attestation: &Attestation) -> Self {
        Self {
            subject: attestation.subject.as_str().to_owned(),
            incarnation: Some((&attestation.incarnation).into()),
            verdict: v1::Verdict::from(attestation.verdict).into(),
            fault_class: attestation.class.map_or(v1::FaultClass::Unspecified, Into::into).into(),
            evidence: v1::Evidence::from(attestation.evidence).into(),
            reason: attestation.reason.as_str().to_owned(),
            observation: attestation.observation.0.to_vec(),
            observed_at_ns: attestation.observed_at.as_nanos(),
            resume_at: attestation.resume_at,
        }
    }
}

impl TryFrom<v1::Attestation> for Attestation {
    type Error = DecodeError;

    fn try_from(message: v1::Attestation) -> Result<Self, DecodeError> {
        let verdict = verdict(message.verdict)?;
        let class = match fault_class(message.fault_class) {
            Ok(class) => Some(class),
            Err(DecodeError::Missing(_)) if verdict != Verdict::Down => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            subject: name(&message.subject, "subject", SubjectName::new)?,
            incarnation: required(message.incarnation, "incarnation")?.try_into()?,
            verdict,
            class,
            evidence: evidence(message.evidence)?,
            reason: word(&message.reason, "reason", Reason::from_word)?,
            observation: bytes(&message.observation, "observation", Digest::from_slice)?,
            observed_at: Timestamp::from_nanos(message.observed_at_ns),
            resume_at: message.resume_at,
        })
    }
}

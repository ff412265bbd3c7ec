//! The words of the protocol: names, identifiers, digests and the one time base.
//!
//! Every identifier is a type of its own, so that an incarnation cannot be passed where an episode is meant. All of them
//! order totally, because whatever reaches bytes or effects is kept in ordered collections.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

/// A point on the node's `CLOCK_BOOTTIME`, in nanoseconds since this boot.
///
/// The only clock that safety rests on (rule S4): one per node, monotonic, and it goes on during suspend. Comparing
/// timestamps of different boots is meaningless; statements therefore carry the [`BootId`] beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment of boot.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `self` was at `now`, or `None` when it lies in the future of `now`.
    pub fn age_at(self, now: Self) -> Option<Duration> {
        now.0.checked_sub(self.0).map(Duration::from_nanos)
    }

    /// Time from `earlier` to `self`, zero when `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The next moment after this one that is a multiple of `every` since the node's boot: those who act on it act together.
    pub fn next_multiple_of(self, every: Duration) -> Self {
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self((self.0 / every).saturating_add(1).saturating_mul(every))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A name that does not fit its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no {what}: {rule}")]
pub struct NameError {
    /// What kind of name was wanted.
    pub what: &'static str,
    /// The text that was given, shortened.
    pub name: String,
    /// What such a name looks like.
    pub rule: &'static str,
}

const LABEL_RULE: &str = "use 1 to 64 of a-z, 0-9, `-`, `.`, `_`, beginning with a letter or digit";

fn is_label(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= 64
        && s.as_bytes()[0].is_ascii_alphanumeric()
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
}

fn shortened(s: &str) -> String {
    s.chars().take(80).collect()
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and makes the name.
            ///
            /// # Errors
            /// [`NameError`] unless it is 1 to 64 of `a-z 0-9 - . _`, beginning with a letter or digit.
            pub fn new(name: &str) -> Result<Self, NameError> {
                if is_label(name) {
                    Ok(Self(name.into()))
                } else {
                    Err(NameError { what: $what, name: shortened(name), rule: LABEL_RULE })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An AI persona, and the guardian that speaks for it: `otto`, `lior`, `vera`.
    PersonaId,
    "persona"
);
name!(
    /// The vendor of a persona's model: the unit of failure, and therefore of voting.
    VendorId,
    "vendor"
);
name!(
    /// The cluster a node belongs to.
    ClusterId,
    "cluster name"
);
name!(
    /// One node. A cloned machine needs a fresh one.
    NodeId,
    "node name"
);

/// What is watched and repaired: `otto` (a wrapper unit), `otto/agent` (a sidecar unit), `k3s`, or any unit the operator
/// names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectName(Arc<str>);

impl SubjectName {
    /// Checks and makes the name: a label, or `label/agent`.
    ///
    /// # Errors
    /// [`NameError`] if it is neither.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if is_label(name.strip_suffix("/agent").unwrap_or(name)) {
            Ok(Self(name.into()))
        } else {
            Err(NameError {
                what: "subject",
                name: shortened(name),
                rule: "use a label such as `otto`, or `otto/agent`",
            })
        }
    }

    /// The wrapper unit of a persona.
    pub fn wrapper(persona: &PersonaId) -> Self {
        Self(persona.as_str().into())
    }

    /// The sidecar unit of a persona.
    pub fn agent(persona: &PersonaId) -> Self {
        Self(format!("{persona}/agent").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! bytes {
    ($(#[$doc:meta])* $type:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub [u8; $len]);

        impl $type {
            /// From a slice, or `None` when it is not of the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl Default for $type {
            fn default() -> Self {
                Self([0; $len])
            }
        }

        /// Lower-case hexadecimal, whole.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        /// Lower-case hexadecimal, the first four bytes: for logs and test output.
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))?;
                f.write_str("…")
            }
        }
    };
}

bytes!(
    /// A SHA-256 digest. The identity of a statement is the digest of its payload.
    Digest,
    32
);
bytes!(
    /// An Ed25519 public key as it travels; proven usable only inside [`super::signing::VerifyingKey`].
    PublicKey,
    32
);
bytes!(
    /// The kernel's boot id: timestamps compare only within one boot.
    BootId,
    16
);
bytes!(
    /// PID 1's id of one run of a unit (`InvocationID`), never taken from the service itself.
    InvocationId,
    16
);
bytes!(
    /// A warden's fresh 128-bit number: what answers it was made after it.
    Nonce,
    16
);

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// One run of a subject on one boot: what is voted on, compared, and acted on (rule S3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// The boot it runs on.
    pub boot: BootId,
    /// The run, as PID 1 numbers it; all zero when the unit has never been started on this boot.
    pub invocation: InvocationId,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.invocation)
    }
}

macro_rules! instance_counter {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u64);

        impl $type {
            /// Joins the warden's instance (high 32 bits) and its counter, so that no number is ever used twice.
            pub const fn new(instance: WardenInstance, counter: u32) -> Self {
                Self(((instance.0 as u64) << 32) | counter as u64)
            }

            /// The warden instance that gave the number.
            pub const fn instance(self) -> WardenInstance {
                WardenInstance((self.0 >> 32) as u32)
            }
        }

        /// `instance.counter`.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{}", self.0 >> 32, self.0 & 0xffff_ffff)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let parse = || {
                    let (instance, counter) = s.split_once('.')?;
                    Some(Self::new(WardenInstance(instance.parse().ok()?), counter.parse().ok()?))
                };
                parse().ok_or_else(|| NameError {
                    what: "number of the warden's",
                    name: shortened(s),
                    rule: "use two numbers with a dot, such as `3.17`",
                })
            }
        }
    };
}

/// How often the warden of this journal has started; raised and journaled (BOOT) before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WardenInstance(pub u32);

instance_counter!(
    /// From a fault to Healthy or Held: the number under which votes are cast and repairs are made.
    EpisodeId
);
instance_counter!(
    /// One run of a guardian, assigned by the warden and never reused; the newest session ends the older ones.
    SessionIncarnation
);

/// A new chance to vote within an episode and a rung: rises with every new incarnation of the subject and every abandoned
/// or aborted action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u32);

/// The step of a subject's ladder, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung(pub u32);

/// Rises with every action on a persona: soft votes on personas do not outlive it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetEpoch(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_multiple_is_always_later() {
        let every = Duration::from_millis(250);
        for (now, next) in [(0, 250), (1, 250), (249, 250), (250, 500), (499, 500)] {
            let at = |ms| Timestamp::ZERO + Duration::from_millis(ms);
            assert_eq!(at(now).next_multiple_of(every), at(next));
        }
    }

    #[test]
    fn a_future_timestamp_has_no_age() {
        let (early, late) = (Timestamp::from_nanos(5), Timestamp::from_nanos(9));
        assert_eq!(early.age_at(late), Some(Duration::from_nanos(4)));
        assert_eq!(late.age_at(early), None);
    }

    #[test]
    fn names_that_could_escape_a_path_or_a_label_are_refused() {
        for bad in ["", "../x", "Otto", "a b", "-x", "a/b", "a\n", &"x".repeat(65)] {
            assert!(PersonaId::new(bad).is_err(), "{bad:?}");
            assert!(SubjectName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(SubjectName::new("otto/agent").unwrap(), SubjectName::agent(&PersonaId::new("otto").unwrap()));
    }

    #[test]
    fn a_number_of_the_wardens_survives_its_text_form() {
        let id = EpisodeId::new(WardenInstance(7), 12);
        assert_eq!(id.to_string(), "7.12");
        assert_eq!("7.12".parse::<EpisodeId>().unwrap(), id);
        assert!("7".parse::<EpisodeId>().is_err());
    }
}

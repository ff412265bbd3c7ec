//! What the lookout publishes, as an agent reads it.

use std::path::PathBuf;
use std::time::Duration;
use zeta_bft::observe::k3s::lookout::{Disbelief, FRESH, Lookout};
use zeta_bft::protocol::types::{BootId, SubjectName, Timestamp};

/// The boot and the moment of the targets.
pub(crate) const BOOT: BootId = BootId([1; 16]);
pub(crate) const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

/// Any bytes as the file.
pub(crate) fn lookout(data: &[u8]) {
    let subject = SubjectName::new("k3s").expect("a subject");
    let lookout = Lookout::new(PathBuf::from("/run/k3s.json"), subject);
    let read = |now, boot| lookout.understood(data, || Ok(boot), now);
    let facts = match read(NOW, BOOT) {
        Ok(facts) => facts,
        Err(disbelief) => {
            assert!(!disbelief.to_string().is_empty());
            return;
        }
    };
    assert!(facts.fatal.as_ref().is_none_or(|fatal| fatal.line.len() <= 1024));
    assert_eq!(read(NOW, BOOT).ok(), Some(facts), "the same text, the same facts");
    let later = NOW + FRESH + FRESH + Duration::from_nanos(1);
    assert!(matches!(read(later, BOOT), Err(Disbelief::Stale { .. })), "nothing is believed for ever");
    assert!(matches!(read(NOW, BootId([2; 16])), Err(Disbelief::OtherBoot)));
}

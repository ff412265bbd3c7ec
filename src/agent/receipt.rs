//! The highest receipt an agent has seen, kept across restarts: a warden whose journal was rolled back is shown it.

use crate::files;
use crate::protocol::statement::Envelope;
use crate::wire::{decode_envelope, encode_envelope};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// The receipt kept at `path`, if there is one that can be read. A damaged one is as good as none: it is one witness of
/// several.
pub(super) fn load(path: &Path) -> Option<Envelope> {
    match std::fs::read(path) {
        Ok(bytes) => decode_envelope(&bytes)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the kept receipt is damaged"))
            .ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the kept receipt cannot be read");
            None
        }
    }
}

/// Keeps the newest of the receipts that are put in; a slow disk holds nobody up.
pub(super) fn keeper(path: PathBuf) -> watch::Sender<Option<Envelope>> {
    let (sender, mut newest) = watch::channel(None::<Envelope>);
    tokio::spawn(async move {
        while newest.changed().await.is_ok() {
            let Some(receipt) = newest.borrow_and_update().clone() else { continue };
            let place = path.clone();
            let kept = tokio::task::spawn_blocking(move || keep(&place, &receipt)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(path = %path.display(), %error, "the receipt cannot be kept");
            }
        }
    });
    sender
}

/// Whole or not at all, and on the disk before it counts.
fn keep(path: &Path, receipt: &Envelope) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    files::replace(path, &encode_envelope(receipt), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::signing::Domain;
    use crate::protocol::types::PublicKey;

    #[test]
    fn the_kept_receipt_is_read_again_and_a_damaged_one_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/agent-otto/last.receipt");
        assert_eq!(load(&path), None);
        let receipt = |byte| Envelope {
            domain: Domain::Receipt,
            payload: vec![byte; 9].into(),
            signature: [byte; 64],
            key: PublicKey([byte; 32]),
        };
        keep(&path, &receipt(1)).unwrap();
        keep(&path, &receipt(2)).unwrap();
        assert_eq!(load(&path), Some(receipt(2)));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no half file is left");
        std::fs::write(&path, [0xff; 20]).unwrap();
        assert_eq!(load(&path), None);
    }
}

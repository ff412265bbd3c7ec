//! Pages leave through a unit of their own, which may use the network: the warden may not.
//!
//! The text lies in a file of the warden's; the unit's name is a number. What is run stands in root's configuration. At most
//! [`WAITING`] pages wait: a page that cannot be sent must not fill `/run`.

use super::act::{gone, refused};
use super::bus::{self, manager};
use super::observer::{Ask, Live};
use super::proxy::FAIL;
use crate::backend::BackendError;
use crate::clock;
use crate::config::paths::Paths;
use crate::files;
use crate::page::Page;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Pages that may wait to be sent.
const WAITING: usize = 64;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Hands a page to the unit that sends it. Its end is logged, not waited for.
pub(super) async fn send(
    live: &Live,
    paths: &Paths,
    cause: &str,
    subject: &str,
    text: &str,
) -> Result<(), BackendError> {
    let number = format!("{}{:03}", clock::unix_ms(), COUNTER.fetch_add(1, Ordering::Relaxed) % 1000);
    let file = paths.page(&number);
    let page = Page { cause: cause.into(), subject: subject.into(), text: text.into() };
    let failed =
        |error: std::io::Error| BackendError::Refused(format!("{} cannot be written: {error}", file.display()));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
        clear_old(folder).map_err(failed)?;
        if std::fs::read_dir(folder).map_err(failed)?.count() >= WAITING {
            return Err(BackendError::Refused(format!("{WAITING} pages wait in {}", folder.display())));
        }
    }
    files::create(&file, &page.to_bytes(), 0o644).map_err(failed)?;
    let unit = format!("zeta-bft-page@{number}.service");
    let calls = bus::bus(&live.connection).await.map_err(refused)?;
    let end = bus::end_of(&unit).map_err(refused)?;
    calls.add_match_rule(end.clone()).await.map_err(|error| refused(error.into()))?;
    let started = match manager(&live.connection).await {
        Ok(manager) => manager.start_unit(&unit, FAIL).await,
        Err(error) => Err(error),
    };
    let job = match started {
        Ok(job) => job,
        Err(error) => {
            let _ = std::fs::remove_file(&file);
            let _ = calls.remove_match_rule(end).await;
            return Err(refused(error));
        }
    };
    let (answer, ended) = oneshot::channel();
    live.asks.send(Ask::Job(job.to_string(), answer)).await.map_err(|_| gone())?;
    let cause = cause.to_owned();
    tokio::spawn(async move {
        match ended.await {
            Ok(result) if result == "done" => {}
            Ok(result) => tracing::error!(cause, result, "the page command failed"),
            Err(_) => tracing::warn!(cause, "whether the page was sent is not known"),
        }
        let _ = std::fs::remove_file(&file);
        let _ = calls.remove_match_rule(end).await;
    });
    Ok(())
}

/// Takes away what an earlier warden left: no page takes so long.
fn clear_old(folder: &std::path::Path) -> std::io::Result<()> {
    const OLD: std::time::Duration = std::time::Duration::from_secs(2 * 3600);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let written = entry.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if clock::unix().saturating_sub(written) > OLD {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

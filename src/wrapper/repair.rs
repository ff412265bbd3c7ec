//! What is under repair while a tick begins, so that an AI that repairs by hand can look first (`ZETA_BFT_REPAIR`).

use crate::grpc::MAX_MESSAGE;
use crate::grpc::client::connect;
use crate::protocol::policy::SubjectKind;
use crate::protocol::statement::StateName;
use crate::wire::v1::inspect_service_client::InspectServiceClient;
use crate::wire::v1::{QuorumRequest, QuorumView, SubjectView};
use std::path::Path;
use std::time::Duration;

/// Longest that a tick waits for the answer.
const LIMIT: Duration = Duration::from_millis(200);
/// Nothing is, or nobody says.
const NONE: &str = "none";

/// The subject under repair, as the warden says, or `none`. `own` is the asking persona's wrapper, which is not told of
/// its own restart.
pub async fn subject_under_repair(inspect: &Path, own: &str) -> String {
    match tokio::time::timeout(LIMIT, ask(inspect)).await {
        Ok(Some(view)) => chosen(&view, own).map_or(NONE, |subject| &subject.name).to_owned(),
        Ok(None) | Err(_) => NONE.to_owned(),
    }
}

async fn ask(inspect: &Path) -> Option<QuorumView> {
    let connection = connect(inspect).await.ok()?;
    let mut client = InspectServiceClient::new(connection.channel).max_decoding_message_size(MAX_MESSAGE);
    Some(client.quorum(QuorumRequest { subject: None }).await.ok()?.into_inner())
}

/// k3s and other units before personas: those are what an AI may have its hands on.
fn chosen<'a>(view: &'a QuorumView, own: &str) -> Option<&'a SubjectView> {
    let repaired = [StateName::Acting, StateName::Settling, StateName::Reconciling].map(StateName::as_str);
    let mut subjects = view.subjects.iter().filter(|s| repaired.contains(&s.state.as_str()) && s.name != own);
    let units = [SubjectKind::K3s, SubjectKind::Unit].map(|kind| kind.as_str());
    subjects.clone().find(|s| units.contains(&s.kind.as_str())).or_else(|| subjects.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3s_under_repair_is_named_before_personas_and_ones_own_restart_never() {
        let subject = |name: &str, kind: &str, state: &str| SubjectView {
            name: name.into(),
            kind: kind.into(),
            state: state.into(),
            ..SubjectView::default()
        };
        let view = |k3s| QuorumView {
            subjects: vec![
                subject("lior", "persona", "acting"),
                subject("otto", "persona", "settling"),
                subject("k3s", "k3s", k3s),
            ],
            ..QuorumView::default()
        };
        let name = |view: &QuorumView, own| chosen(view, own).map(|s| s.name.clone());
        assert_eq!(name(&view("acting"), "otto").as_deref(), Some("k3s"));
        assert_eq!(name(&view("healthy"), "otto").as_deref(), Some("lior"));
        assert_eq!(name(&view("healthy"), "lior").as_deref(), Some("otto"));
    }
}

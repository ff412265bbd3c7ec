use super::*;
use crate::inspect::receipts::Receipts;
use crate::inspect::tests::receipt;
use crate::protocol::policy::{Mode, Timing};
use crate::protocol::roster::fixture::roster;
use crate::protocol::statement::ReceiptKind;
use crate::protocol::types::{Digest, Timestamp, WardenInstance};
use crate::protocol::view::WardenView;
use crate::warden::mailbox::{Call, Inbox};
use crate::warden::timeline::Timelines;
use std::collections::BTreeMap;

/// Long enough for every task that can go on to do so.
const SETTLE: Duration = Duration::from_millis(50);

fn socket() -> (InspectSocket, Inbox) {
    let policy = Policy {
        digest: Digest::default(),
        mode: Mode::Act,
        subjects: BTreeMap::new(),
        node_per_day: Policy::NODE_PER_DAY,
        drill: false,
        timing: Timing::default(),
    };
    let (mailbox, inbox) = Mailbox::open();
    let committee = Committee { roster: Arc::new(roster()), policy: Arc::new(policy), isolation: false };
    (InspectSocket::new(committee, mailbox), inbox)
}

fn receipts(last: u64) -> Receipts {
    let mut receipts = Receipts::default();
    (1..=last).for_each(|seq| receipts.insert(receipt(seq, ReceiptKind::Abort, None)));
    receipts
}

/// Lets one look be taken, as the engine does.
async fn look(inbox: &mut Inbox, receipts: &Receipts, durable: u64) {
    let Some(Call::Look(look)) = inbox.calls.recv().await else { panic!("no look") };
    let view = WardenView {
        instance: WardenInstance(1),
        subjects: Vec::new(),
        vendors_live: 0,
        holds: Vec::new(),
        journal_damage: None,
        frozen_until: None,
        personas: Vec::new(),
    };
    look(&Facts { view, now: Timestamp::ZERO, receipts, durable, timelines: &Timelines::new([]) });
}

async fn history(socket: &InspectSocket) -> Replies<v1::HistoryEntry> {
    socket.history(Request::new(v1::HistoryRequest::default())).await.unwrap().into_inner()
}

#[tokio::test]
async fn history_is_fetched_as_it_is_read_and_no_look_takes_all_of_it() {
    let (socket, mut inbox) = socket();
    let receipts = receipts(30);
    let (mut entries, ()) = tokio::join!(history(&socket), look(&mut inbox, &receipts, 30));
    let mut told = Vec::new();
    // Nobody looks meanwhile: what comes was held for this reader.
    while let Ok(Some(entry)) = tokio::time::timeout(SETTLE, entries.next()).await {
        told.push(entry.unwrap().seq);
    }
    assert!((1..=8).contains(&told.len()), "{} entries were held for one reader", told.len());

    let reading = async {
        while let Some(entry) = entries.next().await {
            told.push(entry.unwrap().seq);
        }
    };
    // What is written meanwhile is for the next reader.
    let looking = async {
        loop {
            look(&mut inbox, &receipts, 30).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = looking => {}
    }
    assert!(told.iter().copied().eq(1..=30), "{told:?}");
}

#[tokio::test]
async fn a_history_that_nobody_reads_asks_for_no_more() {
    let (socket, mut inbox) = socket();
    let receipts = receipts(30);
    let (_unread, ()) = tokio::join!(history(&socket), look(&mut inbox, &receipts, 30));
    let more = tokio::time::timeout(SETTLE, inbox.calls.recv()).await;
    assert!(more.is_err(), "a look for a reader that does not read");
}

#[tokio::test]
async fn a_history_ends_at_what_was_durable_when_it_began() {
    let (socket, mut inbox) = socket();
    let receipts = receipts(30);
    let (entries, ()) = tokio::join!(history(&socket), look(&mut inbox, &receipts, 10));
    let looking = async {
        loop {
            look(&mut inbox, &receipts, 30).await;
        }
    };
    let told: Vec<_> = tokio::select! {
        told = entries.map(|entry| entry.unwrap().seq).collect() => told,
        () = looking => Vec::new(),
    };
    assert!(told.iter().copied().eq(1..=10), "{told:?}");
}

#[tokio::test]
async fn a_history_that_is_cut_short_by_the_wardens_end_says_so() {
    let (socket, mut inbox) = socket();
    let receipts = receipts(30);
    let (entries, ()) = tokio::join!(history(&socket), look(&mut inbox, &receipts, 30));
    drop(inbox);
    let told: Vec<_> = entries.collect().await;
    assert_eq!(told.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Unavailable);
}

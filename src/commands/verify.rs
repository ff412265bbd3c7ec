//! `zeta-bft verify`

use super::ask::print;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::inspect::rfc3339_ms;
use crate::journal;
use crate::protocol::certificate::{CheckedCertificate, CheckedReceipt, ReceiptSequence, check_receipt};
use crate::protocol::record::{CompactedHead, Record};
use crate::protocol::roster::Roster;
use crate::protocol::session::verify_session;
use crate::protocol::signing::{Domain, VerifyingKey};
use crate::protocol::statement::{Codec, Envelope, EquivocationProof, JournalHead, ReceiptKind, Verified};
use crate::protocol::types::{Digest, PersonaId, VendorId};
use crate::wire::v1::HistoryEntry;
use crate::wire::{Proto, decode_envelope};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks receipts, certificates, proofs and journals offline, with the roster alone.
///
/// FILE is a journal, the output of `zeta-bft history --json`, a kept receipt, or a proof of equivocation. Given a journal
/// and receipts together, receipts that the journal should hold and does not show that it was rolled back.
///
/// Exit code: 0 everything holds, 1 something does not, 2 a file is empty, so that there is nothing to verify in it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to check.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The roster to check with, instead of the node's own. Those that it follows from are taken from the journals given, and
    /// from roster.EPOCH beside it.
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] when there is no usable roster; what does not hold is printed and told by the exit code.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let path = args.roster.unwrap_or_else(|| paths.roster());
    let roster =
        read(&path).map_err(Failure::new).and_then(|bytes| Ok(Roster::open(&decode_envelope(&bytes)?, &Proto)?));
    let roster = roster.map_err(|failure| {
        failure.hint(format!(
            "{} must be the roster as its operator signed it; name another with --roster",
            path.display()
        ))
    })?;
    let mut inspection = Inspection::new(roster);
    inspection.know_earlier(|epoch, _| {
        let bytes = read(&path.with_file_name(format!("roster.{epoch}"))).ok()?;
        Roster::open(&decode_envelope(&bytes).ok()?, &Proto).ok()
    });
    for file in &args.files {
        let name = file.display().to_string();
        match read(file) {
            Ok(bytes) => inspection.file(&name, &bytes),
            Err(why) => inspection.fault(name, why),
        }
    }
    let report = inspection.report();
    print(&report.lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(ExitCode::from(report.exit_code()))
}

/// What was found in some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Everything that was checked, one line each.
    pub lines: Vec<String>,
    /// How many of the lines say that something does not hold.
    pub faults: usize,
    /// How many files hold nothing.
    pub empty: usize,
}

impl Report {
    /// As [`Args`] tells it.
    pub const fn exit_code(&self) -> u8 {
        match (self.faults, self.empty) {
            (0, 0) => 0,
            (0, _) => 2,
            _ => 1,
        }
    }
}

/// Checks files, each with its name, as [`run`] does; of earlier rosters only those in journals are known.
pub fn inspect(roster: Roster, files: &[(&str, &[u8])]) -> Report {
    let mut inspection = Inspection::new(roster);
    files.iter().for_each(|(name, bytes)| inspection.file(name, bytes));
    inspection.report()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(journal::MAX_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > journal::MAX_FILE => Err(format!("larger than {} bytes", journal::MAX_FILE)),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Everything that was checked, one line each.
struct Inspection {
    /// The roster to check with, then those that it follows from, newest first: each names the digest of the one before.
    rosters: Vec<Roster>,
    lines: Vec<String>,
    faults: usize,
    /// Files that hold nothing: what history prints where nothing has happened, but also what is left of a journal that was cut.
    empty: usize,
    /// Journals that are whole: name, head, and the receipts in them by place.
    journals: Vec<(String, JournalHead, BTreeMap<u64, Digest>)>,
    /// Receipts from elsewhere.
    loose: BTreeSet<(u64, Digest)>,
}

impl Inspection {
    fn new(roster: Roster) -> Self {
        Self {
            rosters: vec![roster],
            lines: Vec::new(),
            faults: 0,
            empty: 0,
            journals: Vec::new(),
            loose: BTreeSet::new(),
        }
    }

    /// Takes in the rosters that the known ones follow from, as far as they can be had.
    fn know_earlier(&mut self, kept: impl Fn(u64, Digest) -> Option<Roster>) {
        while let Some(oldest) = self.rosters.last()
            && let previous = oldest.statement().previous
            && let Some(earlier) = oldest.epoch().checked_sub(1).and_then(|epoch| kept(epoch, previous))
            && earlier.digest() == previous
        {
            self.rosters.push(earlier);
        }
    }

    /// What holds by any of the rosters; what is wrong with it by the newest.
    fn by_any<T, E>(&self, check: impl Fn(&Roster) -> Result<T, E>) -> Result<T, E> {
        let newest = check(&self.rosters[0]);
        match self.rosters[1..].iter().find_map(|roster| check(roster).ok()) {
            Some(held) if newest.is_err() => Ok(held),
            _ => newest,
        }
    }

    /// The end: what the files say of each other.
    fn report(mut self) -> Report {
        self.compare_with_journals();
        Report { lines: self.lines, faults: self.faults, empty: self.empty }
    }

    fn good(&mut self, what: impl std::fmt::Display) {
        self.lines.push(format!("{what}: ok"));
    }

    fn fault(&mut self, what: impl std::fmt::Display, why: impl std::fmt::Display) {
        self.faults += 1;
        self.lines.push(format!("{what}: NOT OK: {why}"));
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        if bytes.trim_ascii().is_empty() {
            self.empty += 1;
            self.lines.push(format!("{name}: empty: there is nothing to verify"));
        } else if bytes.starts_with(journal::MAGIC) {
            self.journal(name, bytes);
        } else if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
            self.history(name, bytes);
        } else if let Ok(envelope) = decode_envelope(bytes) {
            self.envelope(name, &envelope);
        } else {
            match Codec::<EquivocationProof>::decode(&Proto, bytes) {
                Ok(proof) => self.proof(name, &proof, None),
                Err(_) => self.fault(name, "neither a journal, nor history, nor a receipt, nor a proof"),
            }
        }
    }

    fn receipt(&mut self, what: &str, envelope: &Envelope) -> Option<CheckedReceipt> {
        let receipt = self.by_any(|roster| check_receipt(envelope, roster, &Proto));
        receipt.map_err(|error| self.fault(what, error)).ok()
    }

    fn in_sequence(&mut self, sequence: &mut ReceiptSequence, receipt: &CheckedReceipt) {
        match sequence.take(receipt, &Proto) {
            Ok(()) => self.good(sentence(receipt)),
            Err(error) => self.fault(sentence(receipt), error),
        }
    }

    fn journal(&mut self, name: &str, bytes: &[u8]) {
        let scan = journal::scan(bytes);
        let rosters: Vec<Roster> = scan
            .records
            .iter()
            .filter_map(|stored| journal::last_roster(std::slice::from_ref(stored), &Proto))
            .collect();
        self.know_earlier(|_, digest| rosters.iter().find(|roster| roster.digest() == digest).cloned());
        let faults = self.faults;
        let (mut sequence, mut receipts) = (ReceiptSequence::default(), BTreeMap::new());
        for (index, stored) in scan.records.iter().enumerate() {
            let what = format!("record {}", stored.seq);
            let record: Record = match Proto.decode(&stored.encoded) {
                Ok(record) => record,
                Err(error) => {
                    self.fault(what, error);
                    continue;
                }
            };
            let begins = (stored.seq, stored.previous) == (1, Digest::default()) || matches!(record, Record::Head(_));
            if index == 0 && !begins {
                self.fault(&what, "the journal begins in the middle, without a signed head");
            }
            match record {
                Record::Receipt(envelope) => {
                    let Some(receipt) = self.receipt(&what, &envelope) else { continue };
                    self.in_sequence(&mut sequence, &receipt);
                    receipts.insert(receipt.seq, envelope.digest());
                    if !stored.carried && (receipt.seq, receipt.previous) != (stored.seq, stored.previous) {
                        self.fault(&what, format!("it holds the receipt for place {}", receipt.seq));
                    }
                }
                Record::Quarantine { persona, proof } => {
                    self.proof(&format!("quarantine of {persona}"), &proof, Some(&persona));
                }
                Record::Head(envelope) => {
                    let claimed = self.compacted_head(&envelope);
                    match claimed {
                        Ok(head)
                            if index == 0 && (head.seq.wrapping_add(1), head.hash) == (stored.seq, stored.previous) =>
                        {
                            self.good(format!("compacted after record {}", head.seq));
                        }
                        Ok(_) => self.fault(what, "a carried head stands in the wrong place"),
                        Err(why) => self.fault(what, why),
                    }
                }
                Record::Roster(envelope) => match self.roster(&envelope) {
                    Ok(roster) => self.good(format!("{what}: roster {}", roster.epoch())),
                    Err(why) => self.fault(what, why),
                },
                Record::Boot { .. } | Record::Ledger(_) | Record::Operator { .. } => {}
            }
        }
        let head = scan.head();
        let what =
            format!("{name}: {} records, {} receipts, up to record {}", scan.records.len(), receipts.len(), head.seq);
        match scan.damage {
            Some(damage) => self.fault(what, damage),
            None if self.faults > faults => self.fault(what, "see above"),
            None if scan.written > scan.end => {
                let left = scan.written - scan.end;
                self.good(format!("{what}, then {left} bytes of a record that is not finished"));
            }
            None => self.good(format!("{what}, chained without a gap")),
        }
        self.journals.push((name.to_owned(), head, receipts));
    }

    /// A roster is signed with the key that it names itself, so anybody can make one: it means something only as the one to check
    /// with, or one that this follows from.
    fn roster(&self, envelope: &Envelope) -> Result<Roster, String> {
        let roster = Roster::open(envelope, &Proto).map_err(|error| error.to_string())?;
        if self.rosters.iter().any(|known| known.digest() == roster.digest()) {
            return Ok(roster);
        }
        let (epoch, newest) = (roster.epoch(), self.rosters[0].epoch());
        let oldest = self.rosters.last().map_or(newest, Roster::epoch);
        Err(if epoch > newest {
            format!(
                "roster {epoch} is newer than roster {newest}, which this is checked with, and nobody vouches for it but its \
                 own key: if it is the node's, name it with --roster"
            )
        } else if epoch == newest {
            format!("it is another one than the roster {newest} that this is checked with")
        } else if epoch >= oldest {
            format!("it is another one than the roster {epoch} that roster {newest} follows from")
        } else {
            format!(
                "nothing known links it to roster {oldest}: if it is the node's, lay the rosters between, as roster.EPOCH, \
                 beside the one that this is checked with"
            )
        })
    }

    fn compacted_head(&self, envelope: &Envelope) -> Result<JournalHead, String> {
        self.by_any(|roster| {
            let key = VerifyingKey::new(roster.statement().warden).map_err(|error| error.to_string())?;
            let head: Verified<CompactedHead> = envelope.open(&key, &Proto).map_err(|error| error.to_string())?;
            Ok(head.0)
        })
    }

    /// The receipt in a line of history.
    fn receipt_in(&mut self, what: &str, text: &str) -> Option<CheckedReceipt> {
        let envelope = data_encoding::BASE64.decode(text.as_bytes()).ok().and_then(|b| decode_envelope(&b).ok());
        if envelope.is_none() {
            self.fault(what, "its receipt is no base64 of a signed statement");
        }
        self.receipt(what, &envelope?)
    }

    fn history(&mut self, name: &str, bytes: &[u8]) {
        let mut receipts = BTreeMap::new();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line)) {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let what = format!("{name}, line {number}");
            let entry: HistoryEntry = match serde_json::from_slice(line) {
                Ok(entry) => entry,
                Err(error) => {
                    self.fault(what, format!("no line of `history --json`: {error}"));
                    continue;
                }
            };
            let intent = entry.intent.as_ref().and_then(|text| self.receipt_in(&what, text));
            let end = self.receipt_in(&what, &entry.receipt);
            if let Some(end) = &end
                && (intent.is_some() || entry.intent.is_none())
                && let Some(field) = differing_field(&entry, end, intent.as_ref())
            {
                self.fault(&what, format!("its `{field}` is not that of the signed receipt"));
            }
            for receipt in intent.into_iter().chain(end) {
                receipts.insert((receipt.seq, receipt.envelope().digest()), receipt);
            }
        }
        if receipts.is_empty() {
            self.fault(name, "there is no receipt in it that holds");
        }
        // A line stands where its action ended; the receipts themselves are judged in the order of their places.
        let mut sequence = ReceiptSequence::default();
        for (place, receipt) in receipts {
            self.in_sequence(&mut sequence, &receipt);
            self.loose.insert(place);
        }
    }

    fn envelope(&mut self, name: &str, envelope: &Envelope) {
        match envelope.domain {
            Domain::Receipt => {
                if let Some(receipt) = self.receipt(name, envelope) {
                    self.good(sentence(&receipt));
                    self.loose.insert((receipt.seq, envelope.digest()));
                }
            }
            Domain::Roster => match self.roster(envelope) {
                Ok(roster) => self.good(format!("{name}: roster {} of node {}", roster.epoch(), roster.node())),
                Err(why) => self.fault(name, why),
            },
            Domain::Session => match self.by_any(|roster| verify_session(envelope, roster, &Proto)) {
                Ok(session) => self.good(format!("{name}: session {} of {}", session.incarnation, session.persona)),
                Err(error) => self.fault(name, error),
            },
            Domain::JournalHead => match self.compacted_head(envelope) {
                Ok(head) => self.good(format!("{name}: head of a journal at record {}", head.seq)),
                Err(why) => self.fault(name, why),
            },
            Domain::SessionRequest | Domain::Heartbeat | Domain::Episode | Domain::Vote => {
                self.fault(name, format!("{} proves nothing by itself", envelope.domain.tag()));
            }
        }
    }

    fn proof(&mut self, name: &str, proof: &EquivocationProof, against: Option<&PersonaId>) {
        match self.by_any(|roster| proof.check(roster, &Proto)) {
            Ok(proven) if against.is_some_and(|accused| *accused != proven.persona) => {
                self.fault(name, format!("the proof is against {}", proven.persona));
            }
            Ok(proven) => {
                let (persona, vendor, seq) = (&proven.persona, &proven.vendor, proven.seq);
                self.good(format!("{name}: {persona} ({vendor}) signed two statements with number {seq}"));
            }
            Err(error) => self.fault(name, error),
        }
    }

    /// Holds receipts from elsewhere against the journals.
    fn compare_with_journals(&mut self) {
        let mut found = Vec::new();
        for (name, head, receipts) in &self.journals {
            for (seq, digest) in &self.loose {
                if *seq > head.seq {
                    let why = format!("receipt {seq} is above its head {}: it was rolled back", head.seq);
                    found.push((name.clone(), why));
                } else if receipts.get(seq).is_some_and(|held| held != digest) {
                    found.push((
                        name.clone(),
                        format!("it holds another receipt {seq}: it was rolled back and written anew"),
                    ));
                }
            }
        }
        found.into_iter().for_each(|(name, why)| self.fault(name, why));
    }
}

/// A receipt in one line.
fn sentence(receipt: &CheckedReceipt) -> String {
    let (seq, action, subject, episode) = (receipt.seq, receipt.action, &receipt.subject, receipt.episode);
    let about = format!("receipt {seq}: {action} of {subject} in episode {episode} after {}", receipt.class);
    let outcome = receipt.outcome.map_or("", |outcome| outcome.as_str());
    let observed = if receipt.kind == ReceiptKind::WouldAct { " (observed, not done)" } else { "" };
    match (receipt.certificate(), receipt.intent) {
        (Some(certificate), _) => {
            let vendors: Vec<_> = certificate.vendors().iter().map(VendorId::as_str).collect();
            let (voted, eligible) = (vendors.len(), certificate.eligible());
            format!("{about}{observed}: {voted} of {eligible} vendors ({})", vendors.join(", "))
        }
        (None, Some(intent)) => format!("{about}: {} {outcome}, ends receipt {intent}", receipt.kind),
        (None, None) => format!("{about}: {} {outcome}", receipt.kind),
    }
}

/// What a line of history says beside the receipt must be what the receipt says, and the INTENT that it ends.
fn differing_field(
    entry: &HistoryEntry,
    receipt: &CheckedReceipt,
    intent: Option<&CheckedReceipt>,
) -> Option<&'static str> {
    let certificate = intent.map_or(receipt, |intent| intent).certificate();
    let voters =
        certificate.map(CheckedCertificate::votes).unwrap_or_default().iter().map(|vote| vote.persona.as_str());
    let facts = [
        (entry.seq == receipt.seq, "seq"),
        (entry.kind == receipt.kind.as_str(), "kind"),
        (entry.episode == receipt.episode.to_string(), "episode"),
        (entry.round == receipt.round.0, "round"),
        (entry.rung == receipt.rung.0, "rung"),
        (entry.subject == receipt.subject.as_str(), "subject"),
        (entry.action == receipt.action.as_str(), "action"),
        (entry.fault_class == receipt.class.as_str(), "fault_class"),
        (entry.outcome.as_deref() == receipt.outcome.map(|outcome| outcome.as_str()), "outcome"),
        (entry.at == rfc3339_ms(receipt.wall_ms), "at"),
        (entry.before == receipt.before.to_string(), "before"),
        (entry.after == receipt.after.map(|after| after.to_string()), "after"),
        (entry.detail == receipt.detail, "detail"),
        (intent.is_none_or(|intent| receipt.intent == Some(intent.seq)), "intent"),
        (entry.voters.iter().map(String::as_str).eq(voters), "voters"),
    ];
    facts.iter().find(|(same, _)| !same).map(|(_, field)| *field)
}

#[cfg(test)]
mod tests;

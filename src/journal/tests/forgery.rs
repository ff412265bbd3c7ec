//! Claims about a liar whose statements look like records of the journal that they are written into.
//!
//! The liar knows everything but the salt: the layout, the head, the length of what stands before its statement.

use super::super::layout::{Kind, file_header, record_bytes};
use super::*;
use crate::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, Verdict};
use crate::protocol::record::Record;
use crate::protocol::roster::fixture::{key, persona, roster, session_key, subject};
use crate::protocol::signing::Domain;
use crate::protocol::statement::{
    ActionCertificate, ActionKind, Choice, Codec, DecodeError, Envelope, EquivocationProof, Header, Heartbeat, Receipt,
    ReceiptKind, Vote,
};
use crate::protocol::types::*;
use crate::wire::{Proto, max_payload};

/// Bytes of a sector of the disk on which a hole may be left.
const HOLE: usize = 64;
/// What it takes for the salt.
const LIARS: Salt = Salt::new(*b"a liar's guess..");

fn header() -> Header {
    let roster = roster();
    Header {
        cluster: roster.cluster().clone(),
        node: roster.node().clone(),
        boot: BootId([1; 16]),
        roster_epoch: 1,
        roster: roster.digest(),
        policy: Digest([6; 32]),
        persona: persona("otto"),
        incarnation: SessionIncarnation(9),
        session_key: session_key("otto").public(),
        seq: 5,
        observed_at: Timestamp::from_nanos(7),
    }
}

fn vote() -> Vote {
    let run = Incarnation { boot: BootId([1; 16]), invocation: InvocationId([2; 16]) };
    let header = header();
    Vote {
        episode: EpisodeId::new(WardenInstance(3), 2),
        round: Round(1),
        nonce: Nonce([7; 16]),
        set_epoch: SetEpoch(0),
        subject: subject("lior"),
        incarnation: run,
        rung: Rung(0),
        class: FaultClass::Crash,
        choice: Choice::Approve,
        challenge: None,
        attestation: Attestation {
            subject: subject("lior"),
            incarnation: run,
            verdict: Verdict::Down,
            class: Some(FaultClass::Crash),
            evidence: Evidence::Hard,
            reason: Reason::Killed,
            observation: Digest::default(),
            observed_at: header.observed_at,
            resume_at: None,
        },
        header,
    }
}

fn receipt(head: JournalHead, vote: Envelope) -> Record {
    let vote_of = vote_in(&vote).expect("a vote");
    let receipt = Receipt {
        cluster: vote_of.header.cluster,
        node: vote_of.header.node,
        boot: vote_of.header.boot,
        warden: WardenInstance(3),
        seq: head.seq + 1,
        previous: head.hash,
        kind: ReceiptKind::Intent,
        episode: vote_of.episode,
        round: vote_of.round,
        rung: vote_of.rung,
        subject: vote_of.subject,
        action: ActionKind::Restart,
        class: vote_of.class,
        before: vote_of.incarnation,
        after: None,
        outcome: None,
        detail: String::new(),
        certificate: Some(ActionCertificate { episode: vote.clone(), votes: vec![vote], sessions: Vec::new() }),
        intent: None,
        at: Timestamp::from_nanos(9),
        wall_ms: 1,
    };
    Record::Receipt(Envelope::seal(&receipt, &key("warden"), &Proto))
}

fn vote_in(envelope: &Envelope) -> Result<Vote, DecodeError> {
    Proto.decode(&envelope.payload)
}

/// A statement with a field that nobody knows, and that is let through: as many of these bytes, over and over, as it may have.
fn stuffed(statement: &[u8], with: &[u8], domain: Domain) -> Envelope {
    let mut payload = statement.to_vec();
    let room = max_payload(domain) - payload.len() - 4;
    let bytes: Vec<u8> = with.iter().copied().cycle().take(room / with.len() * with.len()).collect();
    payload.extend([15 << 3 | 2, (bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7 & 0x7f) as u8 | 0x80]);
    payload.push((bytes.len() >> 14) as u8);
    payload.extend(bytes);
    assert!(payload.len() <= max_payload(domain));
    let (key, signature) = (session_key("otto").public(), [3; 64]);
    Envelope { domain, payload: payload.into(), signature, key }
}

fn two() -> (MemoryDisk, Journal<MemoryDisk>) {
    let disk = MemoryDisk::new(None);
    let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
    for payload in [&b"first"[..], b"second"] {
        append(&mut journal, payload).unwrap();
    }
    journal.sync().unwrap();
    (disk, journal)
}

/// Tears the record that `encoded` makes as the third, in every way, and reads what is left.
fn every_tear_is_a_torn_end(encoded: &[u8]) {
    let (disk, mut journal) = two();
    let begin = journal.size() as usize;
    append(&mut journal, encoded).unwrap();
    let bytes = disk.now()[..journal.size() as usize + HOLE].to_vec();
    let end = journal.size() as usize;
    let torn = |lost: std::ops::Range<usize>, how: &str| {
        let mut image = bytes.clone();
        image[lost.clone()].fill(0);
        if image == bytes {
            return;
        }
        let found = scan(&image);
        assert_eq!(found.damage, None, "{how} of {lost:?}, of a record at {begin}..{end}");
        assert_eq!(payloads(&found.records), [&b"first"[..], b"second"], "{how} of {lost:?}");
    };
    for at in begin..end {
        torn(at..end, "loss");
        torn(begin..at + 1, "loss");
        torn(at..(at + HOLE).min(end), "hole");
    }
    let mut image = bytes[..end - 8].to_vec();
    image.resize(bytes.len(), 0);
    let mut opened = Journal::open_on(MemoryDisk::new(Some(image))).unwrap();
    assert_eq!((opened.damage.clone(), opened.records.len(), opened.erased > 0), (None, 2, true));
    append(&mut opened.journal, b"third").unwrap();
}

#[test]
fn a_torn_intent_whose_vote_holds_a_later_record_is_a_torn_end() {
    let (_, journal) = two();
    let head = journal.head();
    for seq in [head.seq + 2, u64::MAX] {
        let forged = record_bytes(&LIARS, Kind::Appended, seq, seq - 1, &Digest([9; 32]), b"later");
        let vote = stuffed(&Proto.encode(&vote()), &forged, Domain::Vote);
        assert_eq!(vote_in(&vote), Ok(self::vote()), "the warden reads a vote like any other");
        every_tear_is_a_torn_end(&Proto.encode(&receipt(head, vote)));
    }
}

/// A quarantine holds two heartbeats, which are larger.
#[test]
fn a_torn_quarantine_whose_proof_is_all_beginnings_of_records_is_a_torn_end() {
    let mut beginning = LIARS.mark().to_vec();
    beginning.push(Kind::Appended as u8);
    beginning.extend_from_slice(&u32::try_from(MAX_PAYLOAD).unwrap().to_be_bytes());
    let (attestations, heads, receipt) = (Vec::new(), Vec::new(), JournalHead::default());
    let heartbeat = Heartbeat { header: header(), attestations, health: 0, heads, receipt };
    let lie = stuffed(&Proto.encode(&heartbeat), &beginning, Domain::Heartbeat);
    let proof = EquivocationProof { session: stuffed(b"", b"s", Domain::Session), first: lie.clone(), second: lie };
    let encoded = Proto.encode(&Record::Quarantine { persona: persona("otto"), proof });
    let (disk, mut journal) = two();
    append(&mut journal, &encoded).unwrap();
    let mut bytes = disk.now();
    bytes[journal.size() as usize - 9..].fill(0);
    let found = scan(&bytes);
    assert_eq!((payloads(&found.records), found.damage), (vec![&b"first"[..], b"second"], None));
}

/// What a CRC of 32 bits, in whatever state it was, makes of some bytes, without its inversions.
fn crc32c_remainder(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A liar can write sectors that a CRC does not miss: its secret beginning would change nothing, as a CRC is linear.
#[test]
fn a_lost_sector_is_noticed_whatever_a_liar_put_into_it() {
    let mut sector: Vec<u8> = (1..=(HOLE - 4) as u8).collect();
    sector.extend(crc32c_remainder(&sector).to_le_bytes());
    assert_eq!(crc32c_remainder(&sector), 0);
    let (disk, mut journal) = two();
    let begin = journal.size() as usize;
    let encoded = [b"before", &sector[..], b"after"].concat();
    append(&mut journal, &encoded).unwrap();
    let mut bytes = disk.now();
    let at = begin + bytes[begin..].windows(HOLE).position(|window| window == sector).unwrap();
    bytes[at..at + HOLE].fill(0);
    let found = scan(&bytes);
    assert_eq!((payloads(&found.records), found.damage), (vec![&b"first"[..], b"second"], None));
}

#[test]
fn a_file_of_the_former_version_is_refused_left_alone_and_says_what_to_do() {
    // Its header had 16 bytes, and its records no salt.
    let mut former = b"zbftjrnl\0\0\0\x01\x9e\xb6\x0d\xdazbr\x01\0\0\0\x05".to_vec();
    former.resize(4096, 0);
    let disk = MemoryDisk::new(Some(former.clone()));
    let mut opened = Journal::open_on(disk.clone()).unwrap();
    let why = opened.damage.clone().expect("its records cannot be told from a liar's").why;
    assert_eq!(why, "it has version 1, this program reads 2: start the program that wrote it, or begin anew");
    assert!(matches!(append(&mut opened.journal, b"x"), Err(JournalError::Damaged(_))));
    assert!(matches!(opened.journal.compact(OTHER_SALT, b"", &[]), Err(JournalError::Damaged(_))));
    assert_eq!((opened.records, disk.calls(), disk.clone().read().unwrap()), (Vec::new(), 0, former));
}

#[test]
fn every_file_has_a_salt_of_its_own_that_its_records_rest_on_and_nothing_says() {
    let disk = MemoryDisk::new(None);
    let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
    append(&mut journal, b"one").unwrap();
    let before = disk.clone().read().unwrap();
    let said = format!("{:?} {SALT:?}", scan(&before));
    journal.compact(OTHER_SALT, b"HEAD", &[]).unwrap();
    append(&mut journal, b"two").unwrap();
    let after = disk.clone().read().unwrap();
    let of = |bytes: &[u8]| scan(bytes).salt.unwrap();
    assert!(of(&before) == SALT && of(&after) == OTHER_SALT);
    assert!(said.contains("Salt(..)") && !said.contains("[97, 32, 115"), "{said}");
    // The records of the one are none in the other.
    let moved = [&file_header(&OTHER_SALT), &before[FILE_HEADER..]].concat();
    assert_eq!((scan(&moved).records, of(&moved) == OTHER_SALT), (Vec::new(), true));
    assert!(Salt::random().unwrap() != Salt::random().unwrap());
}

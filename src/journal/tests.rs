//! Claims about the file, on a disk that loses, tears and reorders whatever was not synced.

use super::layout::{Witness, durable_witness, record_bytes};
use super::*;
use std::os::unix::fs::PermissionsExt as _;

mod forgery;
mod memory_disk;
mod recovery;

use memory_disk::{Dice, MemoryDisk, Trouble};

const SALT: Salt = Salt::new(*b"a salt of tests.");
/// Of what a compaction makes.
const OTHER_SALT: Salt = Salt::new(*b"salt after that.");

fn append<D: Disk>(journal: &mut Journal<D>, payload: &[u8]) -> Result<JournalHead, JournalError> {
    let head = journal.head();
    journal.append(head.seq + 1, head.hash, payload)
}

/// A journal with these payloads, each synced, and where each record begins and ends.
fn synced(payloads: &[&[u8]]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let disk = MemoryDisk::new(None);
    let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
    let mut places = Vec::new();
    for payload in payloads {
        let begin = journal.size();
        append(&mut journal, payload).unwrap();
        journal.sync().unwrap();
        places.push((begin as usize, journal.size() as usize));
    }
    let mut bytes = disk.now();
    bytes.truncate(journal.size() as usize);
    (bytes, places)
}

fn payloads(records: &[StoredRecord]) -> Vec<&[u8]> {
    records.iter().map(|record| &record.encoded[..]).collect()
}

const FOUR: [&[u8]; 4] = [b"first", b"", &[0; 130], b"last, with a salt o\x01 in it"];

#[test]
fn what_was_appended_comes_back_in_order_and_chained() {
    let (bytes, _) = synced(&FOUR);
    let scan = scan(&bytes);
    assert_eq!((payloads(&scan.records), &scan.damage), (FOUR.to_vec(), &None));
    let mut hash = Digest::default();
    for (record, seq) in scan.records.iter().zip(1..) {
        assert_eq!((record.seq, record.previous, record.carried), (seq, hash, false));
        hash = chain_hash(&hash, seq, &record.encoded);
        assert_eq!(record.hash, hash);
    }
    assert_eq!(scan.head(), JournalHead { seq: 4, hash });
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_record_and_makes_up_none() {
    let (bytes, places) = synced(&FOUR);
    for cut in FILE_HEADER..=bytes.len() {
        let whole = places.iter().filter(|(_, end)| *end <= cut).count();
        for zeros in [0, 1, 500] {
            let mut content = bytes[..cut].to_vec();
            content.resize(cut + zeros, 0);
            let found = scan(&content);
            // Zeros may complete a record whose own last bytes are zeros; then it is that very record.
            assert!(found.damage.is_none(), "cut at {cut}: {:?}", found.damage);
            assert!(found.records.len() >= whole, "cut at {cut}");
            assert_eq!(payloads(&found.records), FOUR[..found.records.len()], "cut at {cut}");
        }
        let disk = MemoryDisk::new(Some(bytes[..cut].to_vec()));
        let mut opened = Journal::open_on(disk.clone()).unwrap();
        assert_eq!(payloads(&opened.records), FOUR[..whole], "cut at {cut}");
        append(&mut opened.journal, b"next").unwrap();
        opened.journal.sync().unwrap();
        let again = Journal::open_on(disk).unwrap();
        assert_eq!((again.records.len(), again.erased), (whole + 1, 0), "cut at {cut}");
    }
    for cut in 0..FILE_HEADER {
        assert!(scan(&bytes[..cut]).damage.is_some(), "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_is_never_silently_accepted() {
    let (bytes, places) = synced(&FOUR);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut content = bytes.clone();
            content[at] ^= flip;
            let found = scan(&content);
            let intact = places.iter().filter(|(_, end)| *end <= at).count();
            let good = if at < FILE_HEADER { 0 } else { intact };
            assert_eq!(payloads(&found.records), FOUR[..good], "byte {at}");
            // What is flipped in the last record looks like a crash; any other record was on the disk for certain.
            assert_eq!(found.damage.is_none(), at >= places[3].0, "byte {at}: {:?}", found.damage);
        }
    }
}

#[test]
fn a_record_whose_checksum_ends_in_zeros_still_bears_witness_of_what_was_lost_before_it() {
    // One record in 256 ends so, and the zeros after it hide where it ends.
    let (mut bytes, places) = (0u32..)
        .map(|salt| synced(&[b"first", b"second", &salt.to_be_bytes()]))
        .find(|(bytes, _)| bytes.last() == Some(&0))
        .unwrap();
    bytes[places[1].0 + 9] ^= 1;
    bytes.resize(bytes.len() + 500, 0);
    let found = scan(&bytes);
    assert_eq!(payloads(&found.records), [b"first"]);
    let damage = found.damage.expect("record 3 says that record 2 was on the disk");
    assert_eq!(damage.at, places[1].0 as u64);
}

#[test]
fn a_file_in_which_everything_looks_like_a_record_is_damage_and_looked_at_for_a_bounded_time() {
    let (first, _) = synced(&[b"first"]);
    let mut beginning = record_bytes(&SALT, Kind::Appended, 9, 8, &Digest::default(), b"");
    beginning.truncate(29);
    beginning[9..13].copy_from_slice(&u32::try_from(MAX_PAYLOAD).unwrap().to_be_bytes());
    let with = |beginnings: usize| {
        let mut bytes = [&first[..], &beginning.repeat(beginnings)].concat();
        bytes.resize(5 * (MAX_PAYLOAD + 69) + 4, 0);
        bytes
    };
    let search = |bytes: &[u8]| durable_witness(bytes, first.len()..bytes.len(), &SALT, 2);
    assert_eq!((search(&with(5)), search(&with(6))), (Witness::None, Witness::TooMany));
    let why = scan(&with(6)).damage.expect("nobody can tell what is lost").why;
    assert_eq!(why, "record 2 has a wrong checksum, and too much after it looks like a record");
}

#[test]
fn a_damaged_journal_can_be_read_but_is_never_written() {
    let (mut bytes, places) = synced(&FOUR);
    bytes[places[1].0 + 9] ^= 1;
    let disk = MemoryDisk::new(Some(bytes.clone()));
    let mut opened = Journal::open_on(disk.clone()).unwrap();
    assert_eq!(payloads(&opened.records), FOUR[..1]);
    let damage = opened.damage.clone().unwrap();
    assert_eq!(damage.at, places[1].0 as u64);
    assert!(damage.to_string().contains("record 2"), "{damage}");
    assert!(matches!(append(&mut opened.journal, b"x"), Err(JournalError::Damaged(_))));
    assert!(matches!(opened.journal.sync(), Err(JournalError::Damaged(_))));
    assert!(matches!(opened.journal.compact(OTHER_SALT, b"", &[]), Err(JournalError::Damaged(_))));
    assert_eq!((disk.calls(), disk.clone().read().unwrap()), (0, bytes));
}

#[test]
fn a_record_taken_out_or_moved_is_damage() {
    let (bytes, places) = synced(&FOUR);
    let part = |index: usize| bytes[places[index].0..places[index].1].to_vec();
    let without_second = [bytes[..places[1].0].to_vec(), part(2), part(3)].concat();
    let swapped = [bytes[..places[1].0].to_vec(), part(2), part(1), part(3)].concat();
    for content in [without_second, swapped] {
        let found = scan(&content);
        assert_eq!(payloads(&found.records), FOUR[..1]);
        assert!(found.damage.is_some());
    }
}

#[test]
fn another_version_or_another_kind_of_file_is_named() {
    let (mut bytes, _) = synced(&FOUR);
    bytes[11] = 9;
    assert!(scan(&bytes).damage.unwrap().why.contains("version 9"));
    for content in [b"".to_vec(), b"{}".to_vec(), vec![0; 4096], b"#!/bin/sh\nexit 0 # not a journal".to_vec()] {
        assert!(scan(&content).damage.is_some() && scan(&content).records.is_empty());
    }
}

#[test]
fn a_record_out_of_its_place_is_refused_and_nothing_is_written() {
    let disk = MemoryDisk::new(None);
    let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
    let head = append(&mut journal, b"one").unwrap();
    let calls = disk.calls();
    assert!(matches!(journal.append(3, head.hash, b"x"), Err(JournalError::OutOfOrder { seq: 3, head: 1 })));
    assert!(matches!(journal.append(1, head.hash, b"x"), Err(JournalError::OutOfOrder { .. })));
    assert!(matches!(journal.append(2, Digest::default(), b"x"), Err(JournalError::WrongPrevious { seq: 2 })));
    let large = vec![1; MAX_PAYLOAD + 1];
    assert!(matches!(journal.append(2, head.hash, &large), Err(JournalError::RecordTooLarge { .. })));
    assert_eq!(disk.calls(), calls);
    append(&mut journal, &large[1..]).unwrap();
}

/// Creates, appends alone and in a batch, compacts, goes on; stops at the first error. Returns what was promised: every
/// payload (beside the carried head) whose sync returned, and all that was ever handed over, in order.
fn workload(disk: &MemoryDisk) -> (bool, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut promised, mut given) = (Vec::new(), Vec::new());
    let Ok(mut journal) = Journal::create_on(disk.clone(), SALT) else { return (false, promised, given) };
    let batches: [&[usize]; 3] = [&[10], &[200, 0, 70], &[130]];
    for (number, batch) in batches.into_iter().enumerate() {
        for (index, len) in batch.iter().enumerate() {
            given.push(vec![(16 * (number + 1) + index) as u8; *len]);
            if append(&mut journal, given.last().unwrap()).is_err() {
                return (true, promised, given);
            }
        }
        if journal.sync().is_err() {
            return (true, promised, given);
        }
        promised.clone_from(&given);
        if number == 1 && journal.compact(OTHER_SALT, b"HEAD", &given).is_err() {
            return (true, promised, given);
        }
    }
    (true, promised, given)
}

fn check_after_crash(image: Vec<u8>, promised: &[Vec<u8>], given: &[Vec<u8>], case: &str) {
    let check = |opened: &Opened<MemoryDisk>| {
        assert_eq!(opened.damage, None, "{case}");
        let found: Vec<_> = opened.records.iter().map(|r| &r.encoded).filter(|p| p.as_slice() != b"HEAD").collect();
        assert!(found.len() >= promised.len(), "{case}: {} of {} promised", found.len(), promised.len());
        assert!(given.iter().zip(&found).all(|(given, found)| given == *found), "{case}");
    };
    let disk = MemoryDisk::new(Some(image.clone()));
    let mut opened = Journal::open_on(disk.clone()).unwrap();
    check(&opened);
    let kept = opened.records.len();
    append(&mut opened.journal, b"later").unwrap();
    opened.journal.sync().unwrap();
    let again = Journal::open_on(disk).unwrap();
    assert_eq!((again.records.len(), again.damage), (kept + 1, None), "{case}");

    // The power may go again while the journal is being mended.
    for call in 0..2 {
        let disk = MemoryDisk::new(Some(image.clone())).with_trouble(Trouble::PowerLoss { call, after: true });
        if Journal::open_on(disk.clone()).is_err() {
            let image = disk.after_power_loss(&mut Dice(call as u64 + 7)).unwrap();
            check(&Journal::open_on(MemoryDisk::new(Some(image))).unwrap());
        }
    }
}

#[test]
fn whatever_a_sync_promised_survives_a_crash_at_every_write_and_sync() {
    let calm = MemoryDisk::new(None);
    let (_, promised, given) = workload(&calm);
    assert_eq!(promised, given);
    for call in 0..calm.calls() {
        for (after, seed) in (0..6).map(|seed| (seed % 2 == 0, seed)) {
            let case = format!("call {call}, after {after}, seed {seed}");
            let disk = MemoryDisk::new(None).with_trouble(Trouble::PowerLoss { call, after });
            let (created, promised, given) = workload(&disk);
            match disk.after_power_loss(&mut Dice(seed * 1000 + call as u64)) {
                Some(image) => check_after_crash(image, &promised, &given, &case),
                None => assert!(!created, "{case}: the file is gone"),
            }
        }
    }
}

#[test]
fn after_a_failed_write_or_sync_the_journal_does_nothing_any_more() {
    let calm = MemoryDisk::new(None);
    let mut journal = Journal::create_on(calm.clone(), SALT).unwrap();
    let first = calm.calls();
    append(&mut journal, b"one").unwrap();
    journal.sync().unwrap();
    journal.compact(OTHER_SALT, b"HEAD", &[]).unwrap();
    for call in first..calm.calls() {
        let disk = MemoryDisk::new(None).with_trouble(Trouble::Error { call });
        let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
        let run = |journal: &mut Journal<MemoryDisk>| -> Result<JournalHead, JournalError> {
            append(journal, b"one")?;
            journal.sync()?;
            journal.compact(OTHER_SALT, b"HEAD", &[])
        };
        assert!(matches!(run(&mut journal), Err(JournalError::Io { .. })), "call {call}");
        let calls = disk.calls();
        assert!(matches!(append(&mut journal, b"two"), Err(JournalError::Poisoned { .. })), "call {call}");
        assert!(matches!(journal.sync(), Err(JournalError::Poisoned { .. })), "call {call}");
        assert!(matches!(journal.compact(OTHER_SALT, b"HEAD", &[]), Err(JournalError::Poisoned { .. })), "call {call}");
        assert_eq!(disk.calls(), calls, "nothing is tried again");
    }
}

#[test]
fn a_full_disk_stops_no_repair_while_the_reserve_lasts() {
    let disk = MemoryDisk::new(None);
    let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
    let allocated = disk.size().unwrap();
    disk.grows_up_to(usize::try_from(allocated).unwrap());
    let intent = vec![7; 60_000];
    let mut written = 0;
    let error = loop {
        match append(&mut journal, &intent) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        journal.sync().unwrap();
        if journal.is_short_of_space() {
            assert!(matches!(
                journal.compact(OTHER_SALT, b"HEAD", &vec![vec![1; MAX_PAYLOAD]; 2]),
                Err(JournalError::NoSpace)
            ));
        }
    };
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    assert!(written as u64 * 60_000 >= RESERVE, "{written} records");
    assert!(journal.is_short_of_space());
    drop(journal);
    assert_eq!(Journal::open_on(disk.clone()).unwrap().records.len(), written);

    // Space came back.
    disk.grows_up_to(usize::MAX);
    let mut journal = Journal::open_on(disk).unwrap().journal;
    assert!(!journal.is_short_of_space());
    append(&mut journal, &intent).unwrap();
}

#[test]
fn a_compacted_journal_goes_on_from_the_head_it_had() {
    let disk = MemoryDisk::new(None);
    let mut journal = Journal::create_on(disk.clone(), SALT).unwrap();
    for payload in FOUR {
        append(&mut journal, payload).unwrap();
    }
    let before = journal.sync().unwrap();
    let head = journal.compact(OTHER_SALT, b"HEAD", &[b"kept".to_vec()]).unwrap();
    assert_eq!(head.seq, before.seq + 2);
    append(&mut journal, b"new").unwrap();
    journal.sync().unwrap();
    let opened = Journal::open_on(disk).unwrap();
    assert_eq!((opened.damage, opened.erased), (None, 0));
    assert_eq!(payloads(&opened.records), [&b"HEAD"[..], b"kept", b"new"]);
    assert_eq!((opened.records[0].seq, opened.records[0].previous), (before.seq + 1, before.hash));
    assert_eq!(opened.records.iter().map(|r| r.carried).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_real_file_is_made_once_held_alone_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warden.journal");
    assert!(matches!(Journal::open(&path), Err(JournalError::Missing { .. })));
    let mut journal = Journal::create(&path, SALT).unwrap();
    for payload in FOUR {
        append(&mut journal, payload).unwrap();
    }
    journal.sync().unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::InUse { .. })), "a second warden is refused");
    drop(journal);
    assert!(matches!(Journal::create(&path, SALT), Err(JournalError::Exists { .. })));
    assert!(path.metadata().unwrap().len() >= RESERVE);
    let readable = || path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(readable(), 0o600, "its salt is for the warden and root");

    let mut opened = Journal::open(&path).unwrap();
    assert_eq!(payloads(&opened.records), FOUR);
    opened.journal.compact(OTHER_SALT, b"HEAD", &[]).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::InUse { .. })), "the lock outlives a compaction");
    append(&mut opened.journal, b"new").unwrap();
    opened.journal.sync().unwrap();
    drop(opened);
    assert_eq!(payloads(&Journal::open(&path).unwrap().records), [&b"HEAD"[..], b"new"]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 2, "the journal and its lock, nothing else");
    assert_eq!(readable(), 0o600, "also after a compaction");
}

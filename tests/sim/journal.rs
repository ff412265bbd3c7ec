//! The virtual disk under production's own journal: what was written is on it only after a sync, and a crash keeps of each
//! write since then all, nothing, or the beginning.

use crate::rng::Rng;
use crate::signatures::Scheme;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use zeta_bft::journal::{Damage, Disk, Journal, Salt, Scan, recover, scan};
use zeta_bft::protocol::record::Record;
use zeta_bft::protocol::signing::VerifyingKey;
use zeta_bft::protocol::statement::{Codec, JournalHead, Receipt, ReceiptKind};
use zeta_bft::protocol::types::{Digest, PublicKey};
use zeta_bft::protocol::warden::{Attempt, Recovered};
use zeta_bft::wire::Proto;

/// One file.
#[derive(Default)]
struct Platter {
    /// What is read.
    now: Vec<u8>,
    /// What a power loss leaves for certain.
    synced: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
    /// Its size, with the zeros at its end that nobody keeps here.
    len: u64,
    /// The next sync fails.
    fails: bool,
}

#[derive(Clone, Default)]
struct VirtualDisk(Rc<RefCell<Platter>>);

fn put(bytes: &mut Vec<u8>, at: usize, write: &[u8]) {
    if bytes.len() < at + write.len() {
        bytes.resize(at + write.len(), 0);
    }
    bytes[at..at + write.len()].copy_from_slice(write);
}

impl Platter {
    fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).expect("a small file");
        put(&mut self.now, at, bytes);
        self.pending.push((at, bytes.to_vec()));
        self.len = self.len.max((at + bytes.len()) as u64);
    }

    fn settle(&mut self, mut keep: impl FnMut(Vec<u8>) -> Vec<u8>) {
        for (at, write) in std::mem::take(&mut self.pending) {
            put(&mut self.synced, at, &keep(write));
        }
    }
}

impl Disk for VirtualDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.borrow().now.clone())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.borrow().len)
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().write(at, bytes);
        Ok(())
    }
    fn extend(&mut self, len: u64) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        platter.len = platter.len.max(len);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        if std::mem::take(&mut platter.fails) {
            return Err(io::Error::other("the disk failed"));
        }
        platter.settle(|write| write);
        Ok(())
    }
    fn write_beside(&mut self, bytes: &[u8], len: u64) -> io::Result<()> {
        // A journal of one world is never compacted: this is its beginning.
        *self.0.borrow_mut() = Platter { now: bytes.to_vec(), synced: bytes.to_vec(), len, ..Platter::default() };
        Ok(())
    }
    fn sync_beside(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn rename_beside(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The journal of the node, and its disk.
pub struct VirtualJournal {
    disk: VirtualDisk,
    journal: Journal<VirtualDisk>,
    /// Numbers of the INTENT records, and of what they are the intent.
    intents: Vec<(u64, Attempt)>,
    durable: u64,
}

impl VirtualJournal {
    pub fn new(salt: [u8; 16]) -> Self {
        let disk = VirtualDisk::default();
        let journal = Journal::create_on(disk.clone(), Salt::new(salt)).expect("an empty disk takes a journal");
        Self { disk, journal, intents: Vec::new(), durable: 0 }
    }

    /// Appends; refuses what does not follow.
    pub fn append(&mut self, seq: u64, previous: Digest, record: &Record) -> Result<(), String> {
        let encoded = Codec::<Record>::encode(&Proto, record);
        self.journal.append(seq, previous, &encoded).map_err(|error| error.to_string())?;
        self.intents.extend(intent(record).map(|attempt| (seq, attempt)));
        Ok(())
    }

    /// All that was appended is on the disk; `None` when the disk failed, after which nobody may go on.
    pub fn sync(&mut self) -> Option<JournalHead> {
        let head = self.journal.sync().ok()?;
        self.durable = head.seq;
        Some(head)
    }

    /// The next sync fails.
    pub fn fail(&mut self) {
        self.disk.0.borrow_mut().fails = true;
    }

    /// Whether the INTENT of an attempt is on the disk.
    pub fn holds_intent(&self, attempt: Attempt) -> bool {
        self.intents.iter().any(|(seq, of)| *of == attempt && *seq <= self.durable)
    }

    /// The warden dies, and perhaps the disk loses what it had not written yet: in part, torn, or whole.
    pub fn crash(&mut self, rng: &mut Rng, loses: bool) {
        let mut platter = self.disk.0.borrow_mut();
        platter.fails = false;
        platter.settle(|mut write| {
            match rng.below(if loses { 4 } else { 1 }) {
                0 => {}
                1 => write.clear(),
                _ => write.truncate(rng.index(write.len() + 1)),
            }
            write
        });
        platter.now = platter.synced.clone();
        drop(platter);
        let survived = self.scan().head().seq;
        self.intents.retain(|(seq, _)| *seq <= survived);
        self.durable = survived;
    }

    /// Flips a bit of the first record, which has others after it.
    pub fn damage(&mut self) {
        let mut platter = self.disk.0.borrow_mut();
        platter.settle(|write| write);
        *platter.now.get_mut(100).expect("a journal has its BOOT record") ^= 4;
        platter.synced = platter.now.clone();
    }

    fn scan(&self) -> Scan {
        scan(&self.disk.0.borrow().now)
    }

    /// What the disk says now.
    pub fn read(&self, warden: &PublicKey, codec: &Scheme) -> Recovered {
        let Scan { records, damage, .. } = self.scan();
        let key = VerifyingKey::new(*warden).expect("the plan's warden has a usable key");
        recover(&records, damage.as_ref(), &key, codec)
    }

    /// What a warden that starts reads; the journal is open then. `None` when the disk failed.
    pub fn open(&mut self, warden: &PublicKey, codec: &Scheme) -> Option<Recovered> {
        let opened = Journal::open_on(self.disk.clone()).ok()?;
        let key = VerifyingKey::new(*warden).expect("the plan's warden has a usable key");
        let damage: Option<Damage> = opened.damage;
        self.journal = opened.journal;
        Some(recover(&opened.records, damage.as_ref(), &key, codec))
    }
}

fn intent(record: &Record) -> Option<Attempt> {
    let Record::Receipt(envelope) = record else { return None };
    let receipt: Receipt = Codec::<Receipt>::decode(&Proto, &envelope.payload).ok()?;
    let attempt = Attempt { episode: receipt.episode, rung: receipt.rung, round: receipt.round };
    (receipt.kind == ReceiptKind::Intent).then_some(attempt)
}

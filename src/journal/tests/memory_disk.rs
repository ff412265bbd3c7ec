//! A disk in memory that loses, tears and reorders whatever was not synced.

use super::*;
use std::cell::RefCell;
use std::rc::Rc;

/// What a write that was not synced may leave behind is decided in pieces of this size.
const SECTOR: usize = 64;

#[derive(Clone, Default)]
struct Inode {
    synced: Vec<u8>,
    /// Written since: offset and bytes.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Inode {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        self.pending.iter().for_each(|(at, new)| put(&mut bytes, *at, new));
        bytes
    }

    fn after_power_loss(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for (at, new) in &self.pending {
            if new.len() > 64 * SECTOR {
                // Zeros of an extension: present or not as a whole; which does not matter to anybody.
                if dice.toss() {
                    put(&mut bytes, *at, new);
                }
                continue;
            }
            for (index, piece) in new.chunks(SECTOR).enumerate() {
                if dice.toss() {
                    let cut = if dice.toss() { piece.len() } else { dice.below(piece.len() + 1) };
                    put(&mut bytes, at + index * SECTOR, &piece[..cut]);
                }
            }
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
    fn toss(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).unwrap() % n
    }
}

/// What goes wrong, counted in calls that change something.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Trouble {
    None,
    /// The power goes at this call: before it, or after it was handed to the disk.
    PowerLoss {
        call: usize,
        after: bool,
    },
    /// This call fails; everything later would work.
    Error {
        call: usize,
    },
}

struct Model {
    file: Option<Inode>,
    beside: Option<Inode>,
    /// The file's name still leads to this one until the folder is synced.
    replaced: Option<Option<Inode>>,
    calls: usize,
    trouble: Trouble,
    dead: bool,
    /// No file grows beyond this.
    capacity: usize,
}

#[derive(Clone)]
pub(super) struct MemoryDisk(Rc<RefCell<Model>>);

impl MemoryDisk {
    pub(super) fn new(content: Option<Vec<u8>>) -> Self {
        let file = content.map(|synced| Inode { synced, pending: Vec::new() });
        let (calls, trouble, capacity) = (0, Trouble::None, usize::MAX);
        Self(Rc::new(RefCell::new(Model { file, beside: None, replaced: None, calls, trouble, dead: false, capacity })))
    }

    pub(super) fn with_trouble(self, trouble: Trouble) -> Self {
        self.0.borrow_mut().trouble = trouble;
        self
    }

    /// What the file holds for who reads it now.
    pub(super) fn now(&self) -> Vec<u8> {
        self.0.borrow().file.as_ref().unwrap().now()
    }

    /// No file grows beyond this from here on.
    pub(super) fn grows_up_to(&self, capacity: usize) {
        self.0.borrow_mut().capacity = capacity;
    }

    pub(super) fn calls(&self) -> usize {
        self.0.borrow().calls
    }

    /// What is found after the power came back; `None`: no file.
    pub(super) fn after_power_loss(&self, dice: &mut Dice) -> Option<Vec<u8>> {
        let model = self.0.borrow();
        let survivor = match &model.replaced {
            Some(older) if dice.toss() => older.as_ref(),
            _ => model.file.as_ref(),
        };
        survivor.map(|inode| inode.after_power_loss(dice))
    }

    fn change<T>(&self, apply: impl FnOnce(&mut Model) -> T) -> io::Result<T> {
        let mut model = self.0.borrow_mut();
        let call = model.calls;
        model.calls += 1;
        match model.trouble {
            _ if model.dead => Err(io::Error::other("no power")),
            Trouble::Error { call: at } if at == call => Err(io::Error::other("I/O error")),
            Trouble::PowerLoss { call: at, after } if at == call => {
                model.dead = true;
                if after {
                    apply(&mut model);
                }
                Err(io::Error::other("no power"))
            }
            _ => Ok(apply(&mut model)),
        }
    }
}

impl Disk for MemoryDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.borrow().file.as_ref().ok_or(io::ErrorKind::NotFound)?.now())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.borrow().file.as_ref().ok_or(io::ErrorKind::NotFound)?.now().len() as u64)
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        if at + bytes.len() > self.0.borrow().capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(|model| model.file.as_mut().unwrap().pending.push((at, bytes.to_vec())))
    }
    fn extend(&mut self, len: u64) -> io::Result<()> {
        let at = usize::try_from(Disk::size(self)?).unwrap();
        self.write_at(at as u64, &vec![0; usize::try_from(len).unwrap().saturating_sub(at)])
    }
    fn sync(&mut self) -> io::Result<()> {
        self.change(|model| {
            let file = model.file.as_mut().unwrap();
            file.synced = file.now();
            file.pending.clear();
        })
    }
    fn write_beside(&mut self, bytes: &[u8], len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        if len > self.0.borrow().capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; len - bytes.len()];
        let pending = vec![(0, bytes.to_vec()), (bytes.len(), zeros)];
        self.change(|model| model.beside = Some(Inode { synced: Vec::new(), pending }))
    }
    fn sync_beside(&mut self) -> io::Result<()> {
        self.change(|model| {
            let beside = model.beside.as_mut().unwrap();
            beside.synced = beside.now();
            beside.pending.clear();
        })
    }
    fn rename_beside(&mut self) -> io::Result<()> {
        self.change(|model| model.replaced = Some(std::mem::replace(&mut model.file, model.beside.take())))
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        self.change(|model| model.replaced = None)
    }
}

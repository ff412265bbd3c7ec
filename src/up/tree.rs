//! Processes as `/proc` shows them: who is whose child, and to which run of a unit an orphan belonged.

use crate::protocol::types::InvocationId;
use std::io::Read as _;

/// Set for every unit and every command that `up` starts, as systemd does: children inherit it.
pub const INVOCATION_ENV: &str = "INVOCATION_ID";

/// The processes whose parent is `parent`, zombies left out.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn children_of(parent: u32) -> std::io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(stat) = Stat::of(pid)
            && stat.parent == parent
            && stat.alive
        {
            children.push(pid);
        }
    }
    Ok(children)
}

/// Whether `pid` is `ancestor`, or descends from it.
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    // The chain is finite, but it changes while it is walked: bound it.
    let mut current = pid;
    for _ in 0..64 {
        if current == ancestor {
            return true;
        }
        match Stat::of(current) {
            Some(stat) if stat.parent > 1 => current = stat.parent,
            _ => return false,
        }
    }
    false
}

/// Whether the process leads a process group of its own.
pub fn leads_a_group(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.group == pid)
}

/// The run of a unit that a process was started in, as its environment says: a process that wants to can lie here.
pub fn invocation_of(pid: u32) -> Option<InvocationId> {
    let mut environ = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/environ")).ok()?.take(1 << 20).read_to_end(&mut environ).ok()?;
    let value = environ
        .split(|byte| *byte == 0)
        .find_map(|line| line.strip_prefix(INVOCATION_ENV.as_bytes())?.strip_prefix(b"="))?;
    InvocationId::from_slice(&data_encoding::HEXLOWER.decode(value).ok()?)
}

struct Stat {
    alive: bool,
    parent: u32,
    group: u32,
}

impl Stat {
    /// proc_pid_stat(5): `pid (comm) state ppid pgrp …`, where comm may hold anything.
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let after_comm = text.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = std::str::from_utf8(&text[after_comm..]).ok()?.split_ascii_whitespace();
        let alive = !matches!(fields.next()?, "Z" | "X");
        Some(Self { alive, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_descends_from_its_parent_and_not_from_a_stranger() {
        let (me, parent) = (std::process::id(), std::os::unix::process::parent_id());
        assert!(descends_from(me, me) && descends_from(me, parent));
        assert!(!descends_from(parent, me));
    }
}

//! Whose listening socket a connection to loopback reaches: what the kernel lists in `/proc/net/tcp` and `tcp6`.
//!
//! Plain health ports prove nothing of who answers, and silence proves nothing anywhere. The kernel knows the uid of the
//! listener. It prefers the socket that is bound to the very address, then IPv4's wildcard, then IPv6's.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Most bytes of a table that are read. Listening sockets come first, so that it is a few lines in fact. Anybody may listen on
/// loopback some ten thousand times over, and the kernel lists them in no order that matters: as many are looked through.
const TABLE_MAX: u64 = 16 * 1024 * 1024;
/// `TCP_LISTEN`, as the table prints it.
const LISTEN: &str = "0A";

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The one that is expected.
    Expected,
    /// This uid's.
    Stranger(u32),
    /// More sockets listen than are looked through: somebody hides who it is.
    Crowded,
    /// The tables do not say.
    Unknown(String),
}

/// Whether the listener at an address on loopback belongs to `uid`.
pub(super) fn owner(address: SocketAddr, uid: u32) -> Owner {
    match holders(Path::new("/proc/self/net"), address) {
        Ok(holders) => judge(&holders, uid),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Owner::Crowded,
        Err(error) => Owner::Unknown(format!("/proc/self/net/tcp: {error}")),
    }
}

/// The uids of those whose sockets a connection to an address reaches; none when nobody listens there. `net`: the tables of a network
/// namespace, as `/proc/self/net`, or `/proc/PID/net` of a process that has one of its own.
///
/// # Errors
/// What reading says; [`io::ErrorKind::FileTooLarge`] when more sockets listen than are looked through.
pub fn holders(net: &Path, address: SocketAddr) -> io::Result<Vec<u32>> {
    let table = |name: &str| -> io::Result<Vec<(IpAddr, u32)>> {
        let file = File::open(net.join(name))?;
        listeners(BufReader::with_capacity(64 * 1024, file), address.port(), TABLE_MAX)
    };
    let mut found = table("tcp")?;
    // A kernel without IPv6 has no second table. One that cannot be looked through is passed over: what it would hide is the last
    // that the kernel takes.
    found.extend(table("tcp6").unwrap_or_default());
    Ok(reached(&found, address.ip()))
}

fn judge(holders: &[u32], uid: u32) -> Owner {
    match holders {
        [] => Owner::Unknown("no socket that listens there is listed".to_owned()),
        some => some.iter().find(|owner| **owner != uid).map_or(Owner::Expected, |owner| Owner::Stranger(*owner)),
    }
}

fn reached(found: &[(IpAddr, u32)], ip: IpAddr) -> Vec<u32> {
    let ranks: [&dyn Fn(IpAddr) -> bool; 3] = [
        &|local| local.to_canonical() == ip.to_canonical(),
        &|local| ip.is_ipv4() && local == IpAddr::V4([0; 4].into()),
        &|local| local == IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    for fits in ranks {
        let owners: Vec<_> = found.iter().filter(|(local, _)| fits(*local)).map(|(_, owner)| *owner).collect();
        if !owners.is_empty() {
            return owners;
        }
    }
    Vec::new()
}

/// # Errors
/// What reading says; [`io::ErrorKind::FileTooLarge`] when more than `most` bytes of listening sockets are listed.
fn listeners(table: impl BufRead, port: u16, most: u64) -> io::Result<Vec<(IpAddr, u32)>> {
    let mut found = Vec::new();
    let mut left = most;
    for line in table.lines().skip(1) {
        let line = line?;
        left = left.checked_sub(line.len() as u64 + 1).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut words = line.split_ascii_whitespace();
        let (local, state) = (words.nth(1).unwrap_or_default(), words.nth(1).unwrap_or_default());
        if state != LISTEN {
            break;
        }
        let owner = words.nth(3).and_then(|uid| uid.parse().ok());
        if let Some((ip, at)) = parse(local)
            && at == port
            && let Some(owner) = owner
        {
            found.push((ip, owner));
        }
    }
    Ok(found)
}

/// `0100007F:192B`: 32-bit words of the address as the machine holds them, and the port.
fn parse(local: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = local.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(local: &str, state: &str, uid: u32) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid:4}        0 26139 1\n"
        )
    }

    #[test]
    fn the_kernels_own_tables_name_who_listens() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let me = rustix::process::getuid().as_raw();
        assert_eq!(owner(address, me), Owner::Expected);
        assert_eq!(owner(address, me + 1), Owner::Stranger(me));
        drop(socket);
        assert!(matches!(owner(address, me), Owner::Unknown(_)));
    }

    #[test]
    fn whose_a_port_is_can_be_asked_of_another_process_network() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, me) = (socket.local_addr().unwrap(), rustix::process::getuid().as_raw());
        let net = format!("/proc/{}/net", std::process::id());
        assert_eq!(holders(Path::new(&net), address).unwrap(), [me]);
        drop(socket);
        assert_eq!(holders(Path::new(&net), address).unwrap(), [0_u32; 0]);
        assert!(holders(Path::new("/proc/0/net"), address).is_err());
    }

    #[test]
    fn the_socket_bound_to_the_very_address_is_the_one_that_answers() {
        let [loopback, any4] = [[127, 0, 0, 1], [0; 4]].map(IpAddr::from);
        let any6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        assert_eq!(judge(&reached(&[(any4, 0), (loopback, 7)], loopback), 0), Owner::Stranger(7));
        assert_eq!(judge(&reached(&[(any4, 7), (loopback, 0)], loopback), 0), Owner::Expected);
        assert_eq!(judge(&reached(&[(any6, 7), (any4, 0)], loopback), 0), Owner::Expected);
        assert_eq!(judge(&reached(&[(any6, 0)], loopback), 0), Owner::Expected);
        assert_eq!(judge(&reached(&[(loopback, 0), (loopback, 7)], loopback), 0), Owner::Stranger(7));
        let mapped = "127.0.0.1".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().into();
        assert_eq!(judge(&reached(&[(mapped, 7), (any4, 0)], loopback), 0), Owner::Stranger(7));
        assert!(matches!(judge(&reached(&[(any4, 0)], Ipv6Addr::LOCALHOST.into()), 0), Owner::Unknown(_)));
    }

    #[test]
    fn established_connections_and_other_ports_do_not_count() {
        let native = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let local = native([127, 0, 0, 1]);
        let at = |port: &str| format!("{local}:{port}");
        let table = format!(
            "{HEAD}{}{}{}",
            line(&at("1F90"), LISTEN, 5),
            line(&at("192B"), LISTEN, 0),
            line(&at("192B"), "01", 7)
        );
        assert_eq!(listeners(table.as_bytes(), 6443, TABLE_MAX).unwrap(), [([127, 0, 0, 1].into(), 0)]);
        for damaged in ["", "\n\n", "x", "h\n 0: zz:192B a 0A b c d 0\n", "h\n 0: 0100007F 0 0A\n"] {
            assert!(listeners(damaged.as_bytes(), 6443, TABLE_MAX).unwrap().is_empty());
        }
    }

    #[test]
    fn tens_of_thousands_of_sockets_hide_nobody_and_who_opens_more_is_found_out() {
        let local = |n: u32| format!("{:08X}:2808", u32::from_ne_bytes([127, 1, (n >> 8) as u8, n as u8]));
        let crowd = |many: u32| (0..many).map(|n| line(&local(n), LISTEN, 1000)).collect::<String>();
        let own = line(&format!("{:08X}:2808", u32::from_ne_bytes([127, 0, 0, 1])), LISTEN, 0);
        let table = format!("{HEAD}{}{own}", crowd(60_000));
        let found = listeners(table.as_bytes(), 0x2808, TABLE_MAX).unwrap();
        assert_eq!(judge(&reached(&found, [127, 0, 0, 1].into()), 0), Owner::Expected);
        let refused = listeners(table.as_bytes(), 0x2808, 1024 * 1024).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }
}

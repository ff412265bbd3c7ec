//! This very program inside a node, doing what no program of a plain Debian does.
//!
//! ```text
//! PROGRAM say SOCKET LINE     sends one line to a Unix socket and prints all that comes back
//! PROGRAM flood CALLS         asks PID 1 so often for what it must refuse, twenty calls every 10 ms, and waits for nothing
//! PROGRAM forge UNIT SIGNALS  sends everybody on the bus so many signals, as if systemd said that UNIT runs
//! ```

use crate::lab::Unfit;
use crate::node::Node;
use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// Where a node finds it.
pub const PROGRAM: &str = "/usr/local/bin/zeta-bft-driver";
/// Calls that are sent at once, and how long until the next.
const BURST: (u32, Duration) = (20, Duration::from_millis(10));

/// Puts it into a node.
///
/// # Errors
/// Those of the file system.
pub fn put(node: &Node) -> Result<(), Unfit> {
    let place = node.file(PROGRAM);
    // Not by its name: that may be another build's by now.
    fs::copy("/proc/self/exe", &place)?;
    Ok(fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?)
}

/// Does it, when this process is the one in the node.
pub fn run() -> Option<ExitCode> {
    let words: Vec<_> = std::env::args().collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [PROGRAM, "say", socket, line] => say(socket, line),
        [PROGRAM, "flood", calls] => flood(calls),
        [PROGRAM, "forge", unit, signals] => forge(unit, signals),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn say(socket: &str, line: &str) -> Result<(), Box<dyn Error>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    (&stream).write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer)?;
    print!("{answer}");
    if answer.is_empty() { Err("it was closed without an answer".into()) } else { Ok(()) }
}

fn flood(calls: &str) -> Result<(), Box<dyn Error>> {
    let calls: u32 = calls.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let bus = zbus::Connection::system().await?;
        for number in 1..=calls {
            let call = zbus::Message::method_call("/org/freedesktop/systemd1", "RestartUnit")
                .destination("org.freedesktop.systemd1")
                .interface("org.freedesktop.systemd1.Manager")
                .build(&("dbus.service", "fail"))?;
            bus.send(&call).await?;
            if number % BURST.0 == 0 {
                tokio::time::sleep(BURST.1).await;
            }
        }
        // Whoever asked must still be there when polkit comes to it.
        std::future::pending().await
    })
}

fn forge(unit: &str, signals: &str) -> Result<(), Box<dyn Error>> {
    let signals: u32 = signals.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let bus = zbus::Connection::system().await?;
        let names = zbus::fdo::DBusProxy::new(&bus).await?.list_names().await?;
        let others: Vec<_> = names.iter().filter(|name| name.starts_with(':')).collect();
        let changed: std::collections::BTreeMap<&str, zbus::Variant<'_>> = [("ActiveState", "active".into())].into();
        let body = ("org.freedesktop.systemd1.Unit", changed, Vec::<&str>::new());
        for number in 0..signals {
            for other in &others {
                let signal = zbus::Message::signal(unit, "org.freedesktop.DBus.Properties", "PropertiesChanged");
                bus.send(&signal.destination(other.as_str()).build(&body)?).await?;
            }
            if number % BURST.0 == 0 {
                tokio::time::sleep(BURST.1).await;
            }
        }
        Ok(())
    })
}

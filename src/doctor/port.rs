//! An agent's TCP port: whether it is the agent that has it. The kernel lets the first who comes have a port, and keep it.

use super::accounts::{Accounts, Cast, Role};
use super::finding::Section;
use super::node::Unread;
use crate::observe::k3s::holders;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::unix::UCred;

/// An agent's TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Where it listens, as configured.
    pub address: SocketAddr,
    /// The uids whose sockets listen there, in the network that the agent is in.
    pub holders: Result<Vec<u32>, Unread>,
    /// The uid that serves the agent's Unix socket; `None`: nobody does.
    pub served_by: Option<u32>,
}

impl Port {
    /// Looks who has it. `agent`: who serves the agent's Unix socket.
    pub fn of(address: SocketAddr, agent: Option<UCred>) -> Self {
        let pid = agent.and_then(|agent| agent.pid()).map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let holders = holders(&Path::new("/proc").join(pid).join("net"), address).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Unread::Other("more sockets listen than are looked through".into()),
            _ => error.into(),
        });
        Self { address, holders, served_by: agent.map(|agent| agent.uid()) }
    }

    /// Whether it is the agent that has the port.
    pub fn check(&self, agent: &Role, (cast, accounts): (&Cast, &Accounts), section: &mut Section) {
        let (address, who) = (self.address, agent.to_string());
        let without = "peers dial it there and nowhere else, so neither hears the other over TCP";
        let own = cast.account(agent, accounts).map(|account| account.uid).or(self.served_by);
        match (&self.holders, own) {
            (Err(why), _) => {
                section.skipped("tcp-port-unread", &who, format!("who listens on {address} is not known: {why}"))
            }
            // That the agent is not there is told already.
            (Ok(holders), _) if holders.is_empty() && self.served_by.is_none() => {}
            (Ok(holders), _) if holders.is_empty() => {
                let text = format!("nobody listens on {address}: {without}");
                let fix = format!("the log of {who} says why it cannot listen; it tries again by itself");
                section.error("tcp-not-listening", &who, text, fix);
            }
            (Ok(_), None) => {
                section.skipped(
                    "tcp-port-unread",
                    &who,
                    format!("whose {address} should be is not known: no agent runs"),
                );
            }
            (Ok(holders), Some(own)) => {
                if let Some(other) = holders.iter().find(|uid| **uid != own) {
                    let text = format!("{} has {address}, not the agent: {without}", accounts.name_of(*other));
                    let fix = format!(
                        "`ss -ltnp 'sport = :{}'` says which process: end it; the agent takes the port by itself",
                        address.port()
                    );
                    section.error("tcp-port-taken", &who, text, fix);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::{Group, Level};
    use crate::doctor::runtime::peer;
    use crate::protocol::types::PersonaId;

    #[test]
    fn a_tcp_port_that_nobody_or_another_user_holds_is_an_error() {
        let otto = Role::Agent(PersonaId::new("otto").unwrap());
        let cast = Cast { names: [(otto.clone(), "zeta-bft-otto".to_owned())].into() };
        let accounts = Accounts::parse("root:x:0:0\nzeta-bft-otto:x:901:901\n", "");
        let with = |holders: Result<Vec<u32>, Unread>, served_by| {
            let mut section = Section::new(Group::Runtime);
            let port = Port { address: SocketAddr::from(([10, 0, 0, 1], 9484)), holders, served_by };
            port.check(&otto, (&cast, &accounts), &mut section);
            section.findings.into_iter().map(|finding| (finding.id, finding.level)).collect::<Vec<_>>()
        };
        assert_eq!(with(Ok(vec![901]), Some(901)), []);
        assert_eq!(with(Ok(vec![]), Some(901)), [("tcp-not-listening", Level::Error)]);
        assert_eq!(with(Ok(vec![1001]), Some(901)), [("tcp-port-taken", Level::Error)]);
        assert_eq!(with(Ok(vec![901, 1001]), Some(901)), [("tcp-port-taken", Level::Error)]);
        assert_eq!(
            with(Ok(vec![1001]), Some(1001)),
            [("tcp-port-taken", Level::Error)],
            "by whoever took its socket too"
        );
        assert_eq!(with(Ok(vec![]), None), [], "its silent socket is told");
        assert_eq!(with(Ok(vec![1001]), None), [("tcp-port-taken", Level::Error)], "and while the agent is away");
        assert_eq!(with(Err(Unread::Denied), Some(901)), [("tcp-port-unread", Level::Skipped)]);
    }

    #[tokio::test]
    async fn who_has_a_tcp_port_is_asked_in_the_network_of_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let (path, me) = (dir.path().join("s"), rustix::process::getuid().as_raw());
        let _agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let look = async || Port::of(address, Some(peer(&path).await.unwrap()));
        assert_eq!(look().await, Port { address, holders: Ok(vec![me]), served_by: Some(me) });
        drop(tcp);
        assert_eq!(look().await, Port { address, holders: Ok(vec![]), served_by: Some(me) });
    }
}

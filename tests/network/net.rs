//! Namespaces: one for each agent, each linked to a router that holds the proxy.

use crate::proxy::Proxy;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

pub const PERSONAS: [&str; 3] = ["lior", "otto", "vera"];
const PREFIX_ENV: &str = "ZETA_BFT_NETWORK";
const PORT: u16 = 9484;

/// What namespaces are called by the processes of this run.
pub fn inherited() -> String {
    std::env::var(PREFIX_ENV).expect("the committee is told where its agents live")
}

pub fn of_agent(prefix: &str, persona: &str) -> String {
    format!("{prefix}-{persona}")
}

/// A program in a namespace. It keeps the process id that it is started with.
pub fn command_in(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

fn index(persona: &str) -> u8 {
    let at = PERSONAS.iter().position(|name| *name == persona).expect("a persona of this committee");
    u8::try_from(at).expect("there are three")
}

/// Where an agent listens.
pub fn listens(persona: &str) -> SocketAddr {
    (Ipv4Addr::new(10, 77, 0, 10 + index(persona)), PORT).into()
}

/// Where the others find it: at the proxy.
pub fn found(persona: &str) -> SocketAddr {
    (ROUTER, PORT + u16::from(index(persona))).into()
}

/// Whose address it is.
pub fn persona_at(address: SocketAddr) -> &'static str {
    PERSONAS.into_iter().find(|persona| listens(persona).ip() == address.ip()).unwrap_or("somebody else")
}

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Whether such a network can be made here.
pub fn fit() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root, for network namespaces".into());
    }
    let probe = format!("{}-probe", prefix());
    try_ip(&["netns", "add", &probe]).map_err(|why| format!("needs iproute2 and network namespaces: {why}"))?;
    let linked = try_ip(&["-n", &probe, "link", "add", "br0", "type", "bridge"]);
    let veth = try_ip(&["-n", &probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
    ip(&["netns", "del", &probe]);
    linked.and(veth).map_err(|why| format!("needs bridges and veth pairs: {why}"))
}

fn prefix() -> String {
    format!("zbft{}", std::process::id())
}

fn try_ip(words: &[&str]) -> Result<(), String> {
    match Command::new("ip").args(words).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("`ip {}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("ip: {error}")),
    }
}

fn ip(words: &[&str]) {
    try_ip(words).unwrap_or_else(|why| panic!("{why}"));
}

/// The network of one committee.
pub struct Net {
    prefix: String,
    pub proxy: Proxy,
}

impl Net {
    pub fn set() -> Self {
        let prefix = prefix();
        let router = format!("{prefix}-router");
        ip(&["netns", "add", &router]);
        ip(&["-n", &router, "link", "set", "lo", "up"]);
        ip(&["-n", &router, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &router, "addr", "add", &format!("{ROUTER}/24"), "dev", "br0"]);
        ip(&["-n", &router, "link", "set", "br0", "up"]);
        for persona in PERSONAS {
            let namespace = of_agent(&prefix, persona);
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &router, "link", "add", persona, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
            ip(&["-n", &router, "link", "set", persona, "master", "br0", "up"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", listens(persona).ip()), "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        let proxy = Proxy::start(&router);
        Self { prefix, proxy }
    }

    /// For the environment of whoever starts agents.
    pub fn environment(&self) -> (&'static str, &str) {
        (PREFIX_ENV, &self.prefix)
    }

    pub fn router(&self) -> String {
        format!("{}-router", self.prefix)
    }

    fn agent(&self, persona: &str) -> String {
        of_agent(&self.prefix, persona)
    }

    /// What this agent sends is lost; what is sent to it arrives.
    pub fn cut_from(&self, persona: &str) {
        ip(&["-n", &self.agent(persona), "route", "replace", "blackhole", &ROUTER.to_string()]);
    }

    /// What is sent to this agent is lost; what it sends arrives.
    pub fn cut_to(&self, persona: &str) {
        ip(&["-n", &self.router(), "route", "replace", "blackhole", &listens(persona).ip().to_string()]);
    }

    /// Nothing passes either way.
    pub fn unplug(&self, persona: &str) {
        ip(&["-n", &self.router(), "link", "set", persona, "down"]);
    }

    /// All is as at the beginning.
    pub fn heal(&self) {
        for persona in PERSONAS {
            // Where there was no such cut, there is nothing to take away.
            let _ = try_ip(&["-n", &self.agent(persona), "route", "del", "blackhole", &ROUTER.to_string()]);
            let address = listens(persona).ip().to_string();
            let _ = try_ip(&["-n", &self.router(), "route", "del", "blackhole", &address]);
            ip(&["-n", &self.router(), "link", "set", persona, "up"]);
        }
        self.proxy.heal();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.proxy.stop();
        for name in PERSONAS.into_iter().chain(["router"]) {
            let _ = try_ip(&["netns", "del", &of_agent(&self.prefix, name)]);
        }
    }
}

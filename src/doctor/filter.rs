//! Which addresses a unit lets through, by systemd's own word: `IPAddressAllow=` and `IPAddressDeny=`, all drop-ins counted.

use super::units::UnitFacts;
use std::net::IpAddr;

/// A unit's filter. As `IPAddressAllow=` has it, what is allowed is let through whatever else is denied; what neither names is, too.
#[derive(Debug, Default)]
pub struct Filter {
    allowed: Vec<Prefix>,
    denied: Vec<Prefix>,
}

impl Filter {
    /// What systemd says of a unit. Of what it does not say nothing is denied.
    pub fn of(said: &UnitFacts) -> Self {
        let list = |property: &str| Prefix::list(said.get(property).map_or("", String::as_str));
        Self { allowed: list("IPAddressAllow"), denied: list("IPAddressDeny") }
    }

    /// Whether it keeps the unit from an address, and that from the unit.
    pub fn blocks(&self, address: IpAddr) -> bool {
        let within = |list: &[Prefix]| list.iter().any(|prefix| prefix.contains(address));
        within(&self.denied) && !within(&self.allowed)
    }

    /// Whether nothing is allowed but what lies on loopback.
    pub fn allows_loopback_alone(&self) -> bool {
        self.allowed.iter().all(|prefix| prefix.first.is_loopback())
    }
}

/// A range of addresses, as systemd prints it: `10.0.0.0/8`, `::1/128`.
#[derive(Debug)]
pub(super) struct Prefix {
    first: IpAddr,
    length: u32,
}

impl Prefix {
    pub(super) fn list(text: &str) -> Vec<Self> {
        text.split_whitespace().filter_map(Self::parse).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let first: IpAddr = address.parse().ok()?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(bits), |length| length.parse().ok())?;
        (length <= bits).then_some(Self { first, length })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| self.length == 0 || (a ^ b) >> (bits - self.length) == 0;
        match (self.first, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

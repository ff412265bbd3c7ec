//! The claims, by area.

mod crashes;
mod faults;
mod hand;
mod install;
mod isolation;
mod k3s;
mod k3s_credential;
mod k3s_faults;
mod lookout;
mod machines;
mod operator;
mod rungs;
mod vendor_clis;

use super::Show;

/// A claim, and what shows it.
type Claim = (&'static str, Show);

/// Every claim.
pub fn all() -> impl Iterator<Item = Claim> {
    // The longest first: two nodes at a time are then done soonest.
    [
        vendor_clis::CLAIMS,
        crashes::CLAIMS,
        k3s::CLAIMS,
        lookout::CLAIMS,
        k3s_faults::CLAIMS,
        operator::CLAIMS,
        hand::CLAIMS,
        faults::CLAIMS,
        install::CLAIMS,
        isolation::CLAIMS,
        rungs::CLAIMS,
        k3s_credential::CLAIMS,
        machines::CLAIMS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// A table of claims, each named as the function that shows it.
macro_rules! claims {
    ($($name:ident),* $(,)?) => {
        pub const CLAIMS: &[super::Claim] = &[$((stringify!($name), $name)),*];
    };
}
use claims;

//! The claims, by area.

mod machines;

use super::Show;

/// A claim, and what shows it.
type Claim = (&'static str, Show);

/// Every claim.
pub fn all() -> impl Iterator<Item = Claim> {
    [machines::CLAIMS].into_iter().flatten().copied()
}

/// A table of claims, each named as the function that shows it.
macro_rules! claims {
    ($($name:ident),* $(,)?) => {
        pub const CLAIMS: &[super::Claim] = &[$((stringify!($name), $name)),*];
    };
}
use claims;

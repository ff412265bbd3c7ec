//! The users that personas run as: one for each wrapper and each agent, and nobody else's.
//!
//! Rules:
//! * on a node a wrapper runs as `zeta-NAME` and its agent as `zeta-bft-NAME`, unless the configuration says otherwise; what
//!   other units run as is checked only where it is written;
//! * a name is looked up once, when the configuration is read: from there on the number counts;
//! * whoever shares a user with a wrapper or an agent could kill it, read its key or speak for it. So each has a user of its
//!   own: not root, not the warden's or the page unit's, nobody else's; only `allow_shared_uid` lets that pass, and then
//!   isolation is shown as off;
//! * below one folder (`--dir`) everything runs as one user, and nothing is looked up.

use super::ConfigError;
use super::inputs::{At, Inputs};
use super::source::Place;
use crate::protocol::policy::SubjectPolicy;
use crate::protocol::types::SubjectName;
use std::collections::BTreeMap;

/// The warden's user on a node.
pub const WARDEN: &str = "zeta-bft-warden";
/// The user of the unit that calls a human.
pub const PAGE: &str = "zeta-bft-page";

/// A user of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
}

/// Where names of users are looked up.
#[derive(Clone, Debug)]
pub enum Users {
    /// This machine's, by whatever its name service knows.
    OfThisMachine,
    /// These and no others.
    Only(BTreeMap<String, Account>),
}

impl Users {
    /// The user of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<Account> {
        match self {
            Self::OfThisMachine => {
                let user = uzers::get_user_by_name(name)?;
                Some(Account { uid: user.uid(), gid: user.primary_group_id() })
            }
            Self::Only(users) => users.get(name).copied(),
        }
    }
}

/// The user that a persona's wrapper runs as.
pub(super) fn of_wrapper(persona: &str) -> String {
    format!("zeta-{persona}")
}

/// The user that a persona's agent runs as.
pub(super) fn of_agent(persona: &str) -> String {
    format!("zeta-bft-{persona}")
}

/// The user that a unit's main process must run as; `None`: whoever it is. Without `users` nothing is looked up.
pub(super) fn resolve(
    users: Option<&Users>,
    user: Option<At<'_, String>>,
    uid: Option<At<'_, u32>>,
    default: Option<String>,
    header: &Place,
) -> Result<Option<u32>, ConfigError> {
    if let (Some(user), Some(uid)) = (&user, &uid) {
        let message =
            format!("both user = \"{}\" and uid = {} are written: one of them is enough", user.value, uid.value);
        return Err(user.place.complain(message).into());
    }
    let Some(users) = users else { return Ok(None) };
    if let Some(At { value, .. }) = uid {
        return Ok(Some(*value));
    }
    let (name, place) = match (user, default) {
        (Some(at), _) => (at.value.clone(), at.place),
        (None, Some(name)) => (name, header.clone()),
        (None, None) => return Ok(None),
    };
    let account = users.find(&name).ok_or_else(|| {
        place.complain_with(
            format!("there is no user `{name}` on this node"),
            "`systemd-sysusers` makes those that come with zeta-bft; user = \"NAME\" names another",
        )
    })?;
    Ok(Some(account.uid))
}

/// Checks that every wrapper and agent has a user to itself.
pub(super) fn each_its_own(
    inputs: &Inputs,
    subjects: &BTreeMap<SubjectName, SubjectPolicy>,
    users: &Users,
) -> Result<(), ConfigError> {
    let ours = [("the warden", WARDEN), ("the page unit", PAGE)];
    let mut taken: BTreeMap<u32, String> =
        ours.into_iter().filter_map(|(who, name)| Some((users.find(name)?.uid, who.to_owned()))).collect();
    taken.insert(0, "root".to_owned());
    // Foreign units may share among themselves.
    let (guarded, foreign): (Vec<_>, Vec<_>) = subjects.iter().partition(|(_, policy)| policy.kind.persona().is_some());
    for (subject, policy) in foreign {
        if let Some(uid) = policy.uid {
            taken.entry(uid).or_insert_with(|| subject.to_string());
        }
    }
    for (subject, policy) in guarded {
        let Some(uid) = policy.uid else { continue };
        let Some(other) = taken.insert(uid, subject.to_string()) else { continue };
        let message = format!(
            "{other} and {subject} have one user, {uid}: one could kill the other or speak for it; give each its own, or write \
             allow_shared_uid = true at the top, which turns isolation off"
        );
        return Err(inputs.complain_at(place_of(inputs, subject).as_ref(), message));
    }
    Ok(())
}

/// Where it is written who runs a wrapper or an agent.
fn place_of(inputs: &Inputs, subject: &SubjectName) -> Option<Place> {
    let name = subject.as_str();
    let place = |at: At<'_, String>| at.place;
    let number = |at: At<'_, u32>| at.place;
    inputs
        .last(|file| file.personas.get(name)?.user.as_ref())
        .map(place)
        .or_else(|| inputs.last(|file| file.subjects.get(name)?.user.as_ref()).map(place))
        .or_else(|| inputs.last(|file| file.personas.get(name)?.uid.as_ref()).map(number))
        .or_else(|| inputs.last(|file| file.subjects.get(name)?.uid.as_ref()).map(number))
}

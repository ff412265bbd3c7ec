//! Users and groups of the node, and which of them the committee runs as.

use super::node::{Kind, Look, Node, Unread};
use crate::config::{Settings, users};
use crate::protocol::policy::SubjectKind;
use crate::protocol::types::PersonaId;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
    /// The names of those who are in it beside their first group.
    pub members: Vec<String>,
}

/// The users and groups of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<Account>,
    groups: Vec<GroupEntry>,
}

impl Accounts {
    /// Nobody.
    pub const fn none() -> Self {
        Self { users: Vec::new(), groups: Vec::new() }
    }

    /// From `/etc/passwd` and `/etc/group`. Lines that make no sense are passed over, as the C library does.
    ///
    /// # Errors
    /// [`Unread`] when one of them cannot be read.
    pub fn of(node: &Node) -> Result<Self, Unread> {
        Ok(Self::parse(&node.read("/etc/passwd")?, &node.read("/etc/group")?))
    }

    /// From the two files' texts.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let [name, _, uid, gid, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
            Some(Account { name: name.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        });
        let groups = group.lines().filter_map(|line| {
            let [name, _, gid, members, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
            let members = members.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
            Some(GroupEntry { name: name.into(), gid: gid.parse().ok()?, members: members.collect() })
        });
        Self { users: users.filter(|user| !user.name.is_empty()).collect(), groups: groups.collect() }
    }

    /// Asks the machine's other sources of users (LDAP, systemd's own) for a name that the files do not have.
    pub fn ask_for(&mut self, name: &str) {
        if self.user(name).is_none()
            && let Some(user) = uzers::get_user_by_name(name)
        {
            self.take_in(name, &user);
        }
    }

    /// The same for a number.
    pub fn ask_for_uid(&mut self, uid: u32) {
        if self.user_of(uid).is_none()
            && let Some(user) = uzers::get_user_by_uid(uid)
        {
            let name = user.name().to_string_lossy().into_owned();
            self.take_in(&name, &user);
        }
    }

    fn take_in(&mut self, name: &str, user: &uzers::User) {
        let (uid, gid) = (user.uid(), user.primary_group_id());
        for group in uzers::get_user_groups(name, gid).unwrap_or_default() {
            let known = self.groups.iter_mut().find(|known| known.gid == group.gid());
            match known {
                Some(known) => known.members.push(name.to_owned()),
                None => self.groups.push(GroupEntry {
                    name: group.name().to_string_lossy().into_owned(),
                    gid: group.gid(),
                    members: vec![name.to_owned()],
                }),
            }
        }
        self.users.push(Account { name: name.to_owned(), uid, gid });
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&Account> {
        self.users.iter().find(|user| user.name == name)
    }

    /// A user by number: the first of that number.
    pub fn user_of(&self, uid: u32) -> Option<&Account> {
        self.users.iter().find(|user| user.uid == uid)
    }

    /// A user's name, or its number.
    pub fn name_of(&self, uid: u32) -> String {
        self.user_of(uid).map_or_else(|| format!("uid {uid}"), |user| user.name.clone())
    }

    /// A group's name, or its number.
    pub fn group_name(&self, gid: u32) -> String {
        self.groups.iter().find(|group| group.gid == gid).map_or_else(|| format!("gid {gid}"), |g| g.name.clone())
    }

    /// Every group that a user is in, its first one too.
    pub fn groups_of<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = &'a GroupEntry> {
        self.groups.iter().filter(|group| group.gid == account.gid || group.members.contains(&account.name))
    }

    /// The same, with a user in further groups, by name or number, as a unit's `SupplementaryGroups=` puts it there.
    #[must_use]
    pub fn joined<'a>(&self, user: &str, groups: impl Iterator<Item = &'a str>) -> Self {
        let mut joined = self.clone();
        for name in groups {
            let wanted = |group: &&mut GroupEntry| group.name == name || name.parse() == Ok(group.gid);
            if let Some(group) = joined.groups.iter_mut().find(wanted) {
                group.members.push(user.to_owned());
            }
        }
        joined
    }

    /// Everybody in a group.
    pub fn members_of(&self, gid: u32) -> impl Iterator<Item = &Account> {
        let named: Vec<_> = self.groups.iter().filter(|group| group.gid == gid).flat_map(|g| &g.members).collect();
        self.users.iter().filter(move |user| user.gid == gid || named.contains(&&user.name))
    }

    /// Whether the permission bits give a user these rights (4 read, 2 write, 1 enter).
    pub fn may(&self, account: &Account, look: &Look, rights: u32) -> bool {
        let shift = if account.uid == 0 {
            return true;
        } else if look.uid == account.uid {
            6
        } else if look.gid == account.gid || self.groups_of(account).any(|group| group.gid == look.gid) {
            3
        } else {
            0
        };
        (look.mode >> shift) & rights == rights
    }

    /// Whether a user reaches the end of these steps with these rights: every folder on the way must let it through.
    pub fn reaches(&self, account: &Account, steps: &[Look], rights: u32) -> bool {
        let Some((end, way)) = steps.split_last() else { return false };
        let through = way.iter().filter(|step| step.kind == Kind::Folder).all(|folder| self.may(account, folder, 1));
        through && self.may(account, end, rights)
    }
}

/// What a user is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The warden.
    Warden,
    /// A persona's sidecar.
    Agent(PersonaId),
    /// A persona's wrapper: the AI itself.
    Wrapper(PersonaId),
    /// Sends pages.
    Page,
}

impl Role {
    /// Whether a vendor's program runs as this user.
    pub const fn is_ai(&self) -> bool {
        matches!(self, Self::Wrapper(_))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warden => f.write_str("the warden"),
            Self::Agent(persona) => write!(f, "{persona}'s agent"),
            Self::Wrapper(persona) => write!(f, "{persona} itself"),
            Self::Page => f.write_str("the unit that sends pages"),
        }
    }
}

/// The user that each part of the committee runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cast {
    /// By role: the user's name.
    pub names: BTreeMap<Role, String>,
}

impl Cast {
    /// As configured; without a configuration, those of the package's users that there are. What the files do not know is
    /// asked for.
    pub fn find(settings: Option<&Settings>, accounts: &mut Accounts) -> Self {
        let Some(settings) = settings else { return Self::shipped(accounts) };
        settings.policy.subjects.values().filter_map(|subject| subject.uid).for_each(|uid| accounts.ask_for_uid(uid));
        let cast = Self::of(settings, accounts);
        cast.names.values().for_each(|name| accounts.ask_for(name));
        cast
    }

    /// The users of the package that there are.
    fn shipped(accounts: &Accounts) -> Self {
        let personas =
            ["alexa", "lior", "otto", "riven", "vera"].into_iter().filter_map(|name| PersonaId::new(name).ok());
        let of_personas = personas.flat_map(|persona| {
            let (agent, wrapper) = (format!("zeta-bft-{persona}"), format!("zeta-{persona}"));
            [(Role::Agent(persona.clone()), agent), (Role::Wrapper(persona), wrapper)]
        });
        let names = of_personas.chain([(Role::Warden, users::WARDEN.to_owned())]);
        Self { names: names.filter(|(_, name)| accounts.user(name).is_some()).collect() }
    }

    /// As configured, with the default names where nothing else is written.
    pub fn of(settings: &Settings, accounts: &Accounts) -> Self {
        let mut names = BTreeMap::from([(Role::Warden, users::WARDEN.to_owned())]);
        if settings.page.is_some() {
            names.insert(Role::Page, users::PAGE.to_owned());
        }
        for subject in settings.policy.subjects.values() {
            let configured = subject.uid.map(|uid| accounts.name_of(uid));
            match &subject.kind {
                SubjectKind::Wrapper(persona) => {
                    let name = configured.unwrap_or_else(|| format!("zeta-{persona}"));
                    names.insert(Role::Wrapper(persona.clone()), name);
                }
                SubjectKind::Agent(persona) => {
                    let name = configured.unwrap_or_else(|| format!("zeta-bft-{persona}"));
                    names.insert(Role::Agent(persona.clone()), name);
                }
                SubjectKind::K3s | SubjectKind::Unit => {}
            }
        }
        Self { names }
    }

    /// The account of a role, where there is one.
    pub fn account<'a>(&self, role: &Role, accounts: &'a Accounts) -> Option<&'a Account> {
        accounts.user(self.names.get(role)?)
    }

    /// Every role that has an account, with it.
    pub fn accounts<'a>(&'a self, accounts: &'a Accounts) -> impl Iterator<Item = (&'a Role, &'a Account)> {
        self.names.iter().filter_map(|(role, name)| Some((role, accounts.user(name)?)))
    }
}

/// Whether a file is there and a user may read it.
///
/// # Errors
/// [`Unread`] when that cannot be told.
pub fn may_read(node: &Node, accounts: &Accounts, account: &Account, path: &Path) -> Result<bool, Unread> {
    match node.steps(path) {
        Ok(steps) => Ok(accounts.reaches(account, &steps, 4)),
        Err(Unread::Absent) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(super) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nzeta-otto:x:901:901::/:/bin/false\n:x:1:1::/:\n";
    const GROUP: &str = "root:x:0:\nzeta-otto:x:901:\ndocker:x:998:ann, zeta-otto\nbad:x:y:z\n";

    #[test]
    fn users_and_their_groups_are_read_and_broken_lines_passed_over() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let otto = accounts.user("zeta-otto").unwrap();
        assert_eq!((otto.uid, otto.gid), (901, 901));
        let groups: Vec<_> = accounts.groups_of(otto).map(|group| group.name.as_str()).collect();
        assert_eq!(groups, ["zeta-otto", "docker"]);
        assert_eq!(accounts.users.len(), 2);
        assert_eq!((accounts.name_of(0), accounts.name_of(7)), ("root".to_owned(), "uid 7".to_owned()));
    }

    #[test]
    fn the_owners_bits_count_for_the_owner_even_where_others_may_more() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let otto = accounts.user("zeta-otto").unwrap();
        let look = |uid, gid, mode| Look { path: "/f".into(), kind: Kind::File, uid, gid, mode, size: 0 };
        assert!(!accounts.may(otto, &look(901, 0, 0o077), 4));
        assert!(accounts.may(otto, &look(0, 998, 0o060), 2));
        assert!(!accounts.may(otto, &look(0, 998, 0o006), 2));
        assert!(accounts.may(otto, &look(0, 0, 0o006), 2));
    }

    #[test]
    fn a_closed_folder_on_the_way_keeps_a_user_out() {
        let tree = Tree::new().file("/etc/rancher/k3s/k3s.yaml", "x").mode("/", 0o755);
        let accounts = Accounts::parse(PASSWD, GROUP);
        let otto = accounts.user("zeta-otto").unwrap();
        let path = Path::new("/etc/rancher/k3s/k3s.yaml");
        assert_eq!(may_read(&tree.node(), &accounts, otto, path), Ok(true));
        let tree = tree.mode("/etc/rancher", 0o750);
        assert_eq!(may_read(&tree.node(), &accounts, otto, path), Ok(false));
        assert_eq!(may_read(&tree.node(), &accounts, otto, Path::new("/none")), Ok(false));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_of_users_panic(passwd in any::<String>(), group in ".*:.*:[0-9]*:.*") {
            let accounts = Accounts::parse(&passwd, &group);
            let _ = accounts.user("root").map(|user| accounts.groups_of(user).count());
        }
    }
}

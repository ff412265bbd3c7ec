//! From inputs to settings: defaults filled in, names resolved, ranges and rules checked.

use super::fragments::{
    ActionWord, BudgetFragment, ConsentWord, ExitWord, KindWord, ModeWord, ReasonWord, RungFragment,
};
use super::inputs::{At, Inputs, List};
use super::k3s::K3sConfig;
use super::paths::Paths;
use super::settings::{CommandSettings, FaultPattern, PersonaSettings, Settings, default_probe};
use super::source::{Place, remark_on};
use super::users::{self, Users};
use super::{ConfigError, k3s, never, patterns, tcp, timing};
use crate::protocol::evidence::{ExitZero, Reason};
use crate::protocol::policy::{Action, BudgetPolicy, Consent, Mode, Policy, RungPolicy, SubjectKind, SubjectPolicy};
use crate::protocol::roster::check_counts;
use crate::protocol::types::{ClusterId, NameError, NodeId, PersonaId, SubjectName, VendorId};
use crate::wire::{MAX_ATTESTATIONS, MAX_GUARDIANS};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// The vendors that there are. A closed list: a misspelt vendor would count as one more, and the votes of one vendor as
/// two.
const VENDORS: &[&str] = &[
    "alibaba-qwen",
    "amazon-nova",
    "anthropic",
    "cohere",
    "deepseek",
    "google-gemini",
    "meta-llama",
    "microsoft",
    "mistral",
    "moonshot-kimi",
    "openai",
    "xai-grok",
    "zhipu-glm",
];

/// Names that would collide with a key file, or with a word of the command line.
const RESERVED: &[&str] = &["all", "ca", "k3s", "node", "operator", "warden"];

const TICK_INTERVAL: Duration = Duration::from_secs(60);
const TICK_LIMIT: Duration = Duration::from_secs(30 * 60);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT_MAX: Duration = Duration::from_secs(3600);
const MOST_RUNGS: usize = 16;

/// Makes settings of all that was written.
pub(super) fn settings(inputs: &Inputs, paths: &Paths, users: &Users) -> Result<Settings, ConfigError> {
    let cluster = name(inputs, "cluster", inputs.last(|file| file.cluster.as_ref()), ClusterId::new)?;
    let node = name(inputs, "node", inputs.last(|file| file.node.as_ref()), NodeId::new)?;
    let mode = match inputs.last(|file| file.mode.as_ref()).map(|at| *at.value) {
        Some(ModeWord::Act) => Mode::Act,
        Some(ModeWord::Observe) => Mode::Observe,
        None => return Err(inputs.complain("`mode` is missing: write mode = \"observe\" or mode = \"act\"")),
    };
    let on_a_node = paths.dir().is_none();
    let shared_allowed = inputs.last(|file| file.allow_shared_uid.as_ref()).is_some_and(|at| *at.value);
    let users = on_a_node.then_some(users);
    let personas = personas(inputs)?;
    let (f, q) = counts(inputs, &personas)?;
    let mut timing = timing::from_inputs(inputs)?;
    if let Some(longest) = personas.values().map(|persona| persona.tick_limit).max() {
        timing.tick_limit = longest;
    }
    let subjects = Subjects { inputs, paths, users, personas: &personas, units: BTreeMap::new() }.all()?;
    if let Some(users) = users.filter(|_| !shared_allowed) {
        users::each_its_own(inputs, &subjects, users)?;
    }
    let node_per_day = match inputs.last(|file| file.policy.node_per_day.as_ref()) {
        Some(at) if *at.value == 0 => return Err(at.place.complain("node_per_day must be at least 1").into()),
        Some(at) => *at.value,
        None => Policy::NODE_PER_DAY,
    };
    let page = inputs
        .last(|file| file.page.as_ref())
        .map(|page| {
            let list = List { source: &page.place.source, items: &[(); 0] };
            let argv = root_command(&list.at(&page.value.command))?;
            let limit = command_limit(list.at_written(&page.value.limit))?;
            Ok::<_, ConfigError>(CommandSettings { argv, limit })
        })
        .transpose()?;
    let settings = Settings {
        paths: paths.clone(),
        cluster,
        node,
        f,
        q,
        k3s: each_k3s(inputs, &subjects)?,
        tcp: tcp::from_inputs(inputs, &personas)?,
        personas,
        policy: Arc::new(Policy {
            digest: super::digest::of(&subjects, node_per_day),
            mode,
            subjects,
            node_per_day,
            drill: false,
            timing,
        }),
        page,
        warden_metrics: inputs.last(|file| file.metrics.warden.as_ref()).map_or(loopback(9464), |at| *at.value),
        isolation: on_a_node && !shared_allowed,
    };
    addresses(inputs, &settings)?;
    for (what, has, most) in [
        ("personas", settings.personas.len(), MAX_GUARDIANS),
        ("subjects", settings.policy.subjects.len(), MAX_ATTESTATIONS),
    ] {
        if has > most {
            return Err(inputs.complain(format!("{has} {what} are too many: {most} fit into one heartbeat")));
        }
    }
    let drill = inputs.last(|file| file.policy.drill.enabled.as_ref()).is_some_and(|at| *at.value);
    if !drill {
        return Ok(settings);
    }
    let lifts = |written: Option<At<'_, bool>>| written.is_none_or(|at| *at.value);
    Ok(settings.into_drill(
        lifts(inputs.last(|file| file.policy.drill.lift_budgets.as_ref())),
        lifts(inputs.last(|file| file.policy.drill.lift_cool_downs.as_ref())),
    ))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn name<T>(
    inputs: &Inputs,
    option: &str,
    written: Option<At<'_, String>>,
    make: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, ConfigError> {
    let Some(At { value, place }) = written else {
        return Err(inputs.complain(format!("`{option}` is missing")));
    };
    make(value).map_err(|error| place.complain(error.to_string()).into())
}

fn counts(inputs: &Inputs, personas: &BTreeMap<PersonaId, PersonaSettings>) -> Result<(u32, u32), ConfigError> {
    let (f, q) = (inputs.last(|file| file.f.as_ref()), inputs.last(|file| file.q.as_ref()));
    let f_is = f.as_ref().map_or(1, |at| *at.value);
    let q_is = q.as_ref().map_or(f_is.saturating_add(1), |at| *at.value);
    let vendors: BTreeSet<_> = personas.values().map(|persona| &persona.vendor).collect();
    check_counts(u32::try_from(vendors.len()).unwrap_or(u32::MAX), f_is, q_is).map_err(|error| {
        use crate::protocol::roster::RosterError::BadThreshold;
        let at = if matches!(error, BadThreshold { .. }) { q.or(f) } else { f };
        inputs.complain_at(at.map(|at| at.place).as_ref(), error.to_string())
    })?;
    Ok((f_is, q_is))
}

fn personas(inputs: &Inputs) -> Result<BTreeMap<PersonaId, PersonaSettings>, ConfigError> {
    let first = |written: Option<At<'_, SocketAddr>>, port| written.map_or(loopback(port), |at| *at.value);
    let agents = first(inputs.last(|file| file.metrics.agents.as_ref()), 9465);
    let wrappers = first(inputs.last(|file| file.metrics.wrappers.as_ref()), 9475);
    let names = inputs.names(|file| &file.personas);
    let mut personas = BTreeMap::new();
    for (index, (name, place)) in names.into_iter().enumerate() {
        let id = PersonaId::new(name).map_err(|error| place.complain(error.to_string()))?;
        if RESERVED.contains(&name) {
            return Err(place.complain(format!("a persona cannot be called `{name}`: the word is taken")).into());
        }
        let persona = persona(inputs, name, &place, nth(agents, index), nth(wrappers, index))?;
        personas.insert(id, persona);
    }
    Ok(personas)
}

/// The `index`-th address from the first on; port 0 stays 0.
fn nth(mut first: SocketAddr, index: usize) -> SocketAddr {
    if first.port() != 0 {
        first.set_port(first.port().saturating_add(u16::try_from(index).unwrap_or(u16::MAX)));
    }
    first
}

fn persona(
    inputs: &Inputs,
    name: &str,
    header: &Place,
    agent_metrics: SocketAddr,
    wrapper_metrics: SocketAddr,
) -> Result<PersonaSettings, ConfigError> {
    macro_rules! last {
        ($field:ident) => {
            inputs.last(|file| file.personas.get(name)?.$field.as_ref())
        };
    }
    let Some(vendor) = last!(vendor) else {
        return Err(header.complain(format!("persona {name} has no `vendor`")).into());
    };
    if !VENDORS.contains(&vendor.value.as_str()) {
        let message = format!("unknown vendor `{}`", vendor.value);
        return Err(vendor.place.complain_with(message, remark_on(vendor.value, VENDORS)).into());
    }
    let vendor = VendorId::new(vendor.value).map_err(|error| vendor.place.complain(error.to_string()))?;
    let Some(command) = last!(command) else {
        return Err(header.complain(format!("persona {name} has no `command`")).into());
    };
    let length = |written: Option<At<'_, super::fragments::Length>>, default, least, most| {
        let Some(At { value, place }) = written else { return Ok(default) };
        in_range(value.0, least, most, &place)
    };
    let (day, week) = (Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600));
    let working_dir = match last!(working_dir) {
        Some(at) if !at.value.starts_with('/') => {
            return Err(at.place.complain("working_dir must be an absolute path").into());
        }
        at => at.map(|at| PathBuf::from(at.value)),
    };
    let mut readings = Vec::new();
    if let Some(list) = inputs.last_list(|file| file.personas.get(name)?.patterns.as_ref()) {
        for pattern in list.items {
            let At { value, place } = list.at(&pattern.regex);
            let regex = patterns::compile(value).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                place.complain_with("no regular expression", why)
            })?;
            if regex.is_match("") {
                return Err(place.complain("this pattern matches every line: no failed tick would ever count").into());
            }
            readings.push(FaultPattern { regex: regex.into(), reason: reason(*list.at(&pattern.reason).value) });
        }
    }
    readings.extend(patterns::defaults(&vendor));
    let command = program(&command)?;
    let probe = match last!(probe) {
        // An empty list: none, also where there is one by default.
        Some(at) if at.value.is_empty() => None,
        Some(at) => Some(program(&at)?),
        None => default_probe(&command),
    };
    Ok(PersonaSettings {
        vendor,
        command,
        probe,
        tick_interval: length(last!(tick_interval), TICK_INTERVAL, Duration::from_millis(10), day)?,
        tick_limit: length(last!(tick_limit), TICK_LIMIT, Duration::from_millis(100), week)?,
        working_dir,
        patterns: readings,
        agent_metrics: last!(agent_metrics).map_or(agent_metrics, |at| *at.value),
        wrapper_metrics: last!(wrapper_metrics).map_or(wrapper_metrics, |at| *at.value),
    })
}

const fn reason(word: ReasonWord) -> Reason {
    match word {
        ReasonWord::Quota => Reason::Quota,
        ReasonWord::Auth => Reason::Auth,
        ReasonWord::Setup => Reason::Setup,
        ReasonWord::VendorDown => Reason::VendorDown,
        ReasonWord::NetworkDown => Reason::NetworkDown,
        ReasonWord::DiskFull => Reason::DiskFull,
    }
}

/// How each k3s is looked at. What only a k3s has is refused of others.
fn each_k3s(
    inputs: &Inputs,
    subjects: &BTreeMap<SubjectName, SubjectPolicy>,
) -> Result<BTreeMap<SubjectName, K3sConfig>, ConfigError> {
    let mut all = BTreeMap::new();
    for (name, header) in inputs.names(|file| &file.subjects) {
        let Some((subject, policy)) = subjects.iter().find(|(subject, _)| subject.as_str() == name) else { continue };
        if policy.kind == SubjectKind::K3s {
            all.insert(subject.clone(), k3s::config(inputs, name, &header)?);
        } else if let Some((option, place)) = k3s::stray(inputs, name) {
            return Err(place.complain(format!("`{option}` belongs to a subject with kind = \"k3s\"")).into());
        }
    }
    Ok(all)
}

pub(super) fn in_range(
    value: Duration,
    least: Duration,
    most: Duration,
    place: &Place,
) -> Result<Duration, ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let [value, least, most] = [value, least, most].map(|d| humantime::format_duration(d).to_string());
    Err(place.complain(format!("{value} is out of range: it must be from {least} to {most}")).into())
}

/// A program and its arguments.
fn program(argv: &At<'_, Vec<String>>) -> Result<Vec<String>, ConfigError> {
    if argv.value.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(argv.place.complain("a command needs at least a program").into());
    }
    if argv.value.iter().any(|argument| argument.contains('\0')) {
        return Err(argv.place.complain("an argument cannot hold a NUL").into());
    }
    Ok(argv.value.clone())
}

/// A command that the warden's side runs: its program is not looked up in any PATH.
fn root_command(argv: &At<'_, Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let checked = program(argv)?;
    if !checked[0].starts_with('/') {
        let message = format!("`{}` must be an absolute path: no PATH is searched here", checked[0]);
        return Err(argv.place.complain(message).into());
    }
    Ok(checked)
}

fn command_limit(written: Option<At<'_, super::fragments::Length>>) -> Result<Duration, ConfigError> {
    let Some(At { value, place }) = written else { return Ok(COMMAND_LIMIT) };
    in_range(value.0, Duration::from_millis(10), COMMAND_LIMIT_MAX, &place)
}

/// Two scrape ports on one address would leave one daemon without.
fn addresses(inputs: &Inputs, settings: &Settings) -> Result<(), ConfigError> {
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let personas = settings.personas.iter().flat_map(|(id, persona)| {
        [(format!("{id}'s agent"), persona.agent_metrics), (format!("{id}'s wrapper"), persona.wrapper_metrics)]
    });
    for (whose, address) in [("the warden".to_owned(), settings.warden_metrics)].into_iter().chain(personas) {
        if address.port() == 0 {
            continue;
        }
        if let Some(first) = taken.insert(address, whose.clone()) {
            return Err(
                inputs.complain(format!("{first} and {whose} have one scrape address, {address}: see [metrics]"))
            );
        }
    }
    for (id, tcp) in &settings.tcp {
        if let Some(first) = taken.get(&tcp.listen) {
            let listen = tcp.listen;
            return Err(inputs.complain(format!("[tcp.{id}] listens on {listen}, the scrape address of {first}")));
        }
    }
    Ok(())
}

struct Subjects<'a> {
    inputs: &'a Inputs,
    paths: &'a Paths,
    /// `None`: below one folder everything runs as one user, and there is nothing to check.
    users: Option<&'a Users>,
    personas: &'a BTreeMap<PersonaId, PersonaSettings>,
    units: BTreeMap<String, SubjectName>,
}

impl Subjects<'_> {
    fn all(mut self) -> Result<BTreeMap<SubjectName, SubjectPolicy>, ConfigError> {
        let inputs = self.inputs;
        let mut subjects = BTreeMap::new();
        let persona_places = inputs.names(|file| &file.personas);
        for (id, persona) in self.personas {
            let header = &persona_places[id.as_str()];
            let wrapper = self.wrapper(id, &persona.vendor, header)?;
            subjects.insert(SubjectName::wrapper(id), wrapper);
            let agent = self.written(
                &SubjectName::agent(id),
                header,
                SubjectPolicy {
                    kind: SubjectKind::Agent(id.clone()),
                    vendor: Some(persona.vendor.clone()),
                    unit: format!("zeta-bft-agent@{id}.service"),
                    uid: None,
                    exit_zero: ExitZero::Operator,
                    ladder: restart_then_page(),
                    budget: Policy::PERSONA_BUDGET,
                },
            )?;
            subjects.insert(SubjectName::agent(id), agent);
        }
        for (name, place) in inputs.names(|file| &file.subjects) {
            let subject = SubjectName::new(name).map_err(|error| place.complain(error.to_string()))?;
            let known = self.personas.keys().map(PersonaId::as_str).collect::<Vec<_>>();
            if let Some(persona) = name.strip_suffix("/agent") {
                if !known.contains(&persona) {
                    let message = format!("unknown persona `{persona}`");
                    return Err(place.complain_with(message, remark_on(persona, &known)).into());
                }
                continue;
            }
            if known.contains(&name) {
                let message = format!("`{name}` is a persona: write its options below [personas.{name}]");
                return Err(place.complain(message).into());
            }
            let policy = self.named(&subject, name, &place)?;
            subjects.insert(subject, policy);
        }
        Ok(subjects)
    }

    fn wrapper(&mut self, id: &PersonaId, vendor: &VendorId, header: &Place) -> Result<SubjectPolicy, ConfigError> {
        let (inputs, name) = (self.inputs, id.as_str());
        let unit = inputs.last(|file| file.personas.get(name)?.unit.as_ref());
        let ladder = inputs.last_list(|file| file.personas.get(name)?.ladder.as_ref());
        Ok(SubjectPolicy {
            kind: SubjectKind::Wrapper(id.clone()),
            vendor: Some(vendor.clone()),
            unit: self.unit(&SubjectName::wrapper(id), unit, format!("zeta-{id}.service"), header, true)?,
            uid: users::resolve(
                self.users,
                inputs.last(|file| file.personas.get(name)?.user.as_ref()),
                inputs.last(|file| file.personas.get(name)?.uid.as_ref()),
                Some(users::of_wrapper(name)),
                header,
            )?,
            exit_zero: ExitZero::Operator,
            ladder: ladder.map_or_else(|| Ok(Policy::persona_ladder()), |list| self.ladder(&list, header))?,
            budget: budget(inputs, Policy::PERSONA_BUDGET, |file| file.personas.get(name).map(|p| &p.budget))?,
        })
    }

    fn named(&mut self, subject: &SubjectName, name: &str, place: &Place) -> Result<SubjectPolicy, ConfigError> {
        let Some(kind) = self.inputs.last(|file| file.subjects.get(name)?.kind.as_ref()) else {
            let message = format!("subject {name} has no `kind`: write kind = \"unit\" or kind = \"k3s\"");
            return Err(place.complain(message).into());
        };
        let (kind, unit, ladder, budget) = match kind.value {
            KindWord::K3s => {
                let role = k3s::role(self.inputs, name);
                (SubjectKind::K3s, k3s::unit(role).to_owned(), k3s::ladder(role), Policy::K3S_BUDGET)
            }
            KindWord::Unit => (SubjectKind::Unit, String::new(), restart_then_page(), Policy::PERSONA_BUDGET),
        };
        let (vendor, uid, exit_zero) = (None, None, ExitZero::Operator);
        self.written(subject, place, SubjectPolicy { kind, vendor, unit, uid, exit_zero, ladder, budget })
    }

    /// What `[subjects.NAME]` changes of the defaults.
    fn written(
        &mut self,
        subject: &SubjectName,
        header: &Place,
        default: SubjectPolicy,
    ) -> Result<SubjectPolicy, ConfigError> {
        let (inputs, name) = (self.inputs, subject.as_str());
        let of_persona = default.kind.persona().is_some();
        if of_persona && let Some(at) = inputs.last(|file| file.subjects.get(name)?.kind.as_ref()) {
            return Err(at.place.complain(format!("{subject} is a persona's agent: it has no other kind")).into());
        }
        let unit = inputs.last(|file| file.subjects.get(name)?.unit.as_ref());
        let ladder = inputs.last_list(|file| file.subjects.get(name)?.ladder.as_ref());
        let exit0 = inputs.last(|file| file.subjects.get(name)?.exit0.as_ref());
        Ok(SubjectPolicy {
            unit: self.unit(subject, unit, default.unit, header, of_persona)?,
            uid: users::resolve(
                self.users,
                inputs.last(|file| file.subjects.get(name)?.user.as_ref()),
                inputs.last(|file| file.subjects.get(name)?.uid.as_ref()),
                default.kind.persona().map(|persona| users::of_agent(persona.as_str())),
                header,
            )?,
            exit_zero: match exit0.map(|at| *at.value) {
                Some(ExitWord::Fault) => ExitZero::Fault,
                Some(ExitWord::Operator) => ExitZero::Operator,
                None => default.exit_zero,
            },
            ladder: ladder.map_or(Ok(default.ladder), |list| self.ladder(&list, header))?,
            budget: budget(inputs, default.budget, |file| file.subjects.get(name).map(|s| &s.budget))?,
            ..default
        })
    }

    fn unit(
        &mut self,
        subject: &SubjectName,
        written: Option<At<'_, String>>,
        default: String,
        header: &Place,
        ours: bool,
    ) -> Result<String, ConfigError> {
        let (unit, place) = match &written {
            Some(at) => (at.value.clone(), &at.place),
            None => (default, header),
        };
        if unit.is_empty() {
            return Err(place.complain(format!("subject {subject} has no `unit`")).into());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c);
        let stem = unit.strip_suffix(".service").unwrap_or_default();
        if stem.is_empty() || unit.len() > 255 || !stem.chars().all(plain) || stem.starts_with(['-', '.']) {
            let message = format!("`{unit}` is no name of a service, such as `zeta-otto.service`");
            return Err(place.complain(message).into());
        }
        if ours && unit.starts_with("k3s") {
            let message = format!("`{unit}` begins with `k3s`: k3s-killall.sh would stop it together with k3s");
            return Err(place.complain(message).into());
        }
        if let Some(first) = self.units.insert(unit.clone(), subject.clone()) {
            let message = format!("{first} and {subject} have one and the same unit, {unit}");
            return Err(place.complain(message).into());
        }
        Ok(unit)
    }

    fn ladder(&self, list: &List<'_, Spanned<RungFragment>>, header: &Place) -> Result<Vec<RungPolicy>, ConfigError> {
        if list.items.is_empty() || list.items.len() > MOST_RUNGS {
            let message = format!("a ladder has from 1 to {MOST_RUNGS} rungs, this one has {}", list.items.len());
            return Err(header.complain(message).into());
        }
        list.items.iter().map(|rung| self.rung(list, rung)).collect()
    }

    fn rung(
        &self,
        list: &List<'_, Spanned<RungFragment>>,
        rung: &Spanned<RungFragment>,
    ) -> Result<RungPolicy, ConfigError> {
        use ActionWord as Word;
        let rung = rung.get_ref();
        let At { value: word, place } = list.at(&rung.action);
        let consent = match list.at_written(&rung.consent).map(|at| *at.value) {
            Some(ConsentWord::QuorumAndOperator) => Consent::QuorumAndOperator,
            Some(ConsentWord::Quorum) | None => Consent::Quorum,
        };
        let (argv, limit, path) =
            (list.at_written(&rung.argv), list.at_written(&rung.limit), list.at_written(&rung.path));
        let stray = |at: &Place, option: &str, belongs: &str| {
            ConfigError::from(at.complain(format!("`{option}` belongs to {belongs}, not to this action")))
        };
        if *word != Word::Run {
            if let Some(at) = &argv {
                return Err(stray(&at.place, "argv", "`run`"));
            }
            if let Some(at) = &limit {
                return Err(stray(&at.place, "limit", "`run`"));
            }
        }
        if !matches!(word, Word::MoveAside | Word::CopyAside)
            && let Some(at) = &path
        {
            return Err(stray(&at.place, "path", "`move-aside` and `copy-aside`"));
        }
        let aside = || {
            let at = path.as_ref().ok_or_else(|| ConfigError::from(place.complain("this action needs a `path`")));
            at.map(|at| at.value.clone())
        };
        let action = match word {
            Word::Restart => Action::Restart,
            Word::ResetFailed => Action::ResetFailed,
            Word::Stop => Action::Stop,
            Word::Page => Action::Page,
            Word::MoveAside => Action::MoveAside { path: aside()? },
            Word::CopyAside => Action::CopyAside { path: aside()? },
            Word::Run => {
                let Some(at) = &argv else { return Err(place.complain("this action needs an `argv`").into()) };
                Action::Run { argv: root_command(at)?, limit: command_limit(limit)? }
            }
        };
        let rung = RungPolicy { action, consent };
        let place = argv.map(|at| at.place).or(path.map(|at| at.place)).unwrap_or(place);
        never::check(&rung, self.paths.state()).map_err(|error| place.complain(error.to_string()))?;
        Ok(rung)
    }
}

fn restart_then_page() -> Vec<RungPolicy> {
    [Action::Restart, Action::Page].map(|action| RungPolicy { action, consent: Consent::Quorum }).into()
}

fn budget<'a>(
    inputs: &'a Inputs,
    default: BudgetPolicy,
    table: impl Fn(&'a super::fragments::Fragment) -> Option<&'a BudgetFragment>,
) -> Result<BudgetPolicy, ConfigError> {
    let count = |written: Option<At<'_, u32>>, default, option: &str| match written {
        Some(at) if !(1..=1000).contains(at.value) => {
            Err(ConfigError::from(at.place.complain(format!("{option} = {} must be from 1 to 1000", at.value))))
        }
        at => Ok(at.map_or(default, |at| *at.value)),
    };
    let refill = match inputs.last(|file| table(file)?.refill.as_ref()) {
        Some(At { value, place }) => {
            in_range(value.0, Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600), &place)?
        }
        None => default.refill,
    };
    Ok(BudgetPolicy {
        capacity: count(inputs.last(|file| table(file)?.capacity.as_ref()), default.capacity, "capacity")?,
        refill,
        per_day: count(inputs.last(|file| table(file)?.per_day.as_ref()), default.per_day, "per_day")?,
    })
}

//! The subjects that the personas are, and those of `[subjects.NAME]`: unit, user, ladder and budget of each.

use super::{command, in_range};
use crate::config::fragments::{ActionWord, BudgetFragment, ConsentWord, ExitWord, Fragment, KindWord, RungFragment};
use crate::config::inputs::{At, Inputs, List};
use crate::config::paths::Paths;
use crate::config::settings::PersonaSettings;
use crate::config::source::{Place, remark_on};
use crate::config::users::{self, Users};
use crate::config::{ConfigError, k3s, never};
use crate::protocol::evidence::ExitZero;
use crate::protocol::policy::{Action, BudgetPolicy, Consent, Policy, RungPolicy, SubjectKind, SubjectPolicy};
use crate::protocol::types::{PersonaId, SubjectName, VendorId};
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;

const MOST_RUNGS: usize = 16;

/// All subjects, made one after the other, each with a unit of its own.
pub(super) struct Subjects<'a> {
    inputs: &'a Inputs,
    paths: &'a Paths,
    users: Option<&'a Users>,
    personas: &'a BTreeMap<PersonaId, PersonaSettings>,
    units: BTreeMap<String, SubjectName>,
}

impl<'a> Subjects<'a> {
    /// None is made yet. `users`: `None` below one folder, where everything runs as one user, and there is nothing to check.
    pub(super) fn new(
        inputs: &'a Inputs,
        paths: &'a Paths,
        users: Option<&'a Users>,
        personas: &'a BTreeMap<PersonaId, PersonaSettings>,
    ) -> Self {
        Self { inputs, paths, users, personas, units: BTreeMap::new() }
    }

    /// The personas' wrappers and agents, and what `[subjects.NAME]` adds.
    pub(super) fn all(mut self) -> Result<BTreeMap<SubjectName, SubjectPolicy>, ConfigError> {
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
                Action::Run { argv: command::of_root(at)?, limit: command::limit(limit)? }
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
    table: impl Fn(&'a Fragment) -> Option<&'a BudgetFragment>,
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

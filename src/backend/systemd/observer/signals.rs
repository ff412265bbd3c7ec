//! What a signal of systemd's changes in what is known.
//!
//! * It counts only when systemd itself sent it: its sender must be the unique name that owns `org.freedesktop.systemd1`.
//!   Anybody on the bus can send a signal with any path to anybody.
//! * systemd sends a unit's service properties before its unit properties; the state is formed after the second, so that it
//!   is never half of one moment and half of another.

use super::super::bus;
use super::super::door::BUS;
use super::super::facts::Facts;
use super::super::proxy::{SYSTEMD, UNIT};
use super::{Lost, Observer};
use std::collections::BTreeMap;
use zbus::message::Type;
use zbus::{Message, Variant};

/// Ends of jobs that are remembered for a caller who asks late.
const ENDED_JOBS: usize = 64;

impl Observer {
    /// Takes a message in. True when everything must be read again.
    pub(super) fn take(&mut self, message: &Message) -> Result<bool, Lost> {
        if message.message_type() != Type::Signal {
            return Ok(false);
        }
        let header = message.header();
        let sender = header.sender().map(|name| name.as_str()).unwrap_or_default();
        let member = header.member().map(|name| name.as_str()).unwrap_or_default();
        if sender == BUS && member == "NameOwnerChanged" {
            let body = message.body();
            let (name, _, _): (&str, &str, &str) = body.deserialize()?;
            return if name == SYSTEMD { Err(Lost::OwnerChanged) } else { Ok(false) };
        }
        if sender != self.owner {
            return Ok(false);
        }
        let path = header.path().map(|path| path.to_string());
        match member {
            "PropertiesChanged" => {
                if let Some(path) = path {
                    self.properties_changed(&path, message)?;
                }
            }
            "JobNew" => {
                let body = message.body();
                let (id, _, unit): (u32, zbus::ObjectPath<'_>, &str) = body.deserialize()?;
                self.ask_whether_stopping |= unit == bus::SHUTDOWN;
                if let Some(watched) = self.units.values_mut().find(|watched| watched.unit == unit) {
                    watched.job_began(id);
                }
            }
            "JobRemoved" => {
                let body = message.body();
                let (id, job, unit, result): (u32, zbus::ObjectPath<'_>, &str, &str) = body.deserialize()?;
                self.ask_whether_stopping |= unit == bus::SHUTDOWN;
                self.job_removed(id, job.as_str(), unit, result);
            }
            "Reloading" => {
                let body = message.body();
                self.reloading = body.deserialize()?;
                let paths: Vec<_> = self.units.keys().cloned().collect();
                paths.iter().for_each(|path| self.form(path));
                return Ok(!self.reloading);
            }
            "UnitFilesChanged" => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn properties_changed(&mut self, path: &str, message: &Message) -> Result<(), Lost> {
        let body = message.body();
        let (interface, changed, _): (&str, BTreeMap<&str, Variant<'_>>, Vec<&str>) = body.deserialize()?;
        if let Some((subject, runs)) = self.rungs.get_mut(path) {
            if interface == UNIT {
                let mut facts = Facts::default();
                changed.iter().for_each(|(name, value)| facts.set(name, value));
                *runs = facts.is_busy();
                let subject = subject.clone();
                let of_subject = self.units.iter().find(|(_, watched)| watched.subject == subject);
                if let Some(path) = of_subject.map(|(path, _)| path.clone()) {
                    self.form(&path);
                }
            }
            return Ok(());
        }
        let Some(watched) = self.units.get_mut(path) else { return Ok(()) };
        watched.signals += 1;
        changed.iter().for_each(|(name, value)| watched.facts.set(name, value));
        if interface == UNIT {
            self.form(path);
        }
        Ok(())
    }

    fn job_removed(&mut self, id: u32, job: &str, unit: &str, result: &str) {
        let found = self.units.iter_mut().find(|(_, watched)| watched.unit == unit);
        if let Some((path, watched)) = found
            && watched.job_ended(id, result)
        {
            let path = path.clone();
            self.form(&path);
        }
        let (asked, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(wanted, _)| wanted == job);
        self.waiting = waiting;
        for (_, caller) in Vec::from_iter(asked) {
            // A caller that gave up needs no answer.
            let _ = caller.send(result.to_owned());
        }
        self.ended_jobs.push_back((job.to_owned(), result.to_owned()));
        if self.ended_jobs.len() > ENDED_JOBS {
            self.ended_jobs.pop_front();
        }
    }
}

//! What every claim starts from: a plain Debian, the package, and a node on which it is installed and set up.

use super::lab::{Lab, Layer, Machine, Unfit, run};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// What a plain Debian 12 node has: systemd, a bus, polkit, and programs to look around with.
const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "polkitd",
    "libpam-systemd",
    "libnss-systemd",
    "iproute2",
    "procps",
    "curl",
    "adduser",
];
/// Where a machine finds the package.
pub const PACKAGE: &str = "/root/zeta-bft.deb";
/// Each start of a unit leaves a line in a file of its name in `/run/starts`.
pub const COUNTED: &str =
    "[Service]\nExecStartPre=+/bin/sh -c 'mkdir -p /run/starts; echo \"$$INVOCATION_ID\" >>/run/starts/%n'\n";

/// The lab, with its layers.
#[derive(Debug)]
pub struct Stage {
    pub lab: Lab,
    /// A plain Debian.
    pub debian: Layer,
    package: OnceLock<Result<PathBuf, Unfit>>,
    installed: OnceLock<Result<Layer, Unfit>>,
    names: Mutex<u32>,
}

impl Stage {
    /// Makes the base.
    ///
    /// # Errors
    /// [`Unfit`], with the lab cleared away.
    pub fn set(lab: Lab) -> Result<Self, Unfit> {
        match lab.debian(&PACKAGES) {
            Ok(debian) => {
                Ok(Self { lab, debian, package: OnceLock::new(), installed: OnceLock::new(), names: Mutex::new(0) })
            }
            Err(unfit) => {
                lab.close();
                Err(unfit)
            }
        }
    }

    /// A plain machine that runs, with the package at [`PACKAGE`], not installed.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn with_package(&'static self) -> Result<Machine<'static>, Unfit> {
        let package = self.package.get_or_init(|| self.build()).as_ref().map_err(Unfit::clone)?;
        let machine = self.lab.machine(&self.name(), &[&self.debian])?;
        machine.boot()?;
        fs::copy(package, machine.file(PACKAGE))?;
        Ok(machine)
    }

    /// A machine that does not run yet, on whose disk the package is installed and `zeta-bft init` is done; the committee
    /// does not start by itself.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn with_committee(&'static self) -> Result<Machine<'static>, Unfit> {
        self.with_committee_under(&[])
    }

    /// The same, with further layers above.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn with_committee_under(&'static self, above: &[&Layer]) -> Result<Machine<'static>, Unfit> {
        let installed = self.installed.get_or_init(|| self.install()).as_ref().map_err(Unfit::clone)?;
        self.lab.machine(&self.name(), &[above, &[installed, &self.debian]].concat())
    }

    fn build(&self) -> Result<PathBuf, Unfit> {
        let build = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/debian/build");
        let binary = env!("CARGO_BIN_EXE_zeta-bft");
        let done = run(Duration::from_secs(120), &[build, "--fast", "--binary", binary, "--output", &self.lab.place()]);
        if !done.ok() {
            return Err(Unfit::Broken(done.to_string()));
        }
        Ok(done.out.lines().last().unwrap_or_default().into())
    }

    fn install(&'static self) -> Result<Layer, Unfit> {
        let machine = self.with_package()?;
        install(&machine)?;
        let init = machine.exec(&["zeta-bft", "init"]);
        if !init.ok() {
            return Err(Unfit::Broken(init.to_string()));
        }
        let units = ["otto", "lior", "vera"]
            .map(|persona| [format!("zeta-{persona}.service.d"), format!("zeta-bft-agent@{persona}.service.d")]);
        for folder in units.concat() {
            fs::create_dir_all(machine.file(&format!("/etc/systemd/system/{folder}")))?;
            fs::write(machine.file(&format!("/etc/systemd/system/{folder}/counted.conf")), COUNTED)?;
        }
        for words in [&["systemctl", "disable", "zeta-bft.target"][..], &["rm", PACKAGE]] {
            let done = machine.exec(words);
            if !done.ok() {
                return Err(Unfit::Broken(done.to_string()));
            }
        }
        machine.into_layer()
    }

    fn name(&self) -> String {
        let mut names = self.names.lock().expect("nobody panics with it");
        *names += 1;
        format!("node{names}")
    }
}

/// Installs the package on a plain machine.
///
/// # Errors
/// [`Unfit::NotHere`] when this binary was linked against a newer C library than Debian 12 has.
pub fn install(machine: &Machine<'_>) -> Result<(), Unfit> {
    let done = machine.exec(&["dpkg", "-i", PACKAGE]);
    if done.ok() {
        return Ok(());
    }
    let too_new = |line: &&str| line.contains("depends on libc6") || line.contains("`GLIBC_");
    match done.err.lines().chain(done.out.lines()).find(too_new) {
        Some(why) => Err(Unfit::NotHere(format!("the binary built here does not run on Debian 12: {}", why.trim()))),
        None => Err(Unfit::Broken(done.to_string())),
    }
}

//! Programs of the system that are asked: `systemctl`, `timedatectl`, `sudo`, `pkaction`. Never a shell, a time limit each,
//! untranslated answers.

use super::node::Unread;
use std::process::Stdio;
use std::time::Duration;

/// A program that has not ended by then is killed.
const LIMIT: Duration = Duration::from_secs(10);
/// Where they are looked for: not where the caller's own environment says. The last two are NixOS's.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/run/wrappers/bin:/run/current-system/sw/bin";

/// What a program printed to its standard output; its exit code is left to the reader of the answer.
///
/// # Errors
/// [`Unread::Absent`] when there is no such program, [`Unread::Other`] when it printed nothing but a complaint or did not end.
pub async fn ask(argv: &[&str]) -> Result<String, Unread> {
    let Some((program, arguments)) = argv.split_first() else { return Err(Unread::Absent) };
    let found =
        PATH.split(':').map(|folder| format!("{folder}/{program}")).find(|path| std::path::Path::new(path).exists());
    let mut command = tokio::process::Command::new(found.ok_or(Unread::Absent)?);
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C").env("SYSTEMD_PAGER", "");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| Unread::Other(format!("{program} did not end within {} s", LIMIT.as_secs())))??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.trim().is_empty() && !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().next().unwrap_or_default();
        return Err(Unread::Other(format!("{program} {} said: {complaint}", arguments.join(" "))));
    }
    Ok(said)
}

/// `KEY=VALUE` of the answer.
pub fn value<'a>(said: &'a str, key: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_not_there_or_only_complains_gives_no_answer() {
        assert_eq!(ask(&["no-such-program-as-this"]).await, Err(Unread::Absent));
        assert!(
            matches!(ask(&["sh", "-c", "echo no >&2; exit 3"]).await, Err(Unread::Other(why)) if why.ends_with("said: no"))
        );
        assert_eq!(ask(&["sh", "-c", "echo a=b; exit 3"]).await, Ok("a=b\n".to_owned()));
    }

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        assert_eq!(value("NTPx=1\nNTP=yes\n", "NTP"), Some("yes"));
        assert_eq!(value("", "NTP"), None);
    }
}

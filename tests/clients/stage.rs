//! A language's `clients/…/stage.sh`: it installs, builds, tests, runs the example, and makes the scenario's calls.
//! It gets a log file, a process group and a time limit.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use changelogd_testkit::workspace_root;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

use super::{log::Log, output::Tests, scenario::Scenario};

/// From nothing, a language takes about two minutes on two processors. Two languages share them.
pub const TIME_LIMIT: Duration = Duration::from_mins(10);
/// The end of the log that a failure shows.
const SHOWN_LINES: usize = 60;

/// The result of one language.
pub struct Stage {
    pub language: &'static str,
    pub took: Duration,
    /// How many calls of the scenario were made; or what is wrong, and the end of the log.
    pub result: Result<usize, String>,
}

pub async fn run(language: &'static str, variables: &[(&str, String)], behaviours: &[String]) -> Stage {
    let began = Instant::now();
    let result = match Log::create(format!("{language}/stage.log")) {
        Err(error) => Err(error),
        Ok(log) => {
            let judged = stage(language, variables, behaviours, &log).await;
            judged.map_err(|what| with_log(&what, &log))
        }
    };
    Stage { language, took: began.elapsed(), result }
}

async fn stage(
    language: &'static str,
    variables: &[(&str, String)],
    behaviours: &[String],
    log: &Log,
) -> Result<usize, String> {
    let scenario = Scenario::prepare(language, variables, &Uuid::new_v4().simple().to_string())?;
    let variables = [variables, &scenario.variables()].concat();
    let mut script = Command::new(workspace_root().join(format!("clients/{language}/stage.sh")));
    script.current_dir(workspace_root()).env_remove("CHANGELOGD_ADDR");
    ended(script, &variables, log, TIME_LIMIT).await?;
    judged(&log.text(), behaviours)?;
    scenario.judge()?;
    Ok(scenario.len())
}

/// What is wrong, and the end of the log.
pub fn with_log(what: &str, log: &Log) -> String {
    format!("{what}; the end of {}:\n{}", log.path.display(), last_lines(&log.text()))
}

/// Waits until the script has ended well.
pub async fn ended(
    mut script: Command,
    variables: &[(&str, String)],
    log: &Log,
    time_limit: Duration,
) -> Result<(), String> {
    let name = script.as_std().get_program().display().to_string();
    let started = log.writer().and_then(|out| {
        script
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            // Marks and names are read from the log.
            .env("NO_COLOR", "1")
            .env_remove("FORCE_COLOR")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log.writer()?)
            .process_group(0)
            .spawn()
    });
    let mut child = started.map_err(|error| format!("cannot run {name}: {error}"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let status = timeout(time_limit, child.wait()).await;
    let Ok(status) = status else { return Err(format!("{name} did not end in {} s", time_limit.as_secs())) };
    group.0 = None;
    let status = status.map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// The processes of a script that has not ended. They are killed when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Whether each behaviour has a test that passed, and none was skipped.
fn judged(log: &str, behaviours: &[String]) -> Result<(), String> {
    let tests = Tests::read(log);
    if !tests.skipped.is_empty() {
        return Err(format!("skipped: {}", tests.skipped.join(", ")));
    }
    let missing: Vec<_> = behaviours.iter().filter(|name| !tests.has_passed(name)).map(String::as_str).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no test passed of the names {}", missing.join(", "))) }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("    {line}"));
    shown.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::*;

    /// What must happen has happened by then.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn log() -> (TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path().join("stage.log")).unwrap();
        (directory, log)
    }

    fn sh(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    #[tokio::test]
    async fn a_script_finds_the_servers_and_must_succeed() {
        let (_directory, log) = log();
        let variables = [("CHANGELOGD_TEST_ON_KAFKA", "127.0.0.1:7".to_owned())];
        let script = sh("echo \"$CHANGELOGD_TEST_ON_KAFKA\"; echo more >&2");
        ended(script, &variables, &log, TIME_LIMIT).await.unwrap();
        assert_eq!(log.text(), "127.0.0.1:7\nmore\n");
        let error = ended(sh("exit 3"), &[], &log, TIME_LIMIT).await.unwrap_err();
        assert_eq!(error, "sh: exit status: 3");
        let error = ended(Command::new("clients/none/stage.sh"), &[], &log, TIME_LIMIT).await.unwrap_err();
        assert!(error.starts_with("cannot run clients/none/stage.sh: "), "{error}");
    }

    #[tokio::test]
    async fn a_script_and_its_programs_are_killed_if_they_do_not_end() {
        let (_directory, log) = log();
        let endless = || sh("sleep 600 & echo $!; wait");
        let error = ended(endless(), &[], &log, Duration::ZERO).await.unwrap_err();
        assert_eq!(error, "sh did not end in 0 s");

        let (_directory, log) = self::log();
        let printed = async {
            while !log.text().ends_with('\n') {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            result = ended(endless(), &[], &log, PATIENCE) => panic!("{result:?}"),
            () = printed => {}
        }
        let program = format!("/proc/{}/stat", log.text().trim());
        let killed = async {
            // A killed process is a zombie until its new parent has looked.
            while fs::read_to_string(&program).is_ok_and(|stat| !stat.contains(") Z")) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, killed).await.expect("the program is killed");
    }

    #[test]
    fn each_behaviour_needs_a_test_that_passed() {
        let behaviours = ["a_key_is_split".to_owned(), "cancel_stops_a_load".to_owned()];
        let key = "--- PASS: TestAKeyIsSplit (0.01s)\n";
        judged(&format!("{key}--- PASS: TestCancelStopsALoad (0.01s)\n"), &behaviours).unwrap();
        let missing = judged(key, &behaviours).unwrap_err();
        assert_eq!(missing, "no test passed of the names cancel_stops_a_load");
        let both = format!("{key}--- PASS: TestCancelStopsALoad (0.01s)\n--- SKIP: TestMore (0.00s)\n");
        assert_eq!(judged(&both, &behaviours).unwrap_err(), "skipped: TestMore");
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let lines = (1..=100).map(|i| format!("line {i}\n")).collect::<String>();
        let shown = last_lines(&lines);
        assert!(shown.starts_with("    line 41\n") && shown.ends_with("    line 100"), "{shown}");
        assert_eq!(last_lines(""), "");
    }
}

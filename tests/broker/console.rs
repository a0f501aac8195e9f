//! Runs the `console` blocks of a document as they are written, and compares what they print. A line that begins with
//! `$ ` is a command. Directly below it, `> ` continues it. In expected output, `…` stands for anything.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use changelogd_testkit::markdown::blocks;

/// A block that takes longer hangs. The longest one takes seconds.
const LIMIT: Duration = Duration::from_secs(300);

/// A command and its output.
#[derive(Debug)]
pub struct Step {
    pub command: String,
    expected: Vec<String>,
}

/// The commands of all blocks with this tag.
pub fn steps(document: &str, tag: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    let blocks = blocks(document).into_iter().filter(|block| block.tag == tag && block.is_run());
    for line in blocks.flat_map(|block| block.lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), expected: Vec::new() });
        } else {
            let step = steps.last_mut().expect("a command comes first");
            match line.strip_prefix("> ").filter(|_| step.expected.is_empty()) {
                Some(more) => step.command = format!("{}\n{more}", step.command),
                None => step.expected.push(line.to_owned()),
            }
        }
    }
    steps
}

/// `…` matches any text. Alone on the last line it matches any number of lines.
fn matches(expected: &str, printed: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    for (i, part) in parts.iter().enumerate() {
        if i + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Ends a shell and everything that it has started.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = Command::new("pkill").args(["-KILL", "-s", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// Runs the steps in one shell, as a user would type them in this directory.
pub fn run(steps: &[Step], directory: &Path, substitute: impl Fn(&str) -> String, variables: &[(&str, &str)]) {
    const MARK: &str = "@@ end of step @@";
    let shell = Command::new("setsid")
        .arg("bash")
        .current_dir(directory)
        .env_remove("CHANGELOGD_TEST_BINARY")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash runs");
    let mut shell = Session(shell);
    let mut input = shell.0.stdin.take().expect("piped");
    // Job control, for `&` and `kill %1`.
    writeln!(input, "set -m").unwrap();
    for step in steps {
        writeln!(input, "{}\necho '{MARK}'", substitute(&step.command)).unwrap();
    }
    drop(input);
    let mut output = shell.0.stdout.take().expect("piped");
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let mut printed = String::new();
        let read = output.read_to_string(&mut printed).map(|_| printed);
        let _ = ended.send(read);
    });
    let printed = end.recv_timeout(LIMIT).expect("the commands end in time").expect("text");
    drop(shell);
    let printed: Vec<_> = printed.split(&format!("{MARK}\n")).collect();
    assert_eq!(printed.len(), steps.len() + 1, "{printed:#?}");
    for (step, printed) in steps.iter().zip(printed) {
        let lines: Vec<_> = printed.lines().collect();
        let open = step.expected.last().is_some_and(|l| l == "…");
        let expected = &step.expected[..step.expected.len() - usize::from(open)];
        let same = (lines.len() == expected.len() || open && lines.len() >= expected.len())
            && expected.iter().zip(&lines).all(|(e, p)| matches(&substitute(e), p));
        assert!(same, "$ {}\nprinted\n{printed}\nand not\n{}", step.command, step.expected.join("\n"));
    }
}

#[test]
fn the_test_of_a_document_compares_the_output() {
    assert!(
        matches("a…c", "abc") && matches("a…", "a") && matches("…", "x") && matches("{\"t\":\"…\"}", "{\"t\":\"1\"}")
    );
    assert!(!matches("a…c", "abd") && !matches("a", "ab") && !matches("ab", "a"));
}

#[test]
fn the_test_of_a_document_fails_if_a_command_prints_something_else() {
    let documents =
        ["$ echo a\na", "$ echo a \\\n>     b\na b", "$ printf '1\\n2\\n3\\n'\n1\n…", "$ true", "$ echo a\n…"];
    let same = |document: &str| {
        let steps = steps(&format!("```console\n{document}\n```\n"), "console");
        let ran = std::panic::catch_unwind(|| run(&steps, Path::new("/"), str::to_owned, &[]));
        steps.len() == 1 && ran.is_ok()
    };
    for document in documents {
        assert!(same(document), "{document}");
    }
    for document in ["$ echo a\nb", "$ echo a", "$ true\na", "$ printf '1\\n2\\n'\n1", "$ printf '1\\n'\n1\n2\n…"] {
        assert!(!same(document), "{document}");
    }
}

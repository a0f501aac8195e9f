//! Flags before the command: `changelogd --addr unix:/s get KEY` is `changelogd get --addr unix:/s KEY`, and
//! `changelogd topic --brokers h:1 describe` is `changelogd topic describe --brokers h:1`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use clap::{ArgAction, Command};

/// The name of `--long` or `--long=value`, and whether it has a value.
fn long_flag(argument: &OsStr) -> Option<(&str, bool)> {
    let rest = argument.as_bytes().strip_prefix(b"--")?;
    let end = rest.iter().position(|byte| *byte == b'=');
    let name = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).ok().filter(|name| !name.is_empty())?;
    Some((name, end.is_some()))
}

/// Whether a flag of some command takes a value. `None` if no command has it. A flag is the same in each command.
pub(super) fn takes_value(command: &Command, long: &str) -> Option<bool> {
    command.get_subcommands().find_map(|inner| {
        let own = inner.get_arguments().find(|arg| arg.get_long() == Some(long));
        own.map(|arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append))
            .or_else(|| takes_value(inner, long))
    })
}

const HELP: [&str; 4] = ["--help", "-h", "--version", "-V"];

/// Moves the flags that stand before the command behind its name. Arguments that can't be understood stay as they are,
/// so that the parser names them. Flags are left out if help is asked for, or if no command follows. Then the parser
/// returns the help, or says that a command is missing.
pub fn flags_after_command(command: &Command, arguments: Vec<OsString>) -> Vec<OsString> {
    let (mut innermost, mut at) = (command, 1);
    let (mut words, mut flags) = (arguments[..arguments.len().min(1)].to_vec(), Vec::new());
    while innermost.has_subcommands() {
        let Some(argument) = arguments.get(at) else { return words };
        if HELP.iter().any(|help| argument == help) || argument == "help" {
            return [&words, &arguments[at..]].concat();
        }
        if let Some((name, has_value)) = long_flag(argument) {
            let Some(takes_value) = takes_value(command, name) else { return arguments };
            let end = (at + if takes_value && !has_value { 2 } else { 1 }).min(arguments.len());
            flags.extend_from_slice(&arguments[at..end]);
            at = end;
            continue;
        }
        // A name that is no command is refused by the parser.
        words.push(argument.clone());
        at += 1;
        let Some(inner) = innermost.find_subcommand(argument) else { break };
        innermost = inner;
    }
    [words, flags, arguments[at..].to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    type Words<'a> = &'a [&'a [u8]];

    fn command() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let get =
            Command::new("get").arg(flag("addr")).arg(flag("raw").action(ArgAction::SetTrue)).arg(Arg::new("key"));
        let describe = Command::new("describe").arg(flag("brokers"));
        Command::new("c").subcommand(get).subcommand(Command::new("topic").subcommand(describe))
    }

    fn ordered(arguments: Words<'_>) -> Vec<OsString> {
        let arguments = arguments.iter().map(|argument| OsStr::from_bytes(argument).to_owned()).collect();
        flags_after_command(&command(), arguments)
    }

    /// Covers C63.
    #[test]
    fn flags_before_the_command_are_read_as_its_own() {
        let cases: [(Words<'_>, Words<'_>); 15] = [
            (&[b"c", b"--addr", b"a", b"get", b"k"], &[b"c", b"get", b"--addr", b"a", b"k"]),
            (
                &[b"c", b"--addr=\xff", b"--raw", b"get", b"--", b"k"],
                &[b"c", b"get", b"--addr=\xff", b"--raw", b"--", b"k"],
            ),
            // The value has the name of a command.
            (&[b"c", b"--addr", b"get", b"get", b"get"], &[b"c", b"get", b"--addr", b"get", b"get"]),
            (&[b"c", b"--brokers=b", b"topic", b"describe"], &[b"c", b"topic", b"describe", b"--brokers=b"]),
            (&[b"c", b"topic", b"--brokers", b"b", b"describe"], &[b"c", b"topic", b"describe", b"--brokers", b"b"]),
            (
                &[b"c", b"--raw", b"topic", b"--brokers=b", b"describe", b"x"],
                &[b"c", b"topic", b"describe", b"--raw", b"--brokers=b", b"x"],
            ),
            // The help and the version.
            (&[b"c", b"--addr", b"a", b"--help"], &[b"c", b"--help"]),
            (&[b"c", b"--addr", b"a", b"-V"], &[b"c", b"-V"]),
            (&[b"c", b"--addr=a", b"help", b"get"], &[b"c", b"help", b"get"]),
            (&[b"c", b"--brokers=b", b"topic", b"--help"], &[b"c", b"topic", b"--help"]),
            // No command.
            (&[b"c", b"--addr"], &[b"c"]),
            (&[b"c", b"--addr", b"a"], &[b"c"]),
            (&[b"c", b"--brokers=b", b"topic"], &[b"c", b"topic"]),
            // The parser refuses these, and names the command or the flag.
            (&[b"c", b"--addr", b"a", b"gte"], &[b"c", b"gte", b"--addr", b"a"]),
            (&[b"c", b"--brokers=b", b"get"], &[b"c", b"get", b"--brokers=b"]),
        ];
        for (arguments, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|argument| OsStr::from_bytes(argument)).collect();
            assert_eq!(ordered(arguments), expected);
        }
        for same in [
            &[&b"c"[..]][..],
            &[b"c", b"get", b"k"],
            &[b"c", b"--help"],
            &[b"c", b"--nope", b"get"],
            &[b"c", b"--addr", b"a", b"--nope", b"get"],
            &[b"c", b"get", b"--help"],
        ] {
            assert_eq!(ordered(same), same.iter().map(|argument| OsStr::from_bytes(argument)).collect::<Vec<_>>());
        }
    }
}

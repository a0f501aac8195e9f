//! Flags before the command: `changelogd --addr unix:/s get KEY` is `changelogd get --addr unix:/s KEY`.

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
fn takes_value(command: &Command, long: &str) -> Option<bool> {
    command.get_subcommands().find_map(|inner| {
        let own = inner.get_arguments().find(|arg| arg.get_long() == Some(long));
        own.map(|arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append))
            .or_else(|| takes_value(inner, long))
    })
}

/// Moves the flags that stand before the command behind its name. Arguments that can't be understood stay as they are,
/// so that the parser names them.
pub fn flags_after_command(command: &Command, arguments: Vec<OsString>) -> Vec<OsString> {
    let mut at = 1;
    while let Some((name, has_value)) = arguments.get(at).and_then(|argument| long_flag(argument)) {
        match takes_value(command, name) {
            None => return arguments,
            Some(takes_value) => at += if takes_value && !has_value { 2 } else { 1 },
        }
    }
    if at == 1 || at >= arguments.len() {
        return arguments;
    }
    let (mut innermost, mut end) = (command, at);
    while let Some(inner) = arguments.get(end).and_then(|name| innermost.find_subcommand(name)) {
        (innermost, end) = (inner, end + 1);
    }
    // A name that is no command is refused by the parser.
    let end = end.max(at + 1);
    [&arguments[..1], &arguments[at..end], &arguments[1..at], &arguments[end..]].concat()
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
        let cases: [(Words<'_>, Words<'_>); 6] = [
            (&[b"c", b"--addr", b"a", b"get", b"k"], &[b"c", b"get", b"--addr", b"a", b"k"]),
            (
                &[b"c", b"--addr=\xff", b"--raw", b"get", b"--", b"k"],
                &[b"c", b"get", b"--addr=\xff", b"--raw", b"--", b"k"],
            ),
            // The value has the name of a command.
            (&[b"c", b"--addr", b"get", b"get", b"get"], &[b"c", b"get", b"--addr", b"get", b"get"]),
            (&[b"c", b"--brokers=b", b"topic", b"describe"], &[b"c", b"topic", b"describe", b"--brokers=b"]),
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
            &[b"c", b"--addr"],
        ] {
            assert_eq!(ordered(same), same.iter().map(|argument| OsStr::from_bytes(argument)).collect::<Vec<_>>());
        }
    }
}

//! White space around the values of flags.
//!
//! It does not count, as around the value of a variable: Kubernetes puts a newline of a Secret into
//! `args: --topic=$(TOPIC)`, too. The values of flags that are paths or data of a client are bytes, and stay as they
//! are.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use clap::{Arg, ArgAction, Command, ValueHint};

use super::environment::trimmed;

/// Flags of the client whose values are a part of what is written or read.
const DATA: [&str; 3] = ["header", "type", "workspace"];

/// The arguments of a command with trimmed values of flags.
pub fn trimmed_values(command: &Command, arguments: &[OsString]) -> Vec<OsString> {
    let is_trimmed = |arg: &&Arg| {
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let is_path = arg.get_value_hint() == ValueHint::AnyPath;
        takes_value && !is_path && !arg.get_long().is_some_and(|long| DATA.contains(&long))
    };
    let flags = || command.get_arguments().filter(is_trimmed);
    let (mut result, mut is_value) = (Vec::new(), false);
    let mut rest = arguments.iter();
    for argument in rest.by_ref() {
        if is_value {
            result.push(trimmed(argument).to_owned());
            is_value = false;
            continue;
        }
        if argument == "--" {
            result.push(argument.clone());
            break;
        }
        let bytes = argument.as_bytes();
        let end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
        let (name, value) = bytes.split_at(end);
        let flag = flags().find(|arg| {
            name.strip_prefix(b"--").is_some_and(|name| arg.get_long().is_some_and(|long| long.as_bytes() == name))
        });
        is_value = flag.is_some() && value.is_empty();
        result.push(match (flag, value.strip_prefix(b"=")) {
            (Some(_), Some(value)) => {
                let parts = [OsStr::from_bytes(name), OsStr::new("="), trimmed(OsStr::from_bytes(value))];
                parts.into_iter().collect()
            }
            _ => argument.clone(),
        });
    }
    result.extend(rest.cloned());
    result
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::value_parser;

    use super::*;

    /// Covers C62.
    #[test]
    fn white_space_around_the_value_of_a_flag_does_not_count_unless_it_is_a_path_or_data() {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let command = Command::new("c")
            .arg(flag("topic"))
            .arg(flag("property").action(ArgAction::Append))
            .arg(flag("raw").action(ArgAction::SetTrue))
            .arg(flag("dir").value_parser(value_parser!(PathBuf)))
            .arg(flag("header"))
            .arg(Arg::new("key"));
        let trimmed = |arguments: &[&str]| -> Vec<String> {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            trimmed_values(&command, &arguments).into_iter().map(|a| a.into_string().unwrap()).collect()
        };
        for (arguments, expected) in [
            (&["--topic", "t\n"][..], &["--topic", "t"][..]),
            (&["--topic= t \r\n", "--raw", " k "], &["--topic=t", "--raw", " k "]),
            (&["--property", " a = b ", "--property=\tc=d\n"], &["--property", "a = b", "--property=c=d"]),
            (&["--dir", "d ", "--dir= d\n"], &["--dir", "d ", "--dir= d\n"]),
            (&["--header", "a= b ", "--header=a= b "], &["--header", "a= b ", "--header=a= b "]),
            (&["--topic"], &["--topic"]),
            (&["--nope= x ", " y "], &["--nope= x ", " y "]),
            (&["--topic", "t ", "--", "--topic", "t "], &["--topic", "t", "--", "--topic", "t "]),
        ] {
            assert_eq!(trimmed(arguments), expected, "{arguments:?}");
        }
        let bytes = [OsStr::from_bytes(b"--topic=\xff \n").to_owned()];
        assert_eq!(trimmed_values(&command, &bytes), [OsStr::from_bytes(b"--topic=\xff")]);
    }
}

//! The errors of a command line, each as one line.
//!
//! Promises: a line names what is wrong, and the way out. It shows no value that may be a secret.

use std::{collections::HashMap, ffi::OsString, num::ParseIntError, os::unix::ffi::OsStrExt};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{exit::UsageError, flag_order::takes_value};

/// Flags whose values may hold a secret, so errors do not show them. Their reasons name the part that is wrong.
const NOT_SHOWN: [&str; 2] = ["kafka-property", "brokers"];

/// Whether a value was refused that is not UTF-8. clap shows it with replacement characters.
pub(super) fn is_about_bytes(error: &clap::Error) -> bool {
    let is_replaced = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.contains(char::REPLACEMENT_CHARACTER),
        _ => false,
    };
    error.kind() == ErrorKind::InvalidUtf8
        || is_replaced(ContextKind::InvalidValue)
        || is_replaced(ContextKind::InvalidSubcommand)
}

/// What may be shown of an argument that is no flag and no command: a property that was given without its flag may have
/// a secret behind the equals sign.
fn without_value(argument: &str) -> String {
    match argument.split_once('=') {
        Some((name, _)) => format!("{name}=…"),
        None => argument.to_owned(),
    }
}

/// Whether a value may be shown. An address with a user has a password, too.
fn is_shown(long: &str, value: &str) -> bool {
    !NOT_SHOWN.contains(&long) && !value.contains('@')
}

/// The error of clap names neither the argument nor its value.
pub(super) fn not_utf8(command: &Command, arguments: &[OsString], variables: &HashMap<String, String>) -> UsageError {
    let wrong = arguments.iter().enumerate().filter(|(_, argument)| argument.to_str().is_none());
    let shown = wrong.map(|(at, argument)| {
        let bytes = argument.as_bytes();
        let (start, end) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
            None => (bytes, None),
        };
        let joined = start.strip_prefix(b"--").zip(end).and_then(|(name, value)| {
            str::from_utf8(name).ok().filter(|name| takes_value(command, name).is_some()).map(|name| (name, value))
        });
        let before = arguments[..at].last().and_then(|before| before.to_str()?.strip_prefix("--"));
        let flag = joined.or(before.filter(|name| takes_value(command, name) == Some(true)).map(|name| (name, bytes)));
        match flag {
            Some((long, value)) => {
                let setting = variables.get(long).cloned().unwrap_or_else(|| format!("--{long}"));
                if is_shown(long, &String::from_utf8_lossy(value)) {
                    format!("{setting}: \"{}\"", value.escape_ascii())
                } else {
                    setting
                }
            }
            None if end.is_some() => format!("an argument: \"{}=…\"", start.escape_ascii()),
            None => format!("an argument: \"{}\"", start.escape_ascii()),
        }
    });
    let shown: Vec<_> = shown.collect();
    UsageError(format!("{}: must be UTF-8; only paths may have other bytes", shown.join(", ")))
}

/// The name of a flag as clap shows it: `--partitions <COUNT>`.
fn long_of(shown: &str) -> &str {
    shown.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default()
}

/// The variable that set a flag, or the flag.
fn with_variable(shown: String, variables: &HashMap<String, String>) -> String {
    variables.get(long_of(&shown)).cloned().unwrap_or(shown)
}

/// A command line that clap refused.
pub(super) struct Refused<'a> {
    pub error: &'a clap::Error,
    pub root: &'a Command,
    /// The command that was found.
    pub innermost: &'a Command,
    pub whole: &'a [OsString],
}

impl Refused<'_> {
    fn text(&self, kind: ContextKind) -> Option<String> {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        }
    }

    fn possible(&self) -> Option<String> {
        let values = self.text(ContextKind::ValidValue).filter(|values| !values.is_empty());
        values.map(|values| format!("must be one of {values}"))
    }

    /// How the help of the command is shown.
    fn help(&self) -> String {
        let words = self.whole.iter().skip(1).scan(self.root, |command, word| {
            *command = command.find_subcommand(word)?;
            Some(command.get_name())
        });
        ["changelogd"].into_iter().chain(words).chain(["--help"]).collect::<Vec<_>>().join(" ")
    }

    /// One line with setting, value and reason.
    pub fn usage(&self, variables: &HashMap<String, String>) -> UsageError {
        let setting = self.text(ContextKind::InvalidArg);
        let value = self.text(ContextKind::InvalidValue);
        match (self.error.kind(), setting, value) {
            (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand, ..) => {
                UsageError(format!("a command is required; see `{}`", self.help()))
            }
            (ErrorKind::InvalidSubcommand, ..) => {
                let name = self.text(ContextKind::InvalidSubcommand).unwrap_or_default();
                UsageError(format!("{}: no such command; see `{}`", without_value(&name), self.help()))
            }
            (ErrorKind::UnknownArgument, Some(argument), _) => self.unknown(&argument),
            (ErrorKind::MissingRequiredArgument, Some(setting), _) => UsageError(format!("{setting}: is required")),
            (ErrorKind::InvalidValue, Some(setting), Some(value)) if value.is_empty() && self.possible().is_none() => {
                UsageError(format!("{}: a value is required", with_variable(setting, variables)))
            }
            (_, Some(setting), Some(value)) => {
                let reason = std::error::Error::source(self.error).map(|reason| match reason.downcast_ref() {
                    Some(ParseIntError { .. }) => "must be a whole number".to_owned(),
                    None => reason.to_string(),
                });
                let reason = reason.or_else(|| self.possible());
                let reason = reason.unwrap_or_else(|| "is not a valid value".to_owned());
                let is_shown = is_shown(long_of(&setting), &value);
                let setting = with_variable(setting, variables);
                if is_shown {
                    UsageError::value(&setting, &value, reason)
                } else {
                    UsageError(format!("{setting}: {reason}"))
                }
            }
            _ => {
                let rendered = self.error.render().to_string();
                let line = rendered.lines().next().unwrap_or_default();
                UsageError(line.trim_start_matches("error: ").to_owned())
            }
        }
    }

    /// An argument that the command does not have.
    fn unknown(&self, argument: &str) -> UsageError {
        let (command, help) = (self.innermost.get_name(), self.help());
        let long = argument.strip_prefix("--");
        if long.is_some_and(|long| takes_value(self.root, long).is_some()) {
            return UsageError(format!("{argument}: `{command}` has no such flag; see `{help}`"));
        }
        if long.is_some() {
            return UsageError(format!("{argument}: no such flag; see --help"));
        }
        if argument.starts_with('-') {
            // The parser takes it for a flag, and it may be meant as the value of the flag before it.
            let before = self.whole.windows(2).filter(|pair| pair[1].to_str().is_some_and(|a| a.starts_with(argument)));
            let mut before = before.filter_map(|pair| pair[0].to_str()?.strip_prefix("--"));
            let flag = before.rfind(|long| takes_value(self.root, long) == Some(true));
            return UsageError(match flag {
                Some(long) => format!("--{long}: a value that begins with a dash is given as --{long}=VALUE"),
                None => format!("{argument}: no such flag; see --help"),
            });
        }
        UsageError(format!("{}: `{command}` takes no such argument; see `{help}`", without_value(argument)))
    }
}

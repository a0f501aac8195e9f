//! The errors of a command line, each as one line.
//!
//! Promises: a line names what is wrong, and the way out. It shows no value that may be a secret.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    num::ParseIntError,
    os::unix::ffi::OsStrExt,
};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    exit::UsageError,
    flag_order::takes_value,
    kafka::{is_property_name, may_be_shown},
};

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

/// Whether a word is the name of a command, at any depth.
fn is_command(command: &Command, word: &str) -> bool {
    command.get_subcommands().any(|inner| inner.get_name() == word || is_command(inner, word))
}

/// An argument that may be shown, without what stands behind its equals sign: a command, a flag, or the name of a flag
/// or of a property. Any other word may be a secret that was meant as a value.
fn shown_argument(root: &Command, argument: &str) -> Option<String> {
    /// More than the longest flag.
    const MAX: usize = 60;
    let (name, has_value) = argument.split_once('=').map_or((argument, false), |(name, _)| (name, true));
    let long = name.strip_prefix("--");
    let is_shown = match long {
        // It may be misspelt. PEM also begins with dashes.
        Some(long) => long.len() <= MAX && long.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '.')),
        None => takes_value(root, name).is_some() || is_property_name(name) || !has_value && is_command(root, name),
    };
    is_shown.then(|| if has_value { format!("{name}=…") } else { name.to_owned() })
}

/// The place of an argument that is not shown. clap names a flag without its value.
fn place_of(arguments: &[OsString], argument: &OsStr) -> String {
    let is_it = |given: &OsString| {
        let rest = given.as_bytes().strip_prefix(argument.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    };
    let place = arguments.iter().rposition(is_it).filter(|place| *place > 0);
    let place = place.map_or("an argument".to_owned(), |place| format!("argument {place}"));
    format!("{place} (not shown, as it may be a secret)")
}

/// The error of clap names neither the argument nor its value.
pub(super) fn not_utf8(
    command: &Command,
    arguments: &[OsString],
    whole: &[OsString],
    variables: &HashMap<String, String>,
) -> UsageError {
    let wrong = whole.iter().enumerate().filter(|(_, argument)| argument.to_str().is_none());
    let shown = wrong.map(|(at, argument)| {
        let bytes = argument.as_bytes();
        let (start, end) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
            None => (bytes, None),
        };
        let joined = start.strip_prefix(b"--").zip(end).and_then(|(name, value)| {
            str::from_utf8(name).ok().filter(|name| takes_value(command, name).is_some()).map(|name| (name, value))
        });
        let before = whole[..at].last().and_then(|before| before.to_str()?.strip_prefix("--"));
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
            None => {
                let name = end.and_then(|_| shown_argument(command, str::from_utf8(start).ok()?));
                name.map_or_else(|| place_of(arguments, argument), |name| format!("{name}=…"))
            }
        }
    });
    let shown: Vec<_> = shown.collect();
    UsageError(format!("{}: must be UTF-8; only paths may have other bytes", shown.join(", ")))
}

fn is_shown(long: &str, value: &str) -> bool {
    !NOT_SHOWN.contains(&long) && may_be_shown(value)
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
    /// The command line, without the flags that variables set.
    pub arguments: &'a [OsString],
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
                let shown = if self.is_misspelt_command(&name) { name } else { self.shown(&name) };
                UsageError(format!("{shown}: no such command; see `{}`", self.help()))
            }
            (ErrorKind::UnknownArgument, Some(argument), _) => self.unknown(&argument),
            (ErrorKind::MissingRequiredArgument, Some(setting), _) => UsageError(format!("{setting}: is required")),
            (ErrorKind::TooManyValues, Some(setting), _) => {
                let long = long_of(&setting);
                UsageError(format!("--{long}: takes no value: give --{long} alone, or leave it out"))
            }
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
                let is_shown = !NOT_SHOWN.contains(&long_of(&setting));
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

    /// Whether it is near to the name of a command, so that it is certainly meant as one. clap also suggests a command
    /// that is the beginning of a longer text.
    fn is_misspelt_command(&self, name: &str) -> bool {
        const MAX_MORE: usize = 2;
        let Some(ContextValue::Strings(near)) = self.error.get(ContextKind::SuggestedSubcommand) else { return false };
        let is_word = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_word && near.iter().any(|command| command.len().abs_diff(name.len()) <= MAX_MORE)
    }

    /// The argument without its value, or its place.
    fn shown(&self, argument: &str) -> String {
        shown_argument(self.root, argument).unwrap_or_else(|| place_of(self.arguments, argument.as_ref()))
    }

    /// An argument that the command does not have.
    fn unknown(&self, argument: &str) -> UsageError {
        let (command, help) = (self.innermost.get_name(), self.help());
        let long = argument.strip_prefix("--");
        if long.is_some_and(|long| takes_value(self.root, long).is_some()) {
            return UsageError(format!("{argument}: `{command}` has no such flag; see `{help}`"));
        }
        if let Some(shown) = long.and_then(|_| shown_argument(self.root, argument)) {
            return UsageError(format!("{shown}: no such flag; see --help"));
        }
        if argument.starts_with('-') {
            // The parser takes it for a flag, and it may be meant as the value of the flag before it.
            let before = self.whole.windows(2).filter(|pair| pair[1].to_str().is_some_and(|a| a.starts_with(argument)));
            let mut before = before.filter_map(|pair| pair[0].to_str()?.strip_prefix("--"));
            let flag = before.rfind(|long| takes_value(self.root, long) == Some(true));
            return UsageError(match flag {
                Some(long) => format!("--{long}: a value that begins with a dash is given as --{long}=VALUE"),
                // clap names one letter of several.
                None if long.is_none() => format!("{argument}: no such flag; see --help"),
                None => format!("{}: no such flag; see --help", self.shown(argument)),
            });
        }
        UsageError(format!("{}: `{command}` takes no such argument; see `{help}`", self.shown(argument)))
    }
}

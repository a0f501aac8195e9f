//! The parser of the command line, which reads environment variables as flags.
//!
//! Every flag `--some-flag` is also the variable `CHANGELOGD_SOME_FLAG`. A few flags have a second variable, which
//! deployments of the predecessor set. A flag wins over a variable.
//!
//! clap's own support for environment variables is not used, for three reasons. It allows one name for each flag. It
//! reads the environment of the process, which tests must not change. It reports a bad value under the name of the
//! flag.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
};

use clap::{ArgAction, Command, error::ErrorKind, parser::ValueSource};

use super::{
    environment::{Environment, variable},
    exit::{Exit, UsageError},
    refused::{Refused, is_about_bytes, not_utf8},
    renamed::refuse_old_names,
    white_space::trimmed_values,
};

/// Variables that deployments of the predecessor set, by flag.
const ALIASES: [(&str, &str); 3] =
    [("brokers", "KAFKA_BROKERS"), ("topic", "KAFKA_CHANGELOG_TOPIC"), ("group-id", "KAFKA_CHANGELOG_GROUP_ID")];

/// Flags whose value may have several lines. Its parser splits it.
const TEXTS: [&str; 1] = ["kafka-property"];

/// Flags that all commands of the client have. In a container that also serves, their variables are no mistake.
const CLIENT: [&str; 3] = ["addr", "timeout", "output"];

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable of this name.
    Variable(String),
    /// The properties file.
    PropertiesFile,
    /// The default of the flag.
    Default,
}

/// A parsed command line, with the values of the environment.
#[derive(Debug)]
pub struct Parsed {
    /// The result of clap.
    pub matches: clap::ArgMatches,
    /// Flags (without dashes) that a variable set, and the name of the variable.
    pub variables: HashMap<String, String>,
    /// Variables with the prefix `CHANGELOGD_` that are no flag of this command.
    pub unknown: Vec<String>,
}

impl Parsed {
    /// Where the value of a flag came from.
    pub fn origin(&self, long: &str, given: bool) -> Origin {
        match self.variables.get(long) {
            Some(name) => Origin::Variable(name.clone()),
            None if given => Origin::Flag,
            None => Origin::Default,
        }
    }
}

/// Parses a command line, with the environment's values for flags that it does not give.
pub fn parse(command: &Command, arguments: &[OsString], environment: &impl Environment) -> Result<Parsed, Exit> {
    // A first pass over the command line alone finds the command and the flags that are given.
    let first = command.clone().ignore_errors(true).try_get_matches_from(arguments);
    let mut given = first.as_ref().ok();
    let (mut innermost, mut depth) = (command, 1);
    while let Some((name, matches)) = given.and_then(|m| m.subcommand()) {
        let Some(inner) = innermost.find_subcommand(name) else { break };
        (innermost, given, depth) = (inner, Some(matches), depth + 1);
    }
    let on_command_line = |id: &str| {
        given.is_some_and(|m| m.try_contains_id(id).is_ok() && m.value_source(id) == Some(ValueSource::CommandLine))
    };

    let (mut inserted, mut variables) = (Vec::<OsString>::new(), HashMap::new());
    for arg in innermost.get_arguments() {
        let Some(long) = arg.get_long().filter(|l| !["help", "version"].contains(l)) else { continue };
        if on_command_line(arg.get_id().as_str()) {
            continue;
        }
        let names = std::iter::once(variable(long))
            .chain(ALIASES.iter().filter(|(flag, _)| *flag == long).map(|(_, name)| (*name).to_owned()));
        let set = names.into_iter().find_map(|name| Some((environment.value(&name)?, name)));
        let Some((value, name)) = set else { continue };
        match (arg.get_action(), value.to_str()) {
            (ArgAction::SetTrue, Some("true" | "1")) => inserted.push(format!("--{long}").into()),
            (ArgAction::SetTrue, Some("false" | "0")) => continue,
            (ArgAction::SetTrue, _) => {
                return Err(UsageError::value(&name, &value.to_string_lossy(), "must be true or false").into());
            }
            (ArgAction::Append, Some(lines)) if !TEXTS.contains(&long) => {
                inserted.extend(lines.lines().map(|line| format!("--{long}={line}").into()));
            }
            // The parser refuses bytes that are not UTF-8, unless it is a path.
            _ => inserted.push([OsStr::new("--"), OsStr::new(long), OsStr::new("="), &value].into_iter().collect()),
        }
        variables.insert(long.to_owned(), name);
    }
    let unknown = unknown_names(innermost, environment);
    let at = depth.min(arguments.len());
    let own = trimmed_values(innermost, &arguments[at..]);
    let whole = [&arguments[..at], &inserted, &own].concat();
    let result = command.clone().try_get_matches_from(&whole);
    let is_help = |e: &clap::Error| matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !result.as_ref().is_err_and(is_help) {
        refuse_old_names(innermost, arguments, environment)?;
    }
    match result {
        Ok(matches) => Ok(Parsed { matches, variables, unknown }),
        Err(error) if is_help(&error) => Err(Exit::Help(error.render().to_string())),
        Err(error) if is_about_bytes(&error) && whole.iter().any(|argument| argument.to_str().is_none()) => {
            Err(not_utf8(command, arguments, &whole, &variables).into())
        }
        Err(error) => {
            let refused = Refused { error: &error, root: command, innermost, whole: &whole, arguments };
            Err(refused.usage(&variables).into())
        }
    }
}

/// Kubernetes sets variables like these for a Service with the name `changelogd`. They are not a mistake.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix("CHANGELOGD_").unwrap_or_default();
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

fn unknown_names(command: &Command, environment: &impl Environment) -> Vec<String> {
    let known: Vec<_> = command.get_arguments().filter_map(|a| a.get_long().map(variable)).collect();
    let is_known = |n: &String| known.contains(n) || CLIENT.iter().any(|flag| variable(flag) == *n);
    let ours = |n: &String| n.starts_with("CHANGELOGD_") && !is_service_link(n) && !is_known(n);
    let mut unknown: Vec<_> = environment.names().into_iter().filter(ours).collect();
    unknown.sort();
    unknown
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use clap::{Arg, value_parser};

    use super::*;

    fn command() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name);
        Command::new("c").subcommand_required(true).subcommand(
            Command::new("serve")
                .arg(flag("brokers").default_value("b0"))
                .arg(flag("partitions").value_parser(value_parser!(u8)))
                .arg(flag("insecure-listen").action(ArgAction::SetTrue))
                .arg(flag("types").action(ArgAction::Append))
                .arg(flag("kafka-property").action(ArgAction::Append)),
        )
    }

    fn with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, String> {
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        let variables: HashMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(&command(), &arguments, &variables).map_err(|exit| match exit {
            Exit::Help(text) => text,
            Exit::Usage(error) => error.to_string(),
        })
    }

    fn brokers(parsed: &Parsed) -> String {
        parsed.matches.subcommand().unwrap().1.get_one::<String>("brokers").unwrap().clone()
    }

    /// Covers C62.
    #[test]
    fn a_flag_wins_over_its_variable_and_the_variable_over_the_older_name() {
        let both = [("CHANGELOGD_BROKERS", "b1"), ("KAFKA_BROKERS", "b2")];
        assert_eq!(brokers(&with(&["c", "serve"], &[]).unwrap()), "b0");
        assert_eq!(brokers(&with(&["c", "serve"], &both[1..]).unwrap()), "b2");
        assert_eq!(brokers(&with(&["c", "serve"], &both).unwrap()), "b1");
        let flagged = with(&["c", "serve", "--brokers", "b3"], &both).unwrap();
        assert_eq!(brokers(&flagged), "b3");
        assert_eq!(flagged.origin("brokers", true), Origin::Flag);
        for empty in ["", " ", "\n", "\u{a0}"] {
            assert_eq!(brokers(&with(&["c", "serve"], &[("KAFKA_BROKERS", empty)]).unwrap()), "b0");
            let parsed = with(&["c", "serve"], &[("CHANGELOGD_BROKERS", empty), both[1]]).unwrap();
            assert_eq!(brokers(&parsed), "b2");
            assert_eq!(parsed.origin("brokers", true), Origin::Variable("KAFKA_BROKERS".to_owned()));
        }
    }

    /// Covers C69, B24.
    #[test]
    fn errors_name_setting_value_and_reason_in_one_line() {
        let flag = with(&["c", "serve", "--partitions", "x"], &[]).unwrap_err();
        assert!(flag.contains("--partitions") && flag.contains("\"x\"") && flag.contains("a whole number"), "{flag}");
        let variable = with(&["c", "serve"], &[("CHANGELOGD_PARTITIONS", "300")]).unwrap_err();
        assert!(variable.starts_with("CHANGELOGD_PARTITIONS: \"300\": "), "{variable}");
        let unknown = with(&["c", "serve", "--nope"], &[]).unwrap_err();
        assert!(unknown.starts_with("--nope: "), "{unknown}");
        let boolean = with(&["c", "serve"], &[("CHANGELOGD_INSECURE_LISTEN", "maybe")]).unwrap_err();
        assert!(boolean.contains("CHANGELOGD_INSECURE_LISTEN") && boolean.contains("maybe"), "{boolean}");
        for line in [flag, variable, unknown, boolean] {
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    /// Covers C69.
    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_setting_unless_it_is_a_path() {
        let command = Command::new("c").subcommand(
            Command::new("serve")
                .arg(Arg::new("topic").long("topic"))
                .arg(Arg::new("brokers").long("brokers"))
                .arg(Arg::new("dir").long("dir").value_parser(value_parser!(std::path::PathBuf)))
                .arg(Arg::new("key")),
        );
        let with = |arguments: &[&[u8]]| {
            let arguments: Vec<_> = arguments.iter().map(|a| OsStr::from_bytes(a).to_owned()).collect();
            parse(&command, &arguments, &HashMap::<String, String>::new())
        };
        assert!(with(&[b"c", b"serve", b"--dir=\xff", b"k"]).is_ok());
        for (arguments, expected) in [
            (&[&b"c"[..], b"serve", b"--topic=a\xff"][..], "--topic: \"a\\xff\": "),
            (&[b"c", b"serve", b"--topic", b"\xff"], "--topic: \"\\xff\": "),
            (&[b"c", b"serve", b"\xff"], "argument 2 (not shown, as it may be a secret): "),
            (&[b"c", b"serve", b"hunter\xff"], "argument 2 (not shown, as it may be a secret): "),
            (&[b"c", b"serve", b"hunter2=\xff"], "argument 2 (not shown, as it may be a secret): "),
            (&[b"c", b"serve", b"brokers=hunter\xff"], "brokers=…: "),
            (&[b"c", b"serve", b"--topic=sasl.password=hunter\xff"], "--topic: must be"),
            // It may be a secret.
            (&[b"c", b"serve", b"--brokers=hunter\xff"], "--brokers: must be"),
            (&[b"c", b"serve", b"--brokers", b"hunter\xff"], "--brokers: must be"),
        ] {
            let Err(Exit::Usage(error)) = with(arguments) else { panic!("{arguments:?}") };
            assert!(error.to_string().starts_with(expected) && error.to_string().contains("UTF-8"), "{error}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    /// Covers C62.
    #[test]
    fn a_list_variable_takes_one_value_per_line_and_one_of_properties_is_a_text() {
        let set = [("CHANGELOGD_KAFKA_PROPERTY", "a=1\nb=2,3\n"), ("CHANGELOGD_TYPES", "t\r\nu\n")];
        let parsed = with(&["c", "serve"], &set).unwrap();
        let values = |id: &str| -> Vec<_> {
            parsed.matches.subcommand().unwrap().1.get_many::<String>(id).unwrap().cloned().collect()
        };
        assert_eq!(values("types"), ["t", "u"]);
        assert_eq!(values("kafka-property"), ["a=1\nb=2,3"]);
    }

    /// Covers C62, B24.
    #[test]
    fn white_space_around_a_variable_does_not_count() {
        for space in ["\n", "\r\n", " ", "\t", "\u{a0}", "\n\n"] {
            let value = |text: &str| format!("{space}{text}{space}");
            let set = [
                ("KAFKA_BROKERS", value("b1")),
                ("CHANGELOGD_PARTITIONS", value("7")),
                ("CHANGELOGD_INSECURE_LISTEN", value("true")),
            ];
            let set: Vec<_> = set.iter().map(|(name, value)| (*name, &**value)).collect();
            let parsed = with(&["c", "serve"], &set).unwrap();
            let matches = parsed.matches.subcommand().unwrap().1;
            assert_eq!(brokers(&parsed), "b1");
            assert_eq!(matches.get_one::<u8>("partitions"), Some(&7));
            assert!(matches.get_flag("insecure-listen"));
            assert_eq!(brokers(&with(&["c", "serve"], &[("KAFKA_BROKERS", space)]).unwrap()), "b0");
            // The reason for a bad value shows the value as it was parsed.
            let error = with(&["c", "serve"], &[("CHANGELOGD_PARTITIONS", &value("x"))]).unwrap_err();
            assert!(error.starts_with("CHANGELOGD_PARTITIONS: \"x\": "), "{error}");
        }
    }

    /// Covers S12.
    #[test]
    fn an_error_of_brokers_or_properties_does_not_show_the_value() {
        let refuse = |_: &str| Err::<String, _>("line 2: must be name=value");
        let flag = |name: &'static str| Arg::new(name).long(name).value_parser(refuse);
        let command = Command::new("c").subcommand(
            Command::new("serve").arg(flag("brokers")).arg(flag("kafka-property").action(ArgAction::Append)),
        );
        for (name, variable) in [("brokers", "KAFKA_BROKERS"), ("kafka-property", "CHANGELOGD_KAFKA_PROPERTY")] {
            let secret = "a\nhunter2";
            let arguments: [OsString; 3] = ["c".into(), "serve".into(), format!("--{name}={secret}").into()];
            let error = format!("{:?}", parse(&command, &arguments, &HashMap::<String, String>::new()).unwrap_err());
            assert!(error.contains(&format!("--{name}")) && error.contains("line 2"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            let set = HashMap::from([(variable.to_owned(), secret.to_owned())]);
            let error = format!("{:?}", parse(&command, &arguments[..2], &set).unwrap_err());
            assert!(error.contains(variable) && !error.contains("hunter2"), "{error}");
        }
    }

    /// Covers S12, C69.
    #[test]
    fn an_argument_is_shown_only_if_it_is_a_word_that_can_be_no_secret() {
        let hidden = |place: usize| format!("argument {place} (not shown, as it may be a secret): ");
        for (arguments, expected) in [
            (&["c", "serve", "hunter2"][..], hidden(2)),
            (&["c", "serve", "--kafka-property", "sasl.password", "hunter2"], hidden(4)),
            (&["c", "serve", "sasl.password:hunter2"], hidden(2)),
            (&["c", "serve", "sasl.password hunter2"], hidden(2)),
            (&["c", "serve", "--brokers=b", "hunter2", "--partitions=1"], hidden(3)),
            (&["c", "serve", "aHVudGVyMg=="], hidden(2)),
            (&["c", "serve", "hunter2=x"], hidden(2)),
            (&["c", "serve", "--", "hunter2"], hidden(3)),
            (&["c", "serve", "serve"], "serve: `serve` takes no such argument".to_owned()),
            (&["c", "serve", "partitions"], "partitions: `serve` takes no such argument".to_owned()),
            (&["c", "serve", "partitions=hunter2"], "partitions=…: `serve` takes no such argument".to_owned()),
            (&["c", "hunter2"], hidden(1)),
            (&["c", "Serve2"], hidden(1)),
            (&["c", "serve hunter2"], hidden(1)),
            (&["c", "serve=hunter2"], hidden(1)),
            (&["c", "servehunter"], hidden(1)),
            (&["c", "serv"], "serv: no such command".to_owned()),
            (&["c", "serve", "--hunter2"], hidden(2)),
            (&["c", "serve", "--Hunter=hunter2"], hidden(2)),
            (&["c", "serve", "-----BEGIN PRIVATE KEY-----\nhunter2"], hidden(2)),
            (&["c", "serve", "--broker=hunter2"], "--broker: no such flag".to_owned()),
            (&["c", "serve", "--sasl.password=hunter2"], "--sasl.password: no such flag".to_owned()),
        ] {
            for variables in [&[][..], &[("CHANGELOGD_TYPES", "t")]] {
                let error = with(arguments, variables).unwrap_err();
                assert!(error.starts_with(&expected), "{arguments:?}: {error}");
                let is_hidden = ["hunter", "aHVud", "KEY"].iter().all(|secret| !error.contains(secret));
                assert!(is_hidden && error.contains("--help") && error.lines().count() == 1, "{arguments:?}: {error}");
            }
        }
    }

    /// Covers S12, B24.
    #[test]
    fn a_property_in_the_place_of_a_value_is_not_shown() {
        for secret in [
            "sasl.password=hunter2",
            "SASL.PASSWORD = hunter2",
            "sasl.pasword=hunter2",
            "sasl.password:hunter2",
            "sasl.password hunter2",
            "security.protocol=SASL_SSL\nsasl.password=hunter2",
            "-----BEGIN PRIVATE KEY-----\nhunter2",
            "https://user:hunter2@host",
            "https://host/?code=hunter2",
        ] {
            let joined = format!("--partitions={secret}");
            for (arguments, variables, setting) in [
                (&["c", "serve", "--partitions", secret][..], &[][..], "--partitions"),
                (&["c", "serve", &joined], &[], "--partitions"),
                (&["c", "serve"], &[("CHANGELOGD_PARTITIONS", secret)], "CHANGELOGD_PARTITIONS"),
                (&["c", "serve"], &[("CHANGELOGD_INSECURE_LISTEN", secret)], "CHANGELOGD_INSECURE_LISTEN"),
            ] {
                let error = with(arguments, variables).unwrap_err();
                assert!(error.starts_with(setting) && !error.contains("hunter2"), "{secret}: {error}");
                assert!(error.contains("must be ") || error.contains("begins with a dash"), "{secret}: {error}");
            }
        }
    }

    /// Covers C69.
    #[test]
    fn a_flag_without_a_value_that_has_one_is_refused_with_the_way_out() {
        for argument in [
            "--insecure-listen=yes",
            "--insecure-listen=true",
            "--insecure-listen=false",
            "--insecure-listen=",
            "--insecure-listen=hunter2",
        ] {
            let error = with(&["c", "serve", argument], &[]).unwrap_err();
            let expected = "--insecure-listen: takes no value: give --insecure-listen alone, or leave it out";
            assert_eq!(error, expected, "{argument}");
        }
    }

    /// Covers C62, B24.
    #[test]
    fn unknown_variables_are_found_except_those_of_a_kubernetes_service() {
        let parsed = with(
            &["c", "serve"],
            &[
                ("CHANGELOGD_PARTITION", "1"),
                ("CHANGELOGD_PORT", "tcp://10.0.0.1:1"),
                ("CHANGELOGD_SERVICE_HOST", "10.0.0.1"),
            ],
        );
        assert_eq!(parsed.unwrap().unknown, ["CHANGELOGD_PARTITION"]);
    }
}

use std::collections::HashMap;

use clap::Args;

use super::*;
use crate::config::{Exit, ServeArgs, parse};

/// A command with the flags of `serve`, and a client's without them.
fn command() -> Command {
    let serve = ServeArgs::augment_args(Command::new("serve"));
    Command::new("c").subcommand(serve).subcommand(Command::new("get"))
}

/// The error of a command line with variables, or the help that it asks for.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
    let variables: HashMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match parse(&command(), &arguments, &variables) {
        Ok(_) => String::new(),
        Err(Exit::Help(help)) => format!("help: {help}"),
        Err(Exit::Usage(error)) => error.to_string(),
    }
}

#[test]
fn every_new_name_is_a_flag_of_serve_and_no_old_name_is() {
    let command = command();
    let serve = command.find_subcommand("serve").unwrap();
    let flags: Vec<_> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
    for (old, new) in RENAMED {
        assert!(flags.contains(&new), "{new}");
        assert!(!flags.contains(&old), "{old}");
    }
}

#[test]
fn every_old_flag_is_refused_with_its_new_name() {
    for (old, new) in RENAMED {
        let expected = format!("--{old}: renamed to --{new}");
        let (flag, with_value, without) = (format!("--{old}"), format!("--{old}=1"), format!("--{old}="));
        let after_new = format!("--{new}=1");
        for arguments in [
            &["c", "serve", &flag, "1"][..],
            &["c", "serve", &with_value],
            &["c", "serve", &flag],
            &["c", "serve", &without],
            &["c", "serve", &after_new, &with_value],
            &["c", "serve", "--partitions=0", &with_value],
            &["c", "serve", &with_value, "--help"],
        ] {
            assert_eq!(refusal(arguments, &[]), expected, "{arguments:?}");
        }
    }
}

#[test]
fn every_old_variable_is_refused_with_its_new_name_also_an_empty_one() {
    for (old, new) in RENAMED {
        let (old_variable, new_variable) = (variable(old), variable(new));
        let expected = format!("{old_variable}: renamed to {new_variable}");
        for value in ["1", "", "no number"] {
            assert_eq!(refusal(&["c", "serve"], &[(&old_variable, value)]), expected);
            let new_flag = format!("--{new}=1");
            assert_eq!(refusal(&["c", "serve", &new_flag], &[(&old_variable, value)]), expected);
            let both = [(&*old_variable, value), (&*new_variable, "1")];
            assert_eq!(refusal(&["c", "serve"], &both), expected);
        }
    }
}

#[test]
fn all_old_names_in_use_stand_in_one_line() {
    let line = refusal(&["c", "serve", "--max-follows=1"], &[("CHANGELOGD_REPLAY_BUDGET", "1")]);
    let expected = "--max-follows: renamed to --max-following-streams; \
                    CHANGELOGD_REPLAY_BUDGET: renamed to CHANGELOGD_REPLAY_MEMORY";
    assert_eq!(line, expected);
}

#[test]
fn commands_without_the_flag_and_the_help_ignore_the_table() {
    let variables = [("CHANGELOGD_MAX_FOLLOWS", "1")];
    assert_eq!(refusal(&["c", "get"], &variables), "");
    assert_eq!(refusal(&["c", "get", "--max-follows=1"], &[]), "--max-follows: no such flag; see --help");
    assert!(refusal(&["c", "serve", "--help"], &variables).starts_with("help: "));
    // The old name as a value, or as a part of another name.
    assert_eq!(refusal(&["c", "serve", "--topic=--max-follows"], &[]), "");
    assert_eq!(refusal(&["c", "serve", "--max-follows-x"], &[]), "--max-follows-x: no such flag; see --help");
    assert_eq!(refusal(&["c", "serve"], &[("CHANGELOGD_MAX_FOLLOWS_X", "1"), ("MAX_FOLLOWS", "1")]), "");
}

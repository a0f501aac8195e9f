//! `changelogd config`.

use std::{
    io::{IsTerminal, Write, stdout},
    process::ExitCode,
};

use serde_json::json;

use super::{is_given, refuse};
use crate::config::{Origin, Parsed, ServeArgs};

pub fn run(args: &ServeArgs, parsed: &Parsed) -> ExitCode {
    if let Err(error) = args.check() {
        return refuse(&error);
    }
    let settings = args.settings(|name| parsed.origin(name, is_given(parsed, name)), crate::kafka::is_secret);
    let terminal = stdout().is_terminal();
    let width = settings.iter().map(|s| s.name.len()).max().unwrap_or_default();
    for setting in settings {
        let origin = match setting.origin {
            Origin::Flag => "flag".to_owned(),
            Origin::Variable(name) => name,
            Origin::Default => "default".to_owned(),
        };
        let line = if terminal {
            format!("{:width$}  {}  ({origin})", setting.name, setting.value.replace('\n', ", "))
        } else {
            json!({"setting": setting.name, "value": setting.value, "source": origin}).to_string()
        };
        // A closed pipe is no failure: `| head` ends before the output does.
        if writeln!(stdout(), "{line}").is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

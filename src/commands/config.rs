//! `changelogd config`.

use std::{
    io::{IsTerminal, stdout},
    process::ExitCode,
};

use changelog_core::model::{Printable, PrintableJson};
use serde_json::json;

use super::start::{print, refuse};
use crate::{
    config::{Origin, Parsed, ServeArgs, Setting},
    open_files,
    store::{checked_properties_of_file, shown_property, shown_setting},
};

/// Whether a flag was given on the command line. Variables are inserted into the command line, so they look the same.
fn is_given(parsed: &Parsed, long: &str) -> bool {
    let id = long.replace('-', "_");
    parsed.matches.subcommand().is_some_and(|(_, m)| {
        m.try_contains_id(&id).is_ok() && m.value_source(&id) == Some(clap::parser::ValueSource::CommandLine)
    })
}

pub fn run(args: &ServeArgs, parsed: &Parsed) -> ExitCode {
    // As `serve` does, so that the same number of connections is shown. It says so if that is not possible.
    let _ = open_files::raise();
    let of_file = match args.check().and_then(|()| checked_properties_of_file(args)) {
        Ok(properties) => properties,
        Err(error) => return refuse(&error),
    };
    let mut settings = args.settings(|name| parsed.origin(name, is_given(parsed, name)), shown_property);
    for setting in &mut settings {
        setting.value = shown_setting(setting.name, &setting.value).to_owned();
    }
    if let Some(at) = settings.iter().position(|s| s.name == "kafka-properties-file").filter(|_| !of_file.is_empty()) {
        let value = of_file.join("\n");
        settings.insert(at + 1, Setting { name: "kafka-property", value, origin: Origin::PropertiesFile });
    }
    let terminal = stdout().is_terminal();
    let width = settings.iter().map(|s| s.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for setting in settings {
        let origin = match setting.origin {
            Origin::Flag => "flag".to_owned(),
            Origin::Variable(name) => name,
            Origin::PropertiesFile => "file".to_owned(),
            Origin::Default => "default".to_owned(),
        };
        let line = if terminal {
            let line = format!("{:width$}  {}  ({origin})", setting.name, setting.value.replace('\n', ", "));
            Printable(&line).to_string()
        } else {
            let object = json!({"setting": setting.name, "value": setting.value, "source": origin});
            PrintableJson(&object.to_string()).to_string()
        };
        text += &line;
        text.push('\n');
    }
    print(&text)
}

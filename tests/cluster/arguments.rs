//! The command line.

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Clone, Parser)]
pub struct Arguments {
    /// Only these cases
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Rolling restarts in each mode
    #[arg(long, default_value_t = 20)]
    pub rolls: u32,
    /// The file whose marked section gets the report, or which is the report if it has no such section
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// How the report says that it was made
    #[arg(long, default_value = "make cluster")]
    pub command: String,
    /// After the cases, leave the cluster running until ^C
    #[arg(long)]
    pub stay: bool,
    /// In the namespaces already; the program sets this itself
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// Whether `--only` names the case, or is absent. `roll` means `roll-native` and `roll-classic`.
pub fn is_wanted(only: &[String], case: &str) -> bool {
    only.is_empty() || only.iter().any(|only| case == only || case.starts_with(&format!("{only}-")))
}

//! The table of the cases, on the screen and as a section of a document.

use std::{fmt::Write as _, fs, path::Path, process::Command, thread, time::Duration};

const BEGIN: &str = "<!-- Written by `make cluster` from here on; not edited by hand. -->";
const END: &str = "<!-- The end of what `make cluster` writes. -->";

/// The command that runs everything.
const MAKE: &str = "make cluster";
/// In tests/cluster/kubernetes/go.mod.
const VERSION: &str = "1.34";

/// What was seen, with its figures; or what is wrong.
pub type Seen = Result<String, String>;

pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    pub seen: Seen,
    pub took: Duration,
}

impl Row {
    pub fn line(&self) -> String {
        let seen = self.seen.as_ref().map_or_else(|wrong| format!("FAILED: {wrong}"), Clone::clone);
        format!("{:<14} {:>6.1} s  {seen}", self.name, self.took.as_secs_f64())
    }
}

pub struct Report {
    /// When the cases begin: files may change until they end.
    commit: String,
    pub rows: Vec<Row>,
    /// Until the node was ready.
    pub started: Duration,
    pub took: Duration,
}

impl Report {
    pub fn begin(started: Duration) -> Self {
        Self { commit: commit(), rows: Vec::new(), started, took: started }
    }

    pub fn is_good(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.seen.is_ok())
    }

    pub fn verdict(&self) -> String {
        let failed: Vec<_> = self.rows.iter().filter(|row| row.seen.is_err()).map(|row| row.name).collect();
        let (count, took) = (self.rows.len(), minutes(self.took));
        if failed.is_empty() {
            format!("{count} cases passed in {took}.")
        } else {
            format!("{} of {count} cases failed in {took}: {}.", failed.len(), failed.join(", "))
        }
    }

    /// Replaces the marked section of a document, or the whole file if it has none.
    pub fn save(&self, path: &Path, command: &str) -> Result<(), String> {
        let wrong = |error| format!("{}: {error}", path.display());
        let document = fs::read_to_string(path).unwrap_or_default();
        let text = replaced(&document, &self.markdown(command));
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(wrong)?;
        }
        fs::write(path, text).map_err(wrong)
    }

    fn markdown(&self, command: &str) -> String {
        let mut text = format!(
            "Commit {}, {}, {} processors, Kubernetes {VERSION}. The node was ready after {:.0} s.\n{}\n\n",
            self.commit,
            jiff::Timestamp::now().strftime("%Y-%m-%d"),
            thread::available_parallelism().map_or(0, std::num::NonZero::get),
            self.started.as_secs_f64(),
            self.verdict(),
        );
        if command != MAKE {
            let _ = writeln!(text, "Not everything: `{command}`.\n");
        }
        text.push_str("| case | | seen | seconds |\n|---|---|---|--:|\n");
        for row in &self.rows {
            let seen = row.seen.as_ref().map_or_else(|wrong| format!("**failed**: {wrong}"), Clone::clone);
            let _ =
                writeln!(text, "| `{}` | {} | {} | {:.0} |", row.name, row.title, cell(&seen), row.took.as_secs_f64());
        }
        text
    }
}

/// The document with this text between the marks.
fn replaced(document: &str, text: &str) -> String {
    match (document.split_once(BEGIN), document.split_once(END)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{BEGIN}\n\n{text}\n{END}{after}"),
        _ => text.to_owned(),
    }
}

/// The commit of the measured files, and whether they differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    let with = if changes.is_empty() { "" } else { " with changes" };
    format!("{}{with}", git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned()))
}

fn minutes(took: Duration) -> String {
    format!("{} min {} s", took.as_secs() / 60, took.as_secs() % 60)
}

/// Text for a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, replaced};

    #[test]
    fn only_the_marked_section_is_replaced() {
        let document = format!("# a\n\n{BEGIN}\nold\n{END}\n\n## b\n");
        let expected = format!("# a\n\n{BEGIN}\n\nnew\n\n{END}\n\n## b\n");
        let once = replaced(&document, "new\n");
        assert_eq!(once, expected);
        assert_eq!(replaced(&once, "new\n"), expected);
        assert_eq!(replaced("", "new\n"), "new\n");
    }
}

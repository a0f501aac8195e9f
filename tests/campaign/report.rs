//! The campaign's table and sections, on the screen and as Markdown.

use std::{collections::BTreeMap, fmt::Write as _, process::Command, time::Duration};

use super::watchers::WatchCounts;

/// One fault's row.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub title: String,
    pub expected: String,
    /// What was seen. An error if that was not expected.
    pub seen: Result<String, String>,
    pub histories: u64,
    pub operations: u64,
    pub violations: u64,
    /// Keys for which the check did not decide whether they are violations.
    pub undecided: u64,
    pub lost: u64,
    pub incomplete: u64,
    pub watches: WatchCounts,
    /// Refusals that the clients met, by call and answer.
    pub refused: BTreeMap<String, u64>,
}

impl Row {
    pub fn is_good(&self) -> bool {
        self.seen.is_ok() && self.violations + self.undecided + self.lost + self.incomplete == 0
    }
}

#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    sections: Vec<(String, String)>,
    /// Failures outside the rows.
    failures: Vec<String>,
}

/// The facts in the head of the report.
#[derive(Debug, Clone)]
pub struct Facts {
    pub command: String,
    pub kafka: String,
    pub seed: u64,
    pub seconds: u64,
    pub took: Duration,
}

impl Report {
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// A section below the table. What it found wrong is reported with [`Report::failure`], too.
    #[allow(dead_code, reason = "for what is not a fault with a history")]
    pub fn section(&mut self, title: &str, markdown: &str) {
        self.sections.push((title.to_owned(), markdown.to_owned()));
    }

    /// Makes the campaign fail.
    #[allow(dead_code, reason = "for what is not a fault with a history")]
    pub fn failure(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }

    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.rows.iter().all(Row::is_good)
    }

    /// As Markdown.
    pub fn markdown(&self, facts: &Facts) -> String {
        let mut text = String::from("# Reliability\n\n");
        let _ = writeln!(
            text,
            "Written by `{}`; not edited by hand. It runs a real cluster: one controller and three brokers, each a \
             process. Topics have three replicas, of which two must acknowledge. Our own TCP proxies are between all \
             of them. Two sidecars serve twelve clients that set, delete, get, load and stream while a fault is \
             injected. Each history is checked with porcupine: each key is a register, and a write of unknown outcome \
             may happen at any time after its call, or never. Two more checks compare offsets. Six more clients watch \
             a workspace each. They break their calls at random after a bookmark, and resume at the other sidecar. \
             Their events must be ordered and unique, each state whole, and the last one complete.\n",
            facts.command
        );
        let _ = writeln!(text, "{}", facts.line());
        text.push_str(&self.table(true));
        let _ = writeln!(text, "\n{}\n", self.verdict());
        text.push_str("## Refusals that the clients met\n\nRefusals during the histories, by call and answer.\n\n");
        for row in self.rows.iter().filter(|row| !row.refused.is_empty()) {
            let told = row.refused.iter().map(|(what, count)| format!("{what} × {count}")).collect::<Vec<_>>();
            let _ = writeln!(text, "- **{}** {}", row.id, cell(&told.join("; ")));
        }
        for (title, markdown) in &self.sections {
            let _ = write!(text, "\n## {title}\n\n{}\n", markdown.trim_end());
        }
        let _ = write!(text, "\n## What is not shown, or does not hold\n\n{}", include_str!("limits.md"));
        text
    }

    /// For the screen.
    pub fn text(&self, facts: &Facts) -> String {
        let mut text = format!("\n{}", self.table(false));
        for (title, markdown) in &self.sections {
            let _ = write!(text, "\n{title}\n{}\n", markdown.trim_end());
        }
        let _ = writeln!(text, "\n{}{}", facts.line(), self.verdict());
        text
    }

    fn table(&self, whole: bool) -> String {
        let mut text = String::new();
        let (head, rule) = if whole { (" expected | seen |", "---|---|") } else { ("", "") };
        let _ = writeln!(
            text,
            "| fault | |{head} histories | operations | watched | violations | acknowledged writes lost | incomplete \
             loads that claimed to be whole |"
        );
        let _ = writeln!(text, "|---|---|{rule}---:|---:|---|---:|---:|---:|");
        for row in &self.rows {
            let seen = row.seen.as_ref().map_or_else(|wrong| format!("**not as expected**: {wrong}"), Clone::clone);
            let answers = if whole { format!(" {} | {} |", cell(&row.expected), cell(&seen)) } else { String::new() };
            let violations = match row.undecided {
                0 => row.violations.to_string(),
                keys => format!("{} ({keys} keys not decided)", row.violations),
            };
            let _ = writeln!(
                text,
                "| {} | {} |{answers} {} | {} | {} | {violations} | {} | {} |",
                row.id,
                cell(&row.title),
                row.histories,
                row.operations,
                row.watches,
                row.lost,
                row.incomplete
            );
        }
        let sum = |of: fn(&Row) -> u64| self.rows.iter().map(of).sum::<u64>();
        let answers = if whole { " | |" } else { "" };
        let _ = writeln!(
            text,
            "| **all** | |{answers} {} | {} | {} | {} | {} | {} |",
            sum(|r| r.histories),
            sum(|r| r.operations),
            self.rows.iter().map(|row| row.watches).sum::<WatchCounts>(),
            sum(|r| r.violations),
            sum(|r| r.lost),
            sum(|r| r.incomplete)
        );
        text
    }

    fn verdict(&self) -> String {
        if self.is_good() {
            return "Every fault was answered as expected; no violation, no acknowledged write lost, no incomplete load \
                    that claimed to be whole."
                .to_owned();
        }
        let bad = self.rows.iter().filter(|row| !row.is_good());
        let bad: Vec<_> = bad
            .map(|row| row.seen.as_ref().err().map_or_else(|| row.id.clone(), |wrong| format!("{} ({wrong})", row.id)))
            .collect();
        format!("**Not as it should be**: {}", [bad, self.failures.clone()].concat().join("; "))
    }
}

impl Facts {
    fn line(&self) -> String {
        format!(
            "{}, {} processors, {}; Apache Kafka {}; changelogd {}; seed {}; {} s a history; {} in all, {}.\n\n",
            first_line("/proc/cpuinfo", "model name").unwrap_or_else(|| "a machine".to_owned()),
            std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            first_line("/proc/meminfo", "MemTotal").unwrap_or_else(|| "memory not known".to_owned()),
            self.kafka,
            version(),
            self.seed,
            self.seconds,
            minutes(self.took),
            jiff::Timestamp::now().strftime("%Y-%m-%d"),
        )
    }
}

fn minutes(took: Duration) -> String {
    format!("{} min {} s", took.as_secs() / 60, took.as_secs() % 60)
}

fn version() -> String {
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit =
        commit.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    format!("{} ({})", env!("CARGO_PKG_VERSION"), commit.unwrap_or_else(|| "no commit".to_owned()))
}

fn first_line(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Text for a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

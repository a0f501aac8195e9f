//! The report, on the screen and as Markdown: the table of rows, the notes and tables below it, and the plots.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    facts::Facts,
    plot::{self, Series},
    stats::{Pairs, Samples},
};

/// The result of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Met,
    NotMet,
    /// There is no target: the row only informs.
    Information,
    /// With the reason.
    NotRun(String),
}

impl Verdict {
    pub fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::NotMet }
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Met | Self::Information)
    }

    fn shown(&self) -> String {
        match self {
            Self::Met => "met".to_owned(),
            Self::Information => "information".to_owned(),
            Self::NotMet => "**NOT MET**".to_owned(),
            Self::NotRun(reason) => format!("**NOT RUN**: {}", cell(reason)),
        }
    }
}

/// One target.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: &'static str,
    pub work: String,
    pub ours: String,
    pub reference: String,
    pub ratio: String,
    pub target: String,
    pub verdict: Verdict,
}

impl Row {
    /// Milliseconds in turns. The ratio of the medians may be at most `most`.
    pub fn of_times(id: &'static str, work: String, pairs: &Pairs, reference: &str, most: f64) -> Self {
        Self {
            id,
            work,
            ours: format!("{} ms", pairs.ours.spread()),
            reference: format!("{} ms, {reference}", pairs.reference.spread()),
            ratio: pairs.ratio().to_string(),
            target: format!("≤ {most} × reference"),
            verdict: Verdict::of(pairs.ratio().middle <= most),
        }
    }

    fn markdown(&self) -> String {
        let cells = [self.id, &self.work, &self.ours, &self.reference, &self.ratio, &self.target].map(cell);
        format!("| {} | {} |", cells.join(" | "), self.verdict.shown())
    }
}

#[derive(Debug)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
    sections: Vec<(String, String)>,
    /// Title and file name.
    plots: Vec<(String, String)>,
    plot_directory: PathBuf,
}

impl Report {
    pub fn new(plot_directory: PathBuf) -> Self {
        Self { rows: Vec::new(), notes: Vec::new(), sections: Vec::new(), plots: Vec::new(), plot_directory }
    }

    pub fn row(&mut self, row: Row) {
        println!("{}", row.markdown());
        self.rows.push(row);
    }

    /// A row or table that could not be measured; the run fails.
    pub fn not_run(&mut self, id: &'static str, reason: &str) {
        let [ours, reference, ratio, target] = Default::default();
        let verdict = Verdict::NotRun(reason.to_owned());
        self.row(Row { id, work: String::new(), ours, reference, ratio, target, verdict });
    }

    /// A paragraph below the table.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// A section of its own.
    pub fn section(&mut self, title: &str, markdown: &str) {
        println!("{title}\n{markdown}");
        self.sections.push((title.to_owned(), markdown.to_owned()));
    }

    /// Plots latencies. Each further nine of the percentile has the same width.
    pub fn distribution(&mut self, name: &str, title: &str, samples: &[(&str, &Samples)]) -> Result<(), String> {
        let series: Vec<Series<'_>> = samples.iter().map(|(name, samples)| (*name, samples.curve())).collect();
        self.draw(name, title, ("percentile", plot::percentile), "ms", &series)
    }

    /// Plots any curves.
    pub fn plot(&mut self, name: &str, title: &str, x: &str, y: &str, series: &[Series<'_>]) -> Result<(), String> {
        self.draw(name, title, (x, plot::plain), y, series)
    }

    fn draw(
        &mut self,
        name: &str,
        title: &str,
        x: (&str, plot::Marks),
        y: &str,
        series: &[Series<'_>],
    ) -> Result<(), String> {
        fs::create_dir_all(&self.plot_directory).map_err(|error| error.to_string())?;
        plot::curves(&self.plot_directory.join(format!("{name}.svg")), title, x, y, series)?;
        self.plots.push((title.to_owned(), format!("{name}.svg")));
        Ok(())
    }

    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.verdict.is_good())
    }

    pub fn write(&self, file: &Path, facts: &Facts) -> io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(file, self.markdown(facts))
    }

    fn markdown(&self, facts: &Facts) -> String {
        let mut text = String::from("# Benchmarks\n\n");
        let _ = writeln!(
            text,
            "Written by `{}`; not edited by hand. The release binary runs as a process, a gRPC client in another, and \
             one broker of Apache Kafka in a third, on one machine over loopback. The sidecar has its default \
             settings, and logs each call to a file. Each row is measured next to its reference in the same run, in \
             turns. A figure is the median, with the smallest and the largest. A ratio is that of the medians, with \
             the smallest and the largest of a pair. Values are JSON documents of 200 bytes unless the row says \
             otherwise. Raw means librdkafka alone, with changelogd's settings. A raw replay only counts records and \
             bytes.\n",
            facts.command
        );
        text.push_str(&facts.markdown());
        let _ = write!(text, "\n{}\n{}\n", self.table(), self.verdict());
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        let directory = self.plot_directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        for (title, markdown) in &self.sections {
            let _ = write!(text, "\n## {title}\n\n{}\n", markdown.trim_end());
        }
        if !self.plots.is_empty() {
            text.push_str("\n## Plots\n");
        }
        for (title, file) in &self.plots {
            let _ = write!(text, "\n![{title}]({directory}/{file})\n");
        }
        text
    }

    /// For the screen.
    pub fn text(&self, facts: &Facts) -> String {
        format!("{}\n{}\n{}\n", facts.markdown(), self.table(), self.verdict())
    }

    fn table(&self) -> String {
        let mut text =
            String::from("| | work | changelogd | reference | ratio | target | |\n|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.markdown());
        }
        text
    }

    fn verdict(&self) -> String {
        let bad = self.rows.iter().filter(|row| !row.verdict.is_good()).map(|row| row.id).collect::<Vec<_>>();
        if bad.is_empty() {
            "Every target is met.".to_owned()
        } else {
            format!("**Not as it should be**: {}.", bad.join(", "))
        }
    }
}

/// A table of latencies in milliseconds.
pub fn cells_of(rows: &[(&str, &Samples)]) -> String {
    let mut text = String::from("| | calls | p50 | p90 | p99 | p99.9 | worst |\n|---|---:|---:|---:|---:|---:|---:|\n");
    for (name, samples) in rows {
        let _ = writeln!(text, "| {name} | {} |", samples.cells());
    }
    text
}

/// Text for a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

//! The code blocks of this project's documents. A fence is three backticks at the start of a line.

const FENCE: &str = "```";
/// Begins the paragraph before a block that no test runs.
const NOT_RUN: &str = "Not run, because ";

#[derive(Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// What follows the fence: `sh`.
    pub tag: &'a str,
    pub lines: Vec<&'a str>,
    /// The lines of the paragraph directly before the block. None if another block is there.
    pub paragraph: Vec<&'a str>,
}

impl Block<'_> {
    /// Whether the paragraph gives no reason why the block is not run.
    pub fn is_run(&self) -> bool {
        !self.paragraph.first().is_some_and(|first| first.starts_with(NOT_RUN))
    }
}

pub fn blocks(document: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut paragraph, mut has_ended) = (Vec::new(), Vec::new(), false);
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(tag) = line.strip_prefix(FENCE) {
            let lines = lines.by_ref().take_while(|line| *line != FENCE).collect();
            blocks.push(Block { tag, lines, paragraph: std::mem::take(&mut paragraph) });
        } else if line.is_empty() {
            has_ended = true;
        } else {
            if std::mem::take(&mut has_ended) {
                paragraph.clear();
            }
            paragraph.push(line);
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_paragraph_before_it() {
        let document = "# a\n\nOne\ntwo:\n\n```sh\nx\n\ny\n```\n```\nz\n```\nThree:\n\n```json\n```\n\nthe end\n";
        let block = |tag, lines: &[&'static str], paragraph: &[&'static str]| Block {
            tag,
            lines: lines.to_vec(),
            paragraph: paragraph.to_vec(),
        };
        let expected =
            [block("sh", &["x", "", "y"], &["One", "two:"]), block("", &["z"], &[]), block("json", &[], &["Three:"])];
        assert_eq!(blocks(document), expected);
    }

    #[test]
    fn a_block_without_a_reason_is_run() {
        let document =
            "```\na\n```\n\nNot run, because it\nis a part.\n\n```\nb\n```\nText.\nNot run, because\n```\nc\n```\n";
        assert_eq!(blocks(document).iter().map(Block::is_run).collect::<Vec<_>>(), [true, false, true]);
    }
}

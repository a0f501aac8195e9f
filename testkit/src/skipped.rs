//! What a test does not check on this machine.

use std::io::Write;

/// The start of each line that [`skipped`] writes.
pub const SKIPPED: &str = "SKIPPED ";

/// Says on stderr that the running test does not check something here, and why. libtest captures what tests print, and
/// shows it of failed ones only. It does not capture this line.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{SKIPPED}{}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The name of the test and the reason, of a line of the output of tests.
pub fn skipped_test(line: &str) -> Option<(&str, &str)> {
    // Other output may stand before it in the line.
    let (_, rest) = line.split_once(SKIPPED)?;
    let (path, why) = rest.split_once(": ")?;
    Some((path.rsplit("::").next().unwrap_or(path), why))
}

#[cfg(test)]
mod tests {
    use super::skipped_test;

    #[test]
    fn a_skipped_test_is_found_in_the_output() {
        let line = "test a::b ... SKIPPED a::b: there is none: here";
        assert_eq!(skipped_test(line), Some(("b", "there is none: here")));
        for other in ["", "test a::b ... ok", "SKIPPED", "SKIPPED a"] {
            assert_eq!(skipped_test(other), None, "{other}");
        }
    }
}

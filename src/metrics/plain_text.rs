//! Prometheus' text format 0.0.4, made of the OpenMetrics text that the registry writes.
//!
//! The formats differ in the lines about a family. In the older one, the name of a counter or an info has the suffix
//! of its samples. There are no units, no info type, and no end mark. Samples are the same.

use std::fmt::Write;

/// The same metrics in the text format 0.0.4.
pub fn from_open_metrics(text: &str) -> String {
    let mut converted = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            // Writing to a string does not fail.
            if let Some((_, text)) = help.take() {
                let _ = writeln!(converted, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(converted, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(converted, "{line}");
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers C80.
    #[test]
    fn families_have_the_names_of_their_samples_and_no_units() {
        let text = "# HELP a_calls Calls, # and all.\n# TYPE a_calls counter\na_calls_total{x=\"# EOF\"} 1\n\
                    # HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n# UNIT a_time_seconds seconds\n\
                    a_time_seconds_sum 0.1\na_time_seconds_count 1\na_time_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP a_ready Ready.\n# TYPE a_ready gauge\na_ready 1\n\
                    # HELP a_build Build.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_calls_total Calls, # and all.\n# TYPE a_calls_total counter\n\
                        a_calls_total{x=\"# EOF\"} 1\n\
                        # HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n\
                        a_time_seconds_sum 0.1\na_time_seconds_count 1\na_time_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP a_ready Ready.\n# TYPE a_ready gauge\na_ready 1\n\
                        # HELP a_build_info Build.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n";
        assert_eq!(from_open_metrics(text), expected);
    }
}

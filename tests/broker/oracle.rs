//! Compares our partitioner with that of Kafka's Java client.

use std::ops::RangeInclusive;

use changelog_core::model::{PartitionCount, murmur2};
use changelogd_testkit::shared_oracle;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

/// All characters but those of Unicode's category C: control, format, private use and unassigned ones.
fn visible_characters() -> Vec<RangeInclusive<char>> {
    let mut ranges = Vec::<RangeInclusive<char>>::new();
    for c in '\0'..=char::MAX {
        // The debug form escapes category C, category Z (separators, all of them white space), and a few of ASCII.
        let text = format!("a{c}");
        let escaped = text.escape_debug().count() > 2;
        if escaped && !r#"\"'"#.contains(c) && (c.is_control() || !c.is_whitespace()) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if (*last.end()..=c).count() == 2 => *last = *last.start()..=c,
            _ => ranges.push(c..=c),
        }
    }
    ranges
}

/// Covers C8, R27, B7.
#[test]
fn the_partition_of_any_workspace_id_matches_kafkas_java_client() {
    let oracle = shared_oracle();
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) });
    let workspaces = vec(proptest::char::ranges(visible_characters().into()), 1..=40);
    runner
        .run(&(workspaces, 1..5_000_i32), |(workspace, partitions)| {
            let workspace = String::from_iter(workspace);
            let java = oracle.partition(partitions, workspace.as_bytes()).unwrap();
            let count = PartitionCount::new(partitions.into()).unwrap();
            prop_assert_eq!(murmur2(workspace.as_bytes()) as i32, java.murmur2);
            prop_assert_eq!(count.of_workspace(workspace.as_bytes()).number(), java.partition);
            Ok(())
        })
        .unwrap();
}

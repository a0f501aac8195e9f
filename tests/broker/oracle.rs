//! Compares our partitioner with that of Kafka's Java client.

use changelogd::model::{PartitionCount, murmur2};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::kafka::shared_oracle;

/// Covers C8, R27, B7.
#[test]
fn the_partition_of_any_workspace_id_matches_kafkas_java_client() {
    let oracle = shared_oracle();
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) });
    runner
        .run(&("\\PC{1,40}", 1..5_000_i32), |(workspace, partitions)| {
            let java = oracle.partition(partitions, workspace.as_bytes()).unwrap();
            let count = PartitionCount::new(partitions.into()).unwrap();
            prop_assert_eq!(murmur2(workspace.as_bytes()) as i32, java.murmur2);
            prop_assert_eq!(count.of_workspace(workspace.as_bytes()).number(), java.partition);
            Ok(())
        })
        .unwrap();
}

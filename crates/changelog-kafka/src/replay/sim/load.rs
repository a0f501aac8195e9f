//! A load of a simulated world, in the order of the real log: the topic, the end offsets, the records.

use std::{collections::HashMap, sync::Arc, time::Duration};

use changelog_core::{
    log::{Follow, PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Selection, StartAt, Topic},
    model::{Partition, Record},
};

use super::{
    super::{
        limits::{ReplayLimits, StopReason},
        range,
        reader::ReplayReader,
    },
    broker::SimulatedCluster,
    partition_log::Millis,
    world::{SharedWorld, World},
};

/// The outcome of a load.
pub struct Outcome {
    pub requested_at: Millis,
    /// The high watermarks at the time of the request.
    pub high_watermarks: HashMap<i32, i64>,
    pub topic: u64,
    pub records: Vec<(Partition, Record)>,
    pub ends: Vec<(PartitionEnd, Millis, Arc<Topic>)>,
    pub error: Option<ReadError>,
    /// The topic of the request.
    pub served: Arc<Topic>,
}

pub const DEADLINE: Duration = Duration::from_secs(300);
pub const NO_PROGRESS: Duration = Duration::from_secs(10);

pub fn limits(world: &World) -> ReplayLimits {
    ReplayLimits {
        open_transaction_wait: Duration::from_secs(5),
        no_progress: NO_PROGRESS,
        min_compaction_lag: Duration::from_millis(world.min_compaction_lag),
        delete_retention: Duration::from_millis(world.delete_retention),
    }
}

/// Loads every partition of the world.
pub fn load(world: &SharedWorld) -> Outcome {
    let (request, limits, requested_at, high_watermarks, topic) = {
        let world = world.borrow();
        let topic = world.described();
        let request = ReplayRequest {
            selection: Selection::all(topic.partition_count),
            partitions: world.partitions.keys().map(|p| (Partition::new(*p).unwrap(), StartAt::Low)).collect(),
            topic,
            follow: Follow::No,
            owned_records: false,
            deadline: (world.instant() + DEADLINE).into(),
        };
        let limits = limits(&world);
        let high_watermarks = world.partitions.iter().map(|(p, log)| (*p, log.high)).collect();
        (request, limits, world.now, high_watermarks, world.topic)
    };
    let served = request.topic.clone();
    let mut cluster = SimulatedCluster::new(world, &served);
    let mut outcome =
        Outcome { requested_at, high_watermarks, topic, records: Vec::new(), ends: Vec::new(), error: None, served };
    let ranges = match range::resolve_ranges(&mut cluster, &request, limits.open_transaction_wait) {
        Ok(ranges) => ranges,
        Err(error) => {
            outcome.error = Some(error);
            return outcome;
        }
    };
    let mut reader = ReplayReader::new(cluster, request, ranges, limits, Box::new(|_, _, _| {}));
    match reader.read(&mut None) {
        Ok(()) => {}
        Err(StopReason::Failed(error)) => outcome.error = Some(error),
        Err(StopReason::Abandoned) => panic!("the caller stays"),
    }
    for event in reader.cluster.events {
        if let ReplayEvent::Records { partition, records, .. } = event {
            outcome.records.extend(records.into_iter().map(|r| (partition, r)));
        }
    }
    outcome.ends = reader.cluster.ends;
    outcome
}

//! The worlds of this binary.

use std::{sync::Arc, time::Duration};

use changelogd::{
    log::MemoryLog,
    model::{Partition, PartitionCount},
};

use rdkafka::mocking::MockCluster;

use crate::contract::world::{World, directory};

pub async fn memory() -> World {
    let log = MemoryLog::new(PartitionCount::new(10).unwrap(), Duration::from_secs(86_400));
    let foreign = {
        let log = log.clone();
        Box::new(move |partition, key, value| {
            log.append_foreign(Partition::new(partition).unwrap(), key, value);
        })
    };
    World::on_log(Arc::new(log), vec!["--store=memory".to_owned()]).await.with_foreign(foreign)
}

pub async fn embedded() -> World {
    let (keep, path) = directory();
    World::in_process(vec![format!("--data-dir={}", path.display())]).await.keeping(Box::new(keep)).durable()
}

pub async fn embedded_process() -> World {
    let (keep, path) = directory();
    World::process(vec![format!("--data-dir={}", path.display())]).await.keeping(Box::new(keep)).durable()
}

/// Kafka as librdkafka's mock cluster plays it: a thread of this process.
pub async fn mock_kafka() -> World {
    let (told, brokers) = std::sync::mpsc::channel();
    let (keep, kept) = std::sync::mpsc::channel::<()>();
    // The cluster can't leave the thread that made it.
    std::thread::spawn(move || {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("t", 10, 1).expect("a topic");
        told.send(cluster.bootstrap_servers()).expect("somebody asked");
        // Until the world, and with it the other end, is gone.
        let _ = kept.recv();
    });
    let brokers = brokers.recv().expect("a mock cluster");
    let arguments = vec![format!("--brokers={brokers}"), "--topic=t".to_owned(), "--partitions=10".to_owned()];
    World::in_process(arguments).await.durable().without_id().keeping(Box::new(keep))
}

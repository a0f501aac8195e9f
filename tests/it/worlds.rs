//! The worlds of this binary.

use std::{sync::Arc, time::Duration};

use changelogd::{
    log::MemoryLog,
    model::{Partition, PartitionCount},
};

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
    World::in_process(vec![format!("--data-dir={}", path.display())]).await.owning(keep).durable()
}

pub async fn embedded_process() -> World {
    let (keep, path) = directory();
    World::process(vec![format!("--data-dir={}", path.display())]).await.owning(keep).durable()
}

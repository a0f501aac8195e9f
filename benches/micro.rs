//! Times of single steps of a write and a load, in memory: `cargo bench --bench micro`.
//!
//! It can measure only what the library exports. Two steps are not measured alone: the fold with the selection of
//! records, and the encoding of a record into an entry of the API. The first is part of the load that is measured here,
//! over the memory log. The second is inside the service.

use std::{collections::HashSet, hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use changelog_core::{
    changelog::{Ack, Changelog, Limits, Metrics, Peer},
    log::MemoryLog,
    model::{Headers, Key, KeyRef, PartitionCount, ValueMode, ValueRules, WorkspaceId},
};
use changelogd::proto::v1;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use tokio::time::Instant;

const KEY: &str = "354afe16-939a-4ea8-8e17-8bb0840b6886/deployment/dep-000123";
/// Of the load.
const WORKSPACES: usize = 10;
const ENTRIES: usize = 2_000;

fn value(i: usize) -> Bytes {
    format!(
        "{{\"id\":\"{:016x}\",\"name\":\"billing-{i}\",\"status\":\"running\",\"version\":\"v1.{}.{}\",\"replicas\":{},\
         \"updated\":\"2026-03-{:02}T10:{:02}:33.120Z\",\"note\":\"the quick brown fox jumps over lazy dog {i}\"}}",
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        i % 40,
        i % 90,
        i % 12,
        1 + i % 28,
        i % 60
    )
    .into()
}

fn keys(criterion: &mut Criterion) {
    criterion.bench_function("key: parsed as read", |b| b.iter(|| KeyRef::parse(black_box(KEY.as_bytes()))));
    criterion.bench_function("key: of a request", |b| {
        let (workspace, id) = KEY.split_at(36);
        b.iter(|| Key::from_request(black_box(workspace), black_box(id)));
    });
    criterion.bench_function("partition of a workspace", |b| {
        let count = PartitionCount::new(10).expect("a count");
        b.iter(|| count.of_workspace(black_box(&KEY.as_bytes()[..36])));
    });
}

fn values(criterion: &mut Criterion) {
    let rules = ValueRules { mode: ValueMode::Json, max_bytes: 1_000_000 };
    let value = value(1);
    let mut group = criterion.benchmark_group("value");
    group.throughput(Throughput::Bytes(value.len() as u64));
    group.bench_function("checked for JSON", |b| b.iter(|| rules.check(black_box(&value))));
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let entry = |i: usize| v1::Entry {
        key: format!("ws-0042/deployment/dep-{i:06}"),
        value: Some(v1::entry::Value::Raw(value(i))),
        partition: 3,
        offset: i as i64,
        timestamp: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 120_000_000 }),
        ..Default::default()
    };
    let batch = v1::EntryBatch::from((0..512).map(entry).collect::<Vec<_>>());
    let event = v1::load_workspace_response::Event::Batch(batch);
    let message = v1::LoadWorkspaceResponse { event: Some(event) };
    let bytes: Bytes = message.encode_to_vec().into();
    let mut group = criterion.benchmark_group("batch of 512 entries");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encoded", |b| b.iter(|| black_box(&message).encode_to_vec()));
    group.bench_function("decoded", |b| b.iter(|| v1::LoadWorkspaceResponse::decode(black_box(bytes.clone()))));
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limits = Limits {
        values: ValueRules { mode: ValueMode::Json, max_bytes: 1_000_000 },
        max_replays: 16,
        max_replays_per_client: 16,
        share_replays: true,
        replay_queue_timeout: Duration::from_secs(2),
        replay_memory: 512 * 1024 * 1024,
        read_ahead: 1024 * 1024,
        max_following_streams: 1,
        max_load_memory: 512 * 1024 * 1024,
    };
    let log = MemoryLog::new(PartitionCount::new(1).expect("a count"), Duration::from_hours(24));
    let changelog = Changelog::new(Arc::new(log), limits, Metrics::default());
    runtime.block_on(async {
        for i in 0..WORKSPACES * ENTRIES {
            let key = format!("ws-{:04}/deployment/dep-{:06}", i % WORKSPACES, i / WORKSPACES);
            let key = Key::parse(&key).expect("a key");
            let record = changelog.write_target().record(key, Some(value(i)), Headers::default()).expect("a record");
            changelog.write(record, Ack::Durable, None).await.expect("written");
        }
    });
    let workspace = WorkspaceId::parse("ws-0007").expect("a workspace");
    let mut group = criterion.benchmark_group("load over the memory log");
    group.throughput(Throughput::Elements((WORKSPACES * ENTRIES) as u64));
    group.bench_function("2,000 entries of 20,000 records: selected and folded", |b| {
        b.iter(|| {
            let deadline = Instant::now() + Duration::from_secs(60);
            let load = changelog.load(workspace.clone(), HashSet::new(), Peer::default(), deadline);
            assert_eq!(runtime.block_on(load).expect("a load").records().len(), ENTRIES);
        });
    });
    group.finish();
}

criterion_group!(micro, keys, values, batches, load);
criterion_main!(micro);

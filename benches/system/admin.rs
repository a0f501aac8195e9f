//! V12: one ListOffsets and one DescribeTopics of librdkafka alone, on a client that is connected, next to an awaited
//! raw write. A linearizable read that needs no replay would have to make both.

#![allow(unsafe_code, reason = "the wrapper has neither of these queries")]

use std::{
    ffi::{CString, c_char},
    slice,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::AdminClient,
    bindings::{self as c, rd_kafka_admin_op_t as Operation, rd_kafka_resp_err_t as Code},
    client::DefaultClientContext,
};
use tokio::{task::block_in_place, time::sleep};

use super::{
    bench::{Bench, ms},
    data::{Entity, entities},
    producers::Awaited,
    raw::{PATIENCE, admin_config, text},
    report::{Row, Verdict, cells_of},
    stats::{Pairs, Samples},
};

const PARTITIONS: i32 = 10;
const RAW: &str = "awaited raw produce";
const RETRY: Duration = Duration::from_millis(20);

/// A pointer that is ours, and how it is freed.
struct Native<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Native<T> {
    fn drop(&mut self) {
        // Safety: librdkafka gave the pointer to us, and it is freed once.
        unsafe { (self.1)(self.0) }
    }
}

/// An admin client, and the topic that it is asked for.
struct Admin {
    client: AdminClient<DefaultClientContext>,
    topic: CString,
}

impl Admin {
    fn new(brokers: &str, topic: &str) -> Result<Self, String> {
        let client = admin_config(brokers).create().map_err(text)?;
        Ok(Self { client, topic: CString::new(topic).map_err(text)? })
    }

    fn native(&self) -> *mut c::rd_kafka_t {
        self.client.inner().native_ptr()
    }

    /// As changelogd makes them: with a queue for the answer of this query alone.
    fn queue(&self) -> Native<c::rd_kafka_queue_t> {
        // Safety: the client is alive, and outlives the queue.
        Native(unsafe { c::rd_kafka_queue_new(self.native()) }, c::rd_kafka_queue_destroy)
    }

    fn options(&self, operation: Operation) -> Native<c::rd_kafka_AdminOptions_t> {
        let (mut error, timeout) = ([0 as c_char; 256], PATIENCE.as_millis() as i32);
        // Safety: the client is alive; the buffer outlives the call.
        unsafe {
            let options = c::rd_kafka_AdminOptions_new(self.native(), operation);
            c::rd_kafka_AdminOptions_set_request_timeout(options, timeout, error.as_mut_ptr(), error.len());
            Native(options, c::rd_kafka_AdminOptions_destroy)
        }
    }

    /// The high watermark of a partition, from its leader.
    fn list_offsets(&self, partition: i32) -> Result<i64, String> {
        let (queue, options) = (self.queue(), self.options(Operation::RD_KAFKA_ADMIN_OP_LISTOFFSETS));
        // Safety: each pointer is alive until its guard is dropped. What an event holds is read before that.
        unsafe {
            let list = c::rd_kafka_topic_partition_list_new(1);
            let list = Native(list, c::rd_kafka_topic_partition_list_destroy);
            let entry = c::rd_kafka_topic_partition_list_add(list.0, self.topic.as_ptr(), partition);
            // RD_KAFKA_OFFSET_SPEC_LATEST. Uncommitted is the default, and makes it the high watermark.
            (*entry).offset = -1;
            c::rd_kafka_ListOffsets(self.native(), list.0, options.0, queue.0);
            let event = answer(&queue)?;
            let mut count = 0;
            let result = c::rd_kafka_event_ListOffsets_result(event.0);
            let infos = c::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            if count != 1 {
                return Err(format!("ListOffsets was answered with {count} partitions"));
            }
            let entry = &*c::rd_kafka_ListOffsetsResultInfo_topic_partition(slice::from_raw_parts(infos, count)[0]);
            match entry.err {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR if entry.offset >= 0 => Ok(entry.offset),
                code => Err(format!("ListOffsets was answered with offset {} and {code:?}", entry.offset)),
            }
        }
    }

    /// The number of the topic's partitions, from the controller.
    fn describe_topics(&self) -> Result<usize, String> {
        let (queue, options) = (self.queue(), self.options(Operation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS));
        let mut names = [self.topic.as_ptr()];
        // Safety: as above.
        unsafe {
            let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            let topics = Native(topics, c::rd_kafka_TopicCollection_destroy);
            c::rd_kafka_DescribeTopics(self.native(), topics.0, options.0, queue.0);
            let event = answer(&queue)?;
            let mut count = 0;
            let result = c::rd_kafka_event_DescribeTopics_result(event.0);
            let described = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if count != 1 {
                return Err(format!("DescribeTopics was answered with {count} topics"));
            }
            c::rd_kafka_TopicDescription_partitions(slice::from_raw_parts(described, 1)[0], &raw mut count);
            Ok(count)
        }
    }
}

fn answer(queue: &Native<c::rd_kafka_queue_t>) -> Result<Native<c::rd_kafka_event_t>, String> {
    // Safety: the queue is alive, and the event is ours.
    unsafe {
        let event = c::rd_kafka_queue_poll(queue.0, PATIENCE.as_millis() as i32);
        if event.is_null() {
            return Err("an admin query is not answered".to_owned());
        }
        let event = Native(event, c::rd_kafka_event_destroy);
        match c::rd_kafka_event_error(event.0) {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
            code => Err(format!("an admin query failed: {code:?}")),
        }
    }
}

/// The milliseconds of each call.
fn timed(times: usize, mut query: impl FnMut() -> Result<(), String>) -> Result<Samples, String> {
    let one = |_| {
        let started = Instant::now();
        query()?;
        Ok(ms(started.elapsed()))
    };
    (0..times).map(one).collect()
}

/// A topic that was just created is described before the leader knows that it leads.
async fn leader_answers(admin: &Admin, partition: i32) -> Result<(), String> {
    let started = Instant::now();
    while let Err(reason) = block_in_place(|| admin.list_offsets(partition)) {
        if started.elapsed() > PATIENCE {
            return Err(reason);
        }
        sleep(RETRY).await;
    }
    Ok(())
}

/// V12
pub async fn queries(bench: &mut Bench) -> Result<(), String> {
    const NAMES: [&str; 3] = [
        "ListOffsets, the high watermark of one partition",
        "DescribeTopics, one topic of 10 partitions",
        "both, one after the other",
    ];
    let each = bench.number(300, 40);
    let (topic, bootstrap) = (bench.empty_topic(PARTITIONS).await?, bench.bootstrap()?);
    let admin = Admin::new(&bootstrap, &topic.name)?;
    let raw = Awaited::new(&bootstrap)?;
    let entities: Vec<_> = entities(1, each, 1, 200).collect();
    let partition = entities.first().map_or(0, |entity| entity.partition(PARTITIONS));
    let mut written = 0;
    let list = |at_least: i64| match admin.list_offsets(partition)? {
        high if high >= at_least => Ok(()),
        high => Err(format!("the high watermark is {high} after {at_least} writes")),
    };
    let describe = || match admin.describe_topics()? {
        count if count == PARTITIONS as usize => Ok(()),
        count => Err(format!("the topic is described with {count} partitions")),
    };
    leader_answers(&admin, partition).await?;
    let mut measured: [Samples; 3] = Default::default();
    let mut medians: [Pairs; 3] = Default::default();
    let mut produced = Samples::default();
    for round in 0..=bench.rounds {
        let (queries, writes) = block_in_place(|| {
            let queries = [
                timed(each, || list(written))?,
                timed(each, describe)?,
                timed(each, || list(written).and_then(|()| describe()))?,
            ];
            let write = |entity: &Entity| raw.produce(&topic.name, PARTITIONS, entity);
            let writes = entities.iter().map(write).collect::<Result<Samples, String>>()?;
            Ok::<_, String>((queries, writes))
        })?;
        written += each as i64;
        if round == 0 {
            continue;
        }
        for ((all, medians), query) in measured.iter_mut().zip(&mut medians).zip(queries) {
            medians.push(query.median(), writes.median());
            all.append(query);
        }
        produced.append(writes);
    }
    let shown = |samples: &Samples| format!("{:.3} ms, {:.3} ms", samples.median(), samples.quantile(0.99));
    for ((name, all), medians) in NAMES.into_iter().zip(&measured).zip(&medians) {
        bench.report.row(Row {
            id: "V12",
            work: format!("librdkafka alone: {name}, p50 and p99 of {}", all.len()),
            ours: shown(all),
            reference: format!("{}, {RAW}", shown(&produced)),
            ratio: medians.ratio().to_string(),
            target: "none".to_owned(),
            verdict: Verdict::Information,
        });
    }
    let rows: Vec<_> = NAMES.into_iter().zip(&measured).chain([(RAW, &produced)]).collect();
    bench.report.section("V12, queries of librdkafka's admin client, milliseconds", &cells_of(&rows));
    Ok(())
}

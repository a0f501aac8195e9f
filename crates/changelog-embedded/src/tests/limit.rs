//! The limit of the data directory: no mix of writes makes its files occupy more.

use super::{
    room::{MIB, noise, watched},
    *,
};

/// Writes of a client. The key and whether it is a delete follow from the number of the write.
struct Mix {
    name: &'static str,
    key_bytes: usize,
    value_bytes: usize,
    /// How many keys there are before the first comes again.
    keys: u64,
    is_delete: fn(u64) -> bool,
    retention: Duration,
}

const NEVER_AGAIN: u64 = u64::MAX;
const DAY: Duration = Duration::from_hours(24);

const MIXES: [Mix; 7] = [
    Mix {
        name: "deletes of missing keys that are large",
        key_bytes: 900,
        value_bytes: 0,
        keys: NEVER_AGAIN,
        is_delete: |_| true,
        retention: DAY,
    },
    Mix {
        name: "deletes of missing keys, whose tombstones expire",
        key_bytes: 900,
        value_bytes: 0,
        keys: NEVER_AGAIN,
        is_delete: |_| true,
        retention: Duration::from_millis(1),
    },
    Mix {
        name: "deletes of missing keys that are small",
        key_bytes: 20,
        value_bytes: 0,
        keys: NEVER_AGAIN,
        is_delete: |_| true,
        retention: DAY,
    },
    Mix {
        name: "large keys with small values",
        key_bytes: 900,
        value_bytes: 1,
        keys: NEVER_AGAIN,
        is_delete: |_| false,
        retention: DAY,
    },
    Mix {
        name: "sets and deletes of the same keys",
        key_bytes: 500,
        value_bytes: 500,
        keys: 40_001,
        is_delete: |n| n % 2 == 1,
        retention: DAY,
    },
    Mix {
        name: "overwrites, and deletes of missing keys",
        key_bytes: 300,
        value_bytes: 3000,
        keys: 60_000,
        is_delete: |n| n % 5 > 0,
        retention: Duration::from_millis(1),
    },
    Mix {
        name: "sets of large values until it is full, then deletes of all",
        key_bytes: 900,
        value_bytes: 100_000,
        keys: 1500,
        is_delete: |n| n >= 1500,
        retention: DAY,
    },
];

impl Mix {
    fn key(&self, n: u64) -> String {
        format!("w/t/{}", noise(n % self.keys, self.key_bytes).replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
    }

    fn value(&self, n: u64) -> Option<String> {
        (!(self.is_delete)(n)).then(|| noise(n, self.value_bytes))
    }

    /// About the bytes of a write in the journal.
    fn bytes(&self) -> u64 {
        (self.key_bytes * 3 + self.value_bytes + 400) as u64
    }

    fn open(&self, dir: &TempDir, limit: u64) -> EmbeddedLog {
        let settings = Settings { data_limit: Some(limit), delete_retention: self.retention, ..settings(dir) };
        EmbeddedLog::open(settings).unwrap()
    }

    /// Writes these, many at a time. Returns how many were refused because the directory is full.
    async fn write(&self, log: &EmbeddedLog, writes: std::ops::Range<u64>) -> u64 {
        let (mut refused, batch) = (0, (4 * MIB / self.bytes()).clamp(1, 2000));
        let mut first = writes.start;
        while first < writes.end {
            let last = writes.end.min(first + batch);
            let pending: Vec<_> = (first..last).map(|n| (self.key(n), self.value(n))).collect();
            let pending = pending.iter().map(|(key, value)| log.append(record(log, key, value.as_deref())).unwrap());
            for pending in pending.collect::<Vec<_>>() {
                match pending.await.unwrap() {
                    Ok(_) => {}
                    Err(WriteError::DiskFull { .. }) => refused += 1,
                    Err(error) => panic!("{}: {error:?}", self.name),
                }
            }
            first = last;
        }
        refused
    }
}

/// Covers R45.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mix_of_writes_makes_a_directory_larger_than_its_limit() {
    let mut exceeded = Vec::new();
    for (limit, mixes) in [(MIN_DATA_LIMIT, &MIXES[..]), (400 * MIB, &MIXES[..1])] {
        for mix in mixes {
            let dir = tempfile::tempdir().unwrap();
            let all = (limit * 3 / 4 / mix.bytes()).min(100_000);
            let work = async {
                let log = mix.open(&dir, limit);
                let refused = mix.write(&log, 0..all).await;
                drop(log);
                // What the engine has left to write, it writes after a start.
                let log = mix.open(&dir, limit);
                let again = mix.write(&log, all..all + all / 8).await;
                let findings = log.describe().await.findings;
                // Its retention is short on purpose.
                assert!(findings.iter().all(|f| f.code == "SHORT_DELETE_RETENTION"), "{}: {findings:?}", mix.name);
                drop(log);
                (refused, again)
            };
            let ((refused, again), most) = watched(dir.path(), work).await;
            eprintln!("{} {limit}: most {most}, refused {refused} and {again} of {all}", mix.name);
            if most > limit {
                exceeded.push((mix.name, most, limit));
            }
            let log = mix.open(&dir, limit);
            let ends: i64 = log.describe().await.partitions.iter().map(|partition| partition.high).sum();
            assert_eq!(ends as u64, all + all / 8 - refused - again, "{}: what was accepted is there", mix.name);
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:?}");
}

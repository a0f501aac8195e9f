//! `process_*`: what Linux says of this process, with the names that all Prometheus clients use.

use std::fmt;

#[cfg(target_os = "linux")]
use changelog_core::metrics::approximate;
#[cfg(target_os = "linux")]
use procfs::{
    ProcResult, WithCurrentSystemInfo as _,
    process::{LimitValue, Process},
};
use prometheus_client::registry::Registry;
#[cfg(target_os = "linux")]
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// The registry has no prefix.
#[cfg(target_os = "linux")]
pub fn register(registry: &mut Registry) {
    add(registry, procfs::boot_time_secs);
}

#[cfg(target_os = "linux")]
fn add(registry: &mut Registry, boot_seconds: impl FnOnce() -> ProcResult<u64>) {
    let collector = Proc { start_seconds: start_seconds(boot_seconds).ok() };
    registry.sub_registry_with_prefix("process").register_collector(Box::new(collector));
}

/// Other systems have no /proc.
#[cfg(not(target_os = "linux"))]
pub fn register(_: &mut Registry) {}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Proc {
    /// Must not be computed again. The boot time that Linux reports moves with each step of the clock, and procfs keeps
    /// it for each thread. So threads would answer with different times, as if the process had started again.
    start_seconds: Option<f64>,
}

/// Linux says how many ticks after the boot of the machine this process began.
#[cfg(target_os = "linux")]
fn start_seconds(boot_seconds: impl FnOnce() -> ProcResult<u64>) -> ProcResult<f64> {
    let ticks = approximate(Process::myself()?.stat()?.starttime);
    Ok(approximate(boot_seconds()?) + ticks / approximate(procfs::ticks_per_second()))
}

#[cfg(target_os = "linux")]
struct Read {
    cpu_seconds: f64,
    resident: f64,
    virtual_bytes: f64,
    threads: f64,
    files: f64,
    max_files: f64,
}

#[cfg(target_os = "linux")]
impl Read {
    fn now() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let max_files = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Unlimited => f64::INFINITY,
            LimitValue::Value(limit) => approximate(limit),
        };
        let ticks = approximate(procfs::ticks_per_second());
        Ok(Self {
            cpu_seconds: approximate(stat.utime + stat.stime) / ticks,
            resident: approximate(stat.rss_bytes().get()),
            virtual_bytes: approximate(stat.vsize),
            threads: approximate(stat.num_threads.unsigned_abs()),
            files: approximate(process.fd_count()? as u64),
            max_files,
        })
    }
}

#[cfg(target_os = "linux")]
impl Collector for Proc {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A container may lack /proc. A scrape without these is worth more than an error.
        let Ok(read) = Read::now() else { return Ok(()) };
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let cpu = encoder.encode_descriptor("cpu", "CPU time of the process", seconds, MetricType::Counter)?;
        ConstCounter::new(read.cpu_seconds).encode(cpu)?;
        let start =
            self.start_seconds.map(|start| ("start_time", "When the process began, since 1970", seconds, start));
        let others = [
            ("resident_memory", "Memory of the process that is in RAM", bytes, read.resident),
            ("virtual_memory", "Virtual memory of the process", bytes, read.virtual_bytes),
            ("threads", "Threads of the process", None, read.threads),
            ("open_fds", "File descriptors that are open", None, read.files),
            ("max_fds", "File descriptors that may be open; +Inf without a limit", None, read.max_files),
        ];
        for (name, help, unit, value) in start.into_iter().chain(others) {
            let gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicU64, Ordering::SeqCst},
        thread,
    };

    use prometheus_client::encoding::text::encode;

    use super::*;

    /// As procfs: a thread keeps what it read first. Meanwhile the clock is set forward by an hour each time.
    fn boot_seconds_of_thread() -> u64 {
        static CLOCK: AtomicU64 = AtomicU64::new(1_000_000);
        thread_local! {
            static BOOT: Cell<Option<u64>> = const { Cell::new(None) };
        }
        BOOT.get().unwrap_or_else(|| {
            let boot = CLOCK.fetch_add(3_600, SeqCst);
            BOOT.set(Some(boot));
            boot
        })
    }

    fn start_time(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        let line = text.lines().find(|line| line.starts_with("process_start_time_seconds "));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    fn all_threads_answer_with_one_start_time_when_the_clock_is_set() {
        let mut registry = Registry::default();
        add(&mut registry, || Ok(boot_seconds_of_thread()));
        let expected = start_time(&registry);
        thread::scope(|scope| {
            for thread in [(); 3].map(|()| scope.spawn(|| start_time(&registry))) {
                assert_eq!(thread.join().unwrap(), expected);
            }
        });
    }
}

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
    registry.sub_registry_with_prefix("process").register_collector(Box::new(Proc));
}

/// Other systems have no /proc.
#[cfg(not(target_os = "linux"))]
pub fn register(_: &mut Registry) {}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Proc;

#[cfg(target_os = "linux")]
struct Read {
    cpu_seconds: f64,
    start_seconds: f64,
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
        let boot = approximate(procfs::boot_time_secs()?);
        Ok(Self {
            cpu_seconds: approximate(stat.utime + stat.stime) / ticks,
            start_seconds: boot + approximate(stat.starttime) / ticks,
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
        let gauges = [
            ("start_time", "When the process began, since 1970", seconds, read.start_seconds),
            ("resident_memory", "Memory of the process that is in RAM", bytes, read.resident),
            ("virtual_memory", "Virtual memory of the process", bytes, read.virtual_bytes),
            ("threads", "Threads of the process", None, read.threads),
            ("open_fds", "File descriptors that are open", None, read.files),
            ("max_fds", "File descriptors that may be open; +Inf without a limit", None, read.max_files),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

//! The process's families, under the names that every Prometheus client library gives them.
//!
//! Read from `/proc`; where a file is not there, its family is not told.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Family, Kind, Value};

/// What the kernel counts of this process.
pub(super) fn families(started_at: SystemTime) -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let gauge = |name, help, value: Option<f64>| {
        value.map(|value| Family::of_one(name, help, Kind::Gauge, Vec::new(), Value::Number(value)))
    };
    let bytes = |field| field_of(&status, field).map(|kibibytes| kibibytes * 1024.0);
    let cpu = cpu_seconds(&stat).map(|seconds| {
        let help = "Time that this process spent computing, for itself and in the kernel.";
        Family::of_one("process_cpu_seconds", help, Kind::Counter, Vec::new(), Value::Number(seconds))
    });
    let started = started_at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    [
        cpu,
        gauge("process_resident_memory_bytes", "Memory that is resident.", bytes("VmRSS:")),
        gauge("process_virtual_memory_bytes", "Address space.", bytes("VmSize:")),
        gauge("process_threads", "Threads.", field_of(&status, "Threads:")),
        gauge("process_open_fds", "File descriptors that are open.", open_files()),
        gauge("process_max_fds", "File descriptors that may be open.", field_of(&limits, "Max open files")),
        gauge("process_start_time_seconds", "When this process started, in seconds since 1970.", started),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The first number behind `field`.
fn field_of(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The name may hold spaces and brackets, so fields are counted from behind its last one.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    // The folder that is being read is one of them.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// In `/proc`, on every architecture that Linux has.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the right fields are read. Method: a line of `/proc/self/stat` whose name is meant to confuse.
    #[test]
    fn times_are_read_behind_the_name() {
        let stat = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(field_of("VmSize:\t 10 kB\nVmRSS:\t 2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(families(SystemTime::now()).len(), 7);
    }
}

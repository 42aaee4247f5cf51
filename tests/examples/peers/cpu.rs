//! What the kernel has counted for processes: time on a processor, and memory.

use std::fs;
use std::time::Duration;

/// Time on a processor of all threads of the processes, of those that still run.
///
/// In nanoseconds (`schedstat`), where `stat` counts in hundredths of a second.
pub(crate) fn time(pids: &[u32]) -> Duration {
    let nanoseconds = pids.iter().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Resident memory of the processes, in KiB.
pub(crate) fn resident_kib(pids: &[u32]) -> u64 {
    memory(pids, "VmRSS:")
}

/// The most that their resident memory has been, in KiB.
pub(crate) fn peak_kib(pids: &[u32]) -> u64 {
    memory(pids, "VmHWM:")
}

fn memory(pids: &[u32], field: &str) -> u64 {
    let of_process = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of_process).sum()
}

/// The processes that `parent` has started.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

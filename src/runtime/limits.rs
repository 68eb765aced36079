//! Container and host → how many CPUs and how many bytes of memory this process may use.

use std::fs;
use std::path::Path;

use crate::units::Bytes;

/// What the process may use, and where the figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPUs, at least one; a cgroup quota counts.
    pub cpus: usize,
    /// Memory.
    pub memory: Bytes,
    /// `cgroup v2`, `cgroup v1` or `host`.
    pub memory_source: &'static str,
}

/// Where the kernel mounts the cgroup file systems.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Assumed where the system tells nothing.
const UNKNOWN_HOST_MEMORY: Bytes = Bytes(2 << 30);

/// Reads the limits of this process.
pub fn limits(cgroup_root: &Path) -> Limits {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let host = host_memory().unwrap_or(UNKNOWN_HOST_MEMORY);
    let files = [("memory.max", "cgroup v2"), ("memory/memory.limit_in_bytes", "cgroup v1")];
    // "max" does not parse, and the old file holds a number near 2^63 where there is no limit: both fall through.
    let limited = files.into_iter().find_map(|(file, source)| {
        let limit: u64 = fs::read_to_string(cgroup_root.join(file)).ok()?.trim().parse().ok()?;
        (limit < host.0).then_some((Bytes(limit), source))
    });
    let (memory, memory_source) = limited.unwrap_or((host, "host"));
    Limits { cpus, memory, memory_source }
}

/// Three quarters of the CPUs, rounded up: the rest waits for network and database.
pub fn default_workers(cpus: usize) -> usize {
    (cpus * 3).div_ceil(4).max(1)
}

/// Half of the memory, at most 1 GiB: the other half is for Arrow buffers on their way, code and the allocator.
pub fn default_memory_budget(memory: Bytes) -> Bytes {
    Bytes(memory.0 / 2).min(Bytes(1 << 30))
}

/// The most memory this process ever had resident.
pub fn peak_memory() -> Option<Bytes> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(Bytes(kibibytes * 1024))
}

fn host_memory() -> Option<Bytes> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(Bytes(kibibytes * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_limit_below_the_host_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("memory.max"), "268435456\n").unwrap();
        let limited = limits(root.path());
        assert_eq!((limited.memory, limited.memory_source), (Bytes(268_435_456), "cgroup v2"));
        fs::write(root.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(limits(root.path()).memory_source, "host");
        fs::create_dir(root.path().join("memory")).unwrap();
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "1073741824").unwrap();
        assert_eq!(limits(root.path()).memory_source, "cgroup v1");
    }

    #[test]
    fn workers_are_three_quarters_rounded_up() {
        let cases = [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6), (16, 12)];
        for (cpus, workers) in cases {
            assert_eq!(default_workers(cpus), workers, "{cpus} CPUs");
        }
    }
}

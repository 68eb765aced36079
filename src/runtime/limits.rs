//! Container and host → how many CPUs and how many bytes of memory this process may use, and who says so.

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use tracing::warn;

use crate::units::Bytes;

/// What the process may use, and where each figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPUs.
    pub cpus: Millicores,
    /// Who says so.
    pub cpu_source: LimitSource,
    /// Memory.
    pub memory: Bytes,
    /// Who says so.
    pub memory_source: LimitSource,
}

/// Thousandths of a CPU; at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millicores(pub u64);

/// Who sets a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSource {
    /// The configuration.
    Config,
    /// The unified hierarchy.
    CgroupV2,
    /// The older hierarchies, one per controller.
    CgroupV1,
    /// A variable that Kubernetes fills from the pod's resources.
    DownwardApi,
    /// The machine itself; of its CPUs those on which the process may run.
    Host,
}

/// The memory that a run plans with, and what of it is for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryShares {
    /// All of it.
    pub budget: Bytes,
    /// For chunks in flight, which come and go.
    pub chunks: Bytes,
    /// For footers, open days and rows that wait to be written, which grow with what the days hold.
    pub state: Bytes,
}

/// Where limits are looked for; tests put folders in place of the kernel's.
pub struct LimitPlaces<'a> {
    /// Where the cgroup file systems are mounted.
    pub cgroup_root: &'a Path,
    /// Where the process file system is mounted.
    pub proc_root: &'a Path,
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Millicores or cores that the pod asks for.
pub const CPU_REQUEST_VARIABLE: &str = "GRISTMILL_CPU_REQUEST";
/// Bytes that the pod may use.
pub const MEMORY_LIMIT_VARIABLE: &str = "GRISTMILL_MEMORY_LIMIT";

/// Assumed where the system tells nothing.
const UNKNOWN_HOST_MEMORY: Bytes = Bytes(2 << 30);
/// By default chunks take no more than this: it keeps any number of workers busy, whereas what a day holds has no such bound.
const MOST_FOR_CHUNKS: Bytes = Bytes(512 << 20);
/// The least that the kernel may allow. With 32 MiB a month of three million rows was read and written; with 24 MiB the kernel
/// was now and then quicker than whoever watches the memory here, and a process that it ends cannot say why.
pub const LEAST_MEMORY: Bytes = Bytes(32 << 20);
/// Nobody asks for less than a hundredth of a CPU: a smaller whole number counts CPUs.
const LEAST_MILLICORES: u64 = 10;

/// The limits of this process; a configured memory limit wins over whatever the system says.
pub fn limits(configured_memory: Option<Bytes>) -> Limits {
    let places = LimitPlaces {
        cgroup_root: Path::new("/sys/fs/cgroup"),
        proc_root: Path::new("/proc"),
        environment: &|name| std::env::var(name).ok(),
    };
    limits_in(&places, configured_memory)
}

/// The same, looked for in other places.
pub fn limits_in(places: &LimitPlaces<'_>, configured_memory: Option<Bytes>) -> Limits {
    let groups = Groups::of(places);
    let (cpus, cpu_source) = cpus(places, &groups);
    let (memory, memory_source) = match configured_memory {
        Some(configured) => (configured, LimitSource::Config),
        None => memory(places, &groups),
    };
    Limits { cpus, cpu_source, memory, memory_source }
}

/// Why the limit is too small to begin with, if it is one that the kernel keeps. One of the configuration only decides when the run
/// stops by itself.
pub fn too_little_memory(limits: &Limits) -> Option<String> {
    let is_kept_by_kernel = !matches!(limits.memory_source, LimitSource::Config | LimitSource::Host);
    (is_kept_by_kernel && limits.memory < LEAST_MEMORY).then(|| {
        format!(
            "the memory limit is {} ({}), at least {LEAST_MEMORY} are needed: below that the kernel may end the process before \
             it can say what for",
            limits.memory, limits.memory_source
        )
    })
}

/// Three quarters of the CPUs, rounded up: the rest waits for network and database.
pub fn default_workers(cpus: Millicores) -> usize {
    usize::try_from((cpus.0 * 3).div_ceil(4_000)).unwrap_or(usize::MAX).max(1)
}

/// The most memory this process ever had resident.
pub fn peak_memory() -> Option<Bytes> {
    kibibytes_of(Path::new("/proc/self/status"), "VmHWM:")
}

/// The memory that this process has resident now; where the kernel tells them apart, without pages that it can drop and read again,
/// such as those of the program itself.
pub fn resident_memory() -> Option<Bytes> {
    let status = Path::new("/proc/self/status");
    kibibytes_of(status, "RssAnon:").or_else(|| kibibytes_of(status, "VmRSS:"))
}

impl MemoryShares {
    /// A budget that somebody chose: each gets its half.
    pub fn of_budget(budget: Bytes) -> Self {
        let half = Bytes(budget.0 / 2);
        Self { budget, chunks: half, state: half }
    }

    /// The budget for a process that may use so much: half of it, since Arrow buffers on their way, code and the allocator
    /// need the other one. What chunks do not need of their half is for state.
    pub fn of_limit(memory: Bytes) -> Self {
        let halves = Self::of_budget(Bytes(memory.0 / 2));
        let chunks = halves.chunks.min(MOST_FOR_CHUNKS);
        Self { chunks, state: Bytes(halves.budget.0 - chunks.0), ..halves }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu_source = self.cpu_source.of_cpus();
        write!(f, "{} CPUs ({cpu_source}), {} of memory ({})", self.cpus, self.memory, self.memory_source)
    }
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1_000 {
            0 => write!(f, "{}", self.0 / 1_000),
            part => write!(f, "{}.{}", self.0 / 1_000, format!("{part:03}").trim_end_matches('0')),
        }
    }
}

impl LimitSource {
    /// Who says how many CPUs there are: the quota, the request, or the machine.
    pub fn of_cpus(self) -> &'static str {
        match self {
            LimitSource::Config => "configuration",
            LimitSource::CgroupV2 => "quota, cgroup v2",
            LimitSource::CgroupV1 => "quota, cgroup v1",
            LimitSource::DownwardApi => "request, downward API",
            LimitSource::Host => "host",
        }
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitSource::Config => "configuration",
            LimitSource::CgroupV2 => "cgroup v2",
            LimitSource::CgroupV1 => "cgroup v1",
            LimitSource::DownwardApi => "downward API",
            LimitSource::Host => "host",
        })
    }
}

/// The control groups of this process, as `self/cgroup` lists them.
struct Groups<'a> {
    root: &'a Path,
    /// Controllers, separated by commas (none in the unified hierarchy), and path of the group.
    entries: Vec<(String, PathBuf)>,
}

impl<'a> Groups<'a> {
    fn of(places: &LimitPlaces<'a>) -> Self {
        let text = fs::read_to_string(places.proc_root.join("self/cgroup")).unwrap_or_default();
        let entry = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), PathBuf::from(parts.next()?)))
        };
        Self { root: places.cgroup_root, entries: text.lines().filter_map(entry).collect() }
    }

    /// The smallest value that `read` finds in the process's group of the unified hierarchy or above it.
    fn least_v2(&self, read: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
        self.least(self.root, |controllers| controllers.is_empty(), read)
    }

    /// The same in the hierarchy of one controller, under whichever name it is mounted.
    fn least_v1(&self, controller: &str, read: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
        let has_it = |controllers: &str| controllers.split(',').any(|name| name == controller);
        let listed = self.entries.iter().map(|(controllers, _)| controllers.as_str()).find(|names| has_it(names));
        let mounts = [listed.unwrap_or(controller), controller, "cpu,cpuacct"];
        let mounts = mounts.iter().filter(|mount| has_it(mount));
        mounts.filter_map(|mount| self.least(&self.root.join(mount), has_it, &read)).min()
    }

    /// From the group up to the root of the mount: a limit above holds as well. In a container the listed path is often one
    /// of the host's and only the root is there; what does not exist says nothing.
    fn least(&self, mount: &Path, is_meant: impl Fn(&str) -> bool, read: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
        let path = self.entries.iter().find(|(controllers, _)| is_meant(controllers)).map(|(_, path)| path.as_path());
        let names = path.into_iter().flat_map(Path::components).filter_map(|component| match component {
            Component::Normal(name) => Some(Some(name)),
            // A group outside of what is mounted: nothing can be read of it.
            Component::ParentDir => Some(None),
            _ => None,
        });
        let names: Vec<_> = names.collect::<Option<Vec<_>>>().unwrap_or_default();
        let folder = |depth: usize| names[..depth].iter().fold(mount.to_owned(), |folder, name| folder.join(name));
        (0..=names.len()).filter_map(|depth| read(&folder(depth))).min()
    }
}

fn cpus(places: &LimitPlaces<'_>, groups: &Groups<'_>) -> (Millicores, LimitSource) {
    let host = host_cpus(places) * 1_000;
    let quota_v2 = || groups.least_v2(|folder| quota(&fs::read_to_string(folder.join("cpu.max")).ok()?));
    let quota_v1 = || {
        groups.least_v1("cpu", |folder| {
            let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
            quota(&format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?))
        })
    };
    // A quota decides wherever there is one, also if it allows more than a request asks for, or than the machine has.
    let quota = quota_v2().map(|quota| (quota, LimitSource::CgroupV2));
    let quota = quota.or_else(|| quota_v1().map(|quota| (quota, LimitSource::CgroupV1)));
    let request = || Some((variable(places, CPU_REQUEST_VARIABLE, millicores)?, LimitSource::DownwardApi));
    let said = quota.or_else(request).filter(|(cpus, _)| *cpus < host);
    let (cpus, source) = said.unwrap_or((host, LimitSource::Host));
    (Millicores(cpus.max(1)), source)
}

/// The CPUs on which the kernel lets this process run. The standard library's count has the quota in it, rounded to whole CPUs.
fn host_cpus(places: &LimitPlaces<'_>) -> u64 {
    let status = fs::read_to_string(places.proc_root.join("self/status")).unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let counted = list.and_then(cpu_count).filter(|count| *count > 0);
    counted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64))
}

/// `0-3,8` → 5
fn cpu_count(list: &str) -> Option<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').map(range).try_fold(0_u64, |sum, count| sum.checked_add(count?))
}

fn memory(places: &LimitPlaces<'_>, groups: &Groups<'_>) -> (Bytes, LimitSource) {
    let host = kibibytes_of(&places.proc_root.join("meminfo"), "MemTotal:").unwrap_or(UNKNOWN_HOST_MEMORY);
    // "max" does not parse, and the old file holds a number near 2^63 where there is no limit: both fall through.
    let number = |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit_v2 = || groups.least_v2(|folder| number(folder, "memory.max"));
    let limit_v1 = || groups.least_v1("memory", |folder| number(folder, "memory.limit_in_bytes"));
    let variable = || variable(places, MEMORY_LIMIT_VARIABLE, |text| text.parse().ok());
    let (bytes, source) = first_below(host.0, &limit_v2, &limit_v1, &variable);
    (Bytes(bytes), source)
}

/// The first source that says less than the machine has.
fn first_below(
    host: u64,
    v2: &dyn Fn() -> Option<u64>,
    v1: &dyn Fn() -> Option<u64>,
    downward_api: &dyn Fn() -> Option<u64>,
) -> (u64, LimitSource) {
    let sources: [(&dyn Fn() -> Option<u64>, LimitSource); 3] =
        [(v2, LimitSource::CgroupV2), (v1, LimitSource::CgroupV1), (downward_api, LimitSource::DownwardApi)];
    let mut said = sources.into_iter().filter_map(|(read, source)| Some((read()?, source)));
    said.find(|(value, _)| *value < host).unwrap_or((host, LimitSource::Host))
}

/// `50000 100000` → 500 millicores; `max` and −1 are no quota.
fn quota(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(|part| part.parse::<u64>().ok());
    let (quota, period) = (numbers.next()??, numbers.next()??);
    (period > 0).then(|| (quota.saturating_mul(1_000) / period).max(1))
}

/// `500m` and `0.5` as in a pod's resources; a whole number as the downward API gives it, in millicores or in CPUs.
fn millicores(text: &str) -> Option<u64> {
    if let Some(millicores) = text.strip_suffix('m') {
        return millicores.parse().ok();
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(if number < LEAST_MILLICORES { number * 1_000 } else { number });
    }
    let (whole, part) = text.split_once('.')?;
    let thousandths: String = part.chars().chain("000".chars()).take(3).collect();
    Some(whole.parse::<u64>().ok()?.checked_mul(1_000)? + thousandths.parse::<u64>().ok()?)
}

/// A variable that is set to a number above 0; anything else is passed over, as the pod runs all the same.
fn variable(places: &LimitPlaces<'_>, name: &str, parse: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = (places.environment)(name).filter(|text| !text.trim().is_empty())?;
    let number = parse(text.trim()).filter(|number| *number > 0);
    if number.is_none() {
        warn!(variable = name, "the variable is no quantity and is passed over");
    }
    number
}

fn kibibytes_of(file: &Path, name: &str) -> Option<Bytes> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(Bytes(kibibytes * 1024))
}

#[cfg(test)]
mod tests;

//! Folders in place of the kernel's → limits, for every source and every way in which a container shows its group.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A machine of folders: 8 GiB of memory, and as many CPUs as the real one.
struct Machine {
    folder: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

impl Machine {
    fn new(groups: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        machine.write("proc/self/cgroup", groups);
        machine.write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:         1 kB\n");
        machine
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn limits(&self, configured: Option<Bytes>) -> Limits {
        let (cgroup, proc) = (self.folder.path().join("cgroup"), self.folder.path().join("proc"));
        let variable = |name: &str| {
            let known = self.variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        };
        limits_in(&LimitPlaces { cgroup_root: &cgroup, proc_root: &proc, environment: &variable }, configured)
    }

    fn memory(&self) -> (Bytes, LimitSource) {
        let limits = self.limits(None);
        (limits.memory, limits.memory_source)
    }

    fn cpus(&self) -> (Millicores, LimitSource) {
        let limits = self.limits(None);
        (limits.cpus, limits.cpu_source)
    }
}

const HOST: (Bytes, LimitSource) = (Bytes(8 << 30), LimitSource::Host);

fn host_cpus() -> (Millicores, LimitSource) {
    let count = std::thread::available_parallelism().unwrap().get() as u64;
    (Millicores(count * 1_000), LimitSource::Host)
}

/// A machine with four CPUs on which the process may run.
fn machine_of_four(groups: &str) -> Machine {
    let machine = Machine::new(groups);
    machine.write(
        "proc/self/status",
        "Name:\tgristmill\nCpus_allowed:\t8f\nCpus_allowed_list:\t0-2,7\nMems_allowed:\t1\n",
    );
    machine
}

#[test]
fn cpus_of_the_host_are_those_on_which_the_process_may_run() {
    assert_eq!(machine_of_four("0::/\n").cpus(), (Millicores(4_000), LimitSource::Host));
    let cases = [("0", Some(1)), ("0-63", Some(64)), ("\t1,3-5 ", Some(4)), ("", None), ("x", None), ("5-3", None)];
    for (list, expected) in cases {
        assert_eq!(cpu_count(list), expected, "{list}");
    }
    // The kernel's own file, whatever quota this test runs under.
    let real = limits(None);
    assert!(real.cpus.0 <= 1_000 * cpu_count_of_this_process(), "{real}");
}

fn cpu_count_of_this_process() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    cpu_count(list).unwrap()
}

#[test]
fn a_quota_decides_before_a_request_and_a_request_before_the_host() {
    let v2 = |quota: &'static str| ("0::/\n", vec![("cgroup/cpu.max", quota)]);
    let v1 = |quota: &'static str| {
        let files = vec![("cgroup/cpu/cpu.cfs_quota_us", quota), ("cgroup/cpu/cpu.cfs_period_us", "100000\n")];
        ("1:cpu:/\n", files)
    };
    let none = ("0::/\n", vec![]);
    let cases = [
        // Quota 1.5 and request 500m: the process may compute on one and a half.
        (v2("150000 100000\n"), "500", (1_500, LimitSource::CgroupV2), "1.5 CPUs (quota, cgroup v2)"),
        (v1("150000\n"), "500", (1_500, LimitSource::CgroupV1), "1.5 CPUs (quota, cgroup v1)"),
        (v2("150000 100000\n"), "", (1_500, LimitSource::CgroupV2), "1.5 CPUs (quota, cgroup v2)"),
        (v2("50000 100000\n"), "2000", (500, LimitSource::CgroupV2), "0.5 CPUs (quota, cgroup v2)"),
        (v2("max 100000\n"), "500", (500, LimitSource::DownwardApi), "0.5 CPUs (request, downward API)"),
        (v1("-1\n"), "1500", (1_500, LimitSource::DownwardApi), "1.5 CPUs (request, downward API)"),
        (none.clone(), "500", (500, LimitSource::DownwardApi), "0.5 CPUs (request, downward API)"),
        // More than the machine has: the machine decides, and not a request below it.
        (v2("900000 100000\n"), "500", (4_000, LimitSource::Host), "4 CPUs (host)"),
        (none.clone(), "64000", (4_000, LimitSource::Host), "4 CPUs (host)"),
        (none, "", (4_000, LimitSource::Host), "4 CPUs (host)"),
    ];
    for ((groups, files), request, (millicores, source), text) in cases {
        let mut machine = machine_of_four(groups);
        files.iter().for_each(|(path, content)| {
            machine.write(path, content);
        });
        machine.variables = vec![(CPU_REQUEST_VARIABLE, request)];
        assert_eq!(machine.cpus(), (Millicores(millicores), source), "{files:?} {request}");
        let limits = machine.limits(None).to_string();
        assert!(limits.starts_with(text), "{limits}");
    }
}

#[test]
fn a_limit_below_the_least_is_refused_if_the_kernel_keeps_it() {
    let limits = |memory: u64, memory_source| Limits {
        cpus: Millicores(1_000),
        cpu_source: LimitSource::Host,
        memory: Bytes(memory),
        memory_source,
    };
    for source in [LimitSource::CgroupV2, LimitSource::CgroupV1, LimitSource::DownwardApi] {
        let text = too_little_memory(&limits(24 << 20, source)).unwrap();
        assert!(text.contains("24.0 MiB") && text.contains("32.0 MiB") && text.contains(&source.to_string()), "{text}");
        assert_eq!(too_little_memory(&limits(32 << 20, source)), None);
    }
    assert_eq!(too_little_memory(&limits(4 << 20, LimitSource::Config)), None);
    assert_eq!(too_little_memory(&limits(16 << 20, LimitSource::Host)), None);
}

#[test]
fn without_any_limit_the_machine_is_the_limit() {
    let machine = Machine::new("0::/\n");
    assert_eq!((machine.memory(), machine.cpus()), (HOST, host_cpus()));
    machine.write("cgroup/memory.max", "max\n").write("cgroup/cpu.max", "max 100000\n");
    assert_eq!((machine.memory(), machine.cpus()), (HOST, host_cpus()));
    // More than the machine has is no limit.
    machine.write("cgroup/memory.max", "9223372036854771712\n").write("cgroup/cpu.max", "99999999 1000\n");
    assert_eq!((machine.memory(), machine.cpus()), (HOST, host_cpus()));
}

#[test]
fn the_smallest_limit_between_the_group_and_the_root_counts_in_v2() {
    let machine = Machine::new("0::/kubepods.slice/pod7/container\n");
    let at = |group: &str, file: &str| format!("cgroup/{group}/{file}");
    machine
        .write(&at("kubepods.slice", "memory.max"), "4294967296")
        .write(&at("kubepods.slice/pod7", "memory.max"), "268435456\n")
        .write(&at("kubepods.slice/pod7/container", "memory.max"), "max\n")
        .write(&at("kubepods.slice/pod7", "cpu.max"), "75000 100000\n")
        .write(&at("kubepods.slice/pod7/container", "cpu.max"), "50000 100000\n");
    assert_eq!(machine.memory(), (Bytes(256 << 20), LimitSource::CgroupV2));
    assert_eq!(machine.cpus(), (Millicores(500), LimitSource::CgroupV2));
    assert_eq!(default_workers(machine.cpus().0), 1);
}

#[test]
fn a_namespaced_group_is_the_root_of_the_mount() {
    for groups in ["0::/\n", "0::/../../outside\n", "0::/kubepods/of-the-host/abc\n", ""] {
        let machine = Machine::new(groups);
        machine.write("cgroup/memory.max", "1073741824\n").write("cgroup/cpu.max", "25000 100000\n");
        assert_eq!(machine.memory(), (Bytes(1 << 30), LimitSource::CgroupV2), "{groups}");
        assert_eq!(machine.cpus(), (Millicores(250), LimitSource::CgroupV2), "{groups}");
    }
}

#[test]
fn v1_is_read_under_either_name_of_its_mounts() {
    for (groups, cpu_mount) in [
        ("4:memory:/a/b\n3:cpu,cpuacct:/a/b\n0::/\n", "cpu,cpuacct"),
        ("4:memory:/a/b\n3:cpuacct:/\n1:cpu:/a/b\n", "cpu"),
        ("4:memory:/a/b\n3:cpuacct,cpu:/a/b\n", "cpuacct,cpu"),
    ] {
        let machine = Machine::new(groups);
        machine
            .write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
            .write("cgroup/memory/a/memory.limit_in_bytes", "536870912\n")
            .write("cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n")
            .write(&format!("cgroup/{cpu_mount}/cpu.cfs_quota_us"), "-1\n")
            .write(&format!("cgroup/{cpu_mount}/cpu.cfs_period_us"), "100000\n")
            .write(&format!("cgroup/{cpu_mount}/a/b/cpu.cfs_quota_us"), "30000\n")
            .write(&format!("cgroup/{cpu_mount}/a/b/cpu.cfs_period_us"), "100000\n");
        assert_eq!(machine.memory(), (Bytes(512 << 20), LimitSource::CgroupV1), "{groups}");
        assert_eq!(machine.cpus(), (Millicores(300), LimitSource::CgroupV1), "{groups}");
    }
}

#[test]
fn the_downward_api_speaks_where_no_group_does() {
    let mut machine = Machine::new("0::/\n");
    machine.variables = vec![(CPU_REQUEST_VARIABLE, "250"), (MEMORY_LIMIT_VARIABLE, "268435456")];
    assert_eq!(machine.memory(), (Bytes(256 << 20), LimitSource::DownwardApi));
    assert_eq!(machine.cpus(), (Millicores(250), LimitSource::DownwardApi));
    machine.write("cgroup/memory.max", "1073741824\n").write("cgroup/cpu.max", "50000 100000\n");
    assert_eq!(machine.memory(), (Bytes(1 << 30), LimitSource::CgroupV2));
    assert_eq!(machine.cpus(), (Millicores(500), LimitSource::CgroupV2));
    // What is no quantity says nothing.
    let mut machine = Machine::new("");
    for (cpus, memory) in [("", ""), ("0", "0"), ("many", "256Mi"), ("-1", "-1")] {
        machine.variables = vec![(CPU_REQUEST_VARIABLE, cpus), (MEMORY_LIMIT_VARIABLE, memory)];
        assert_eq!((machine.memory(), machine.cpus()), (HOST, host_cpus()), "{cpus} {memory}");
    }
}

#[test]
fn a_configured_memory_limit_wins() {
    let machine = Machine::new("0::/\n");
    machine.write("cgroup/memory.max", "268435456\n");
    let limits = machine.limits(Some(Bytes(1 << 30)));
    assert_eq!((limits.memory, limits.memory_source), (Bytes(1 << 30), LimitSource::Config));
}

#[test]
fn requests_are_read_as_pods_write_them() {
    let cases = [("500m", 500), ("500", 500), ("2", 2_000), ("0.5", 500), ("1.25", 1_250), ("2000", 2_000), ("10", 10)];
    for (text, expected) in cases {
        assert_eq!(millicores(text), Some(expected), "{text}");
    }
    assert_eq!((millicores("x"), millicores("1.x"), millicores("")), (None, None, None));
}

#[test]
fn workers_are_three_quarters_rounded_up() {
    let cases =
        [(1, 1), (500, 1), (1_000, 1), (1_500, 2), (2_000, 2), (3_000, 3), (4_000, 3), (8_000, 6), (16_000, 12)];
    for (millicores, workers) in cases {
        assert_eq!(default_workers(Millicores(millicores)), workers, "{millicores} millicores");
    }
}

#[test]
fn limits_are_told_with_their_origin() {
    let machine = Machine::new("0::/\n");
    machine.write("cgroup/memory.max", "268435456\n").write("cgroup/cpu.max", "250000 1000000\n");
    assert_eq!(machine.limits(None).to_string(), "0.25 CPUs (quota, cgroup v2), 256 MiB of memory (cgroup v2)");
}

#[test]
fn this_process_has_limits_and_a_peak() {
    let real = limits(None);
    assert!(real.cpus.0 > 0 && real.memory.0 > 0);
    assert!(peak_memory().is_some_and(|peak| peak.0 > 1 << 20));
    assert!(resident_memory() <= peak_memory());
}

#[test]
fn a_chosen_budget_is_halved_and_the_default_grows_with_the_limit() {
    const MIB: u64 = 1 << 20;
    let shares = |shares: MemoryShares| [shares.budget, shares.chunks, shares.state].map(|bytes| bytes.0 / MIB);
    for (budget, expected) in [(1, [1, 0, 0]), (256, [256, 128, 128]), (8_192, [8_192, 4_096, 4_096])] {
        assert_eq!(shares(MemoryShares::of_budget(Bytes(budget * MIB))), expected, "{budget}");
    }
    let cases = [
        (256, [128, 64, 64]),
        (2_048, [1_024, 512, 512]),
        (8_192, [4_096, 512, 3_584]),
        (65_536, [32_768, 512, 32_256]),
    ];
    for (limit, expected) in cases {
        assert_eq!(shares(MemoryShares::of_limit(Bytes(limit * MIB))), expected, "{limit}");
    }
    assert_eq!(MemoryShares::of_limit(Bytes(7)), MemoryShares { budget: Bytes(3), chunks: Bytes(1), state: Bytes(2) });
}

//! Cluster, report and a stretch of a day → the rows of a raw report, one hour after the other.

use std::borrow::Cow;

use super::GenerateOptions;
use super::cluster::{Cluster, Pod};
use super::label_set::{LabelSet, RowLabels};
use super::random::{Draws, Topic};
use super::tables::Row;
use crate::schema::source::ReportType;
use crate::time::UsageDay;

/// Hours of a day; usage is reported per hour in UTC.
pub(super) const HOURS_PER_DAY: u64 = 24;
/// Seconds of an hour as a factor of metrics.
const HOUR_SECONDS: f64 = crate::units::SECONDS_PER_HOUR;
/// Milliseconds of an hour.
pub(super) const HOUR_MILLISECONDS: i64 = 3_600_000;
/// Key of the label that makes a pod's text its own.
const OWN_LABEL: &str = "statefulset_kubernetes_io_pod_name";

/// A period of usage: which rows exist at which hour.
#[derive(Debug)]
pub(super) struct Usage {
    cluster: Cluster,
    no_labels: LabelSet,
    first_day: UsageDay,
    hour_count: u64,
    pod_row_count: u64,
    own_labels: OwnLabels,
}

/// Which pods have a label that no other pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnLabels {
    /// None.
    Never,
    /// Every second one, the same all day.
    OfPod,
    /// Every second one, another one each hour.
    OfHour,
}

impl OwnLabels {
    /// What the options ask for.
    pub(super) fn of(options: &GenerateOptions) -> Self {
        match (options.hourly_labels, options.unique_labels) {
            (true, _) => Self::OfHour,
            (false, true) => Self::OfPod,
            (false, false) => Self::Never,
        }
    }
}

/// A stretch of the rows of one report and day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) report: ReportType,
    pub(super) day: UsageDay,
    /// Position of its first row in the day.
    pub(super) first_row: u64,
    pub(super) row_count: u64,
}

impl Usage {
    /// `pod_row_count` rows of pods, spread evenly over the hours of `day_count` days.
    pub(super) fn new(
        seed: u64,
        first_day: UsageDay,
        day_count: u32,
        pod_row_count: u64,
        own_labels: OwnLabels,
    ) -> Self {
        let hour_count = u64::from(day_count) * HOURS_PER_DAY;
        let cluster = Cluster::new(seed, pod_row_count.div_ceil(hour_count));
        let no_labels = LabelSet::new(Vec::new());
        Self { cluster, no_labels, first_day, hour_count, pod_row_count, own_labels }
    }

    /// Number of nodes.
    pub(super) fn node_count(&self) -> usize {
        self.cluster.nodes.len()
    }

    /// Number of namespaces.
    pub(super) fn namespace_count(&self) -> usize {
        self.cluster.namespaces.len()
    }

    /// How many rows a report has on a day.
    pub(super) fn rows_of_day(&self, report: ReportType, day: UsageDay) -> u64 {
        (0..HOURS_PER_DAY).map(|hour| self.rows_of_hour(report, self.hour_of(day) + hour)).sum()
    }

    /// Calls `take` with each row of the stretch in order.
    pub(super) fn each_row<'c, E>(
        &'c self,
        stretch: Stretch,
        mut take: impl FnMut(Row<'c>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut to_skip = stretch.first_row;
        let mut to_take = stretch.row_count;
        for hour in (0..HOURS_PER_DAY).map(|hour| self.hour_of(stretch.day) + hour) {
            let in_hour = self.rows_of_hour(stretch.report, hour);
            let skipped = to_skip.min(in_hour);
            let taken = to_take.min(in_hour - skipped);
            for index in skipped..skipped + taken {
                take(self.row(stretch.report, hour, index))?;
            }
            to_skip -= skipped;
            to_take -= taken;
        }
        assert!(to_take == 0, "a stretch lies within its day");
        Ok(())
    }

    /// Position of a day's first hour in the period.
    fn hour_of(&self, day: UsageDay) -> u64 {
        u64::from((day.0 - self.first_day.0).unsigned_abs()) * HOURS_PER_DAY
    }

    /// Pods that run in an hour: the rows are spread so that no hour has two more than another.
    fn slots_of_hour(&self, hour: u64) -> u64 {
        let rows_before = |hour: u64| u128::from(hour) * u128::from(self.pod_row_count) / u128::from(self.hour_count);
        let slots = rows_before(hour + 1) - rows_before(hour);
        u64::try_from(slots).expect("not more than all rows")
    }

    fn rows_of_hour(&self, report: ReportType, hour: u64) -> u64 {
        match report {
            ReportType::PodUsage => self.slots_of_hour(hour),
            ReportType::StorageUsage => {
                Cluster::claimed_volumes(self.slots_of_hour(hour)) + self.cluster.orphaned_volumes()
            }
            ReportType::NodeLabels => self.cluster.nodes.len() as u64,
            ReportType::NamespaceLabels => self.cluster.namespaces.len() as u64,
        }
    }

    fn row(&self, report: ReportType, hour: u64, index: u64) -> Row<'_> {
        let hour_since_1970 = u64::from(self.first_day.0.unsigned_abs()) * HOURS_PER_DAY + hour;
        let interval_start = i64::try_from(hour_since_1970).expect("a few million") * HOUR_MILLISECONDS;
        let (texts, labels, numbers) = match report {
            ReportType::PodUsage => self.pod_values(index, hour_since_1970),
            ReportType::StorageUsage => self.storage_values(index, hour, hour_since_1970),
            ReportType::NodeLabels => {
                let node = &self.cluster.nodes[position(index)];
                (vec![Cow::from(&node.name)], vec![shared(&node.labels)], Vec::new())
            }
            ReportType::NamespaceLabels => {
                let namespace = &self.cluster.namespaces[position(index)];
                (vec![Cow::from(&namespace.name)], vec![shared(&namespace.labels)], Vec::new())
            }
        };
        Row { interval_start, texts, labels, numbers }
    }

    /// Values in the order of `tables::pod_columns`.
    fn pod_values(&self, slot: u64, hour: u64) -> Values<'_> {
        let pod = self.cluster.pod(slot, hour);
        let deployment = &self.cluster.deployments[pod.deployment];
        let node = pod.node.map(|node| &self.cluster.nodes[node]);
        let mut draws = Draws::new(self.cluster.seed, Topic::PodHour, slot, hour);
        // A pod without a node asks for resources and uses none.
        let load = if node.is_some() { pod.load } else { 0.0 };
        let usage_cores = deployment.request_cores * load * (0.7 + 0.6 * draws.unit());
        let usage_bytes = deployment.request_bytes * load * (0.9 + 0.2 * draws.unit());
        // Counters of the kernel: microseconds of CPU, whole pages of memory.
        let usage_cpu = (usage_cores * HOUR_SECONDS * 1e6).round() / 1e6;
        let usage_memory = (usage_bytes / 4_096.0).round() * 4_096.0 * HOUR_SECONDS;
        let request_cpu = deployment.request_cores * HOUR_SECONDS;
        let request_memory = deployment.request_bytes * HOUR_SECONDS;
        let (cores, bytes) = node.map_or((0.0, 0.0), |node| (node.cpu_cores, node.memory_bytes));
        let numbers = vec![
            usage_cpu,
            request_cpu,
            request_cpu * deployment.limit_factor,
            usage_memory,
            request_memory,
            request_memory * deployment.limit_factor,
            cores,
            cores * HOUR_SECONDS,
            bytes,
            bytes * HOUR_SECONDS,
            usage_cpu.max(request_cpu),
            usage_memory.max(request_memory),
        ];
        let labels = vec![self.pod_labels(&pod, slot, hour)];
        let texts = vec![
            Cow::from(node.map_or("", |node| &node.name)),
            Cow::from(&self.cluster.namespaces[deployment.namespace].name),
            Cow::from(pod.name),
            Cow::from(node.map_or("", |node| node.role)),
            Cow::from(node.map_or("", |node| &node.resource_id)),
        ];
        (texts, labels, numbers)
    }

    /// With `unique_labels` every second slot behaves like a set of pods that each carry their own name as a label. Of the
    /// 83 k pods of ten million rows in five days that gives about 40 k distinct texts per file: plain pages.
    fn pod_labels(&self, pod: &Pod, slot: u64, hour_since_1970: u64) -> RowLabels<'_> {
        let deployment = &self.cluster.deployments[pod.deployment];
        let shared = if pod.is_canary { &deployment.canary_labels } else { &deployment.stable_labels };
        let own = match self.own_labels {
            OwnLabels::OfPod if slot % 2 == 1 => Some((OWN_LABEL, pod.name.clone())),
            OwnLabels::OfHour if slot % 2 == 1 => Some((OWN_LABEL, format!("{}-{hour_since_1970}", pod.name))),
            _ => None,
        };
        RowLabels { shared, own }
    }

    /// Values in the order of `tables::storage_columns`. The volumes of slots come first, then those without a claim.
    fn storage_values(&self, index: u64, hour: u64, hour_since_1970: u64) -> Values<'_> {
        let claimed_count = Cluster::claimed_volumes(self.slots_of_hour(hour));
        let volume = match index.checked_sub(claimed_count) {
            None => self.cluster.claimed_volume(index),
            Some(orphan) => self.cluster.orphaned_volume(orphan),
        };
        let mut texts = vec![Cow::from(""); 4];
        let mut claim_labels = shared(&self.no_labels);
        if let Some(slot) = volume.slot {
            let pod = self.cluster.pod(slot, hour_since_1970);
            let deployment = &self.cluster.deployments[pod.deployment];
            texts[0] = Cow::from(&self.cluster.namespaces[deployment.namespace].name);
            texts[3] = Cow::from(format!("data-{}-{slot}", deployment.name));
            claim_labels = shared(&deployment.claim_labels);
            if volume.is_mounted {
                texts[1] = Cow::from(pod.name);
                texts[2] = Cow::from(pod.node.map_or("", |node| &self.cluster.nodes[node].name));
            }
        }
        texts.extend([Cow::from(volume.name), volume.storage_class.into(), volume.driver.into(), volume.handle.into()]);
        let mut draws = Draws::new(self.cluster.seed, Topic::VolumeHour, index, hour_since_1970);
        let used_bytes = (volume.capacity_bytes * (0.3 + 0.1 * draws.unit())).round();
        let numbers = vec![
            volume.capacity_bytes,
            volume.capacity_bytes * HOUR_SECONDS,
            volume.capacity_bytes * HOUR_SECONDS,
            used_bytes * HOUR_SECONDS,
        ];
        let volume_labels = shared(self.cluster.volume_labels(volume.tier));
        (texts, vec![volume_labels, claim_labels], numbers)
    }
}

/// Texts, labels and numbers of a row.
type Values<'c> = (Vec<Cow<'c, str>>, Vec<RowLabels<'c>>, Vec<f64>);

/// Labels that a row has in common with others.
fn shared(shared: &LabelSet) -> RowLabels<'_> {
    RowLabels { shared, own: None }
}

fn position(index: u64) -> usize {
    usize::try_from(index).expect("counts of a cluster fit the address space")
}

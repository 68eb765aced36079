//! Size and seed → nodes, namespaces, deployments, and the pod that runs in a slot at a given hour.
//!
//! A slot is a place in which one pod follows another; how many slots there are decides how many rows an hour has.

use super::label_set::LabelSet;
use super::names::{API_SERVER_NAMESPACE, COMPONENTS, PLATFORM_NAMESPACES, PRODUCTS, STAGES, STORAGE_CLASSES, TEAMS};
use super::random::{Draws, Topic};

/// Pods on an average node.
const PODS_PER_NODE: u64 = 104;
/// Deployments of the largest cluster. With two label texts each of about 250 bytes they stay below the 1 MiB at which
/// a dictionary page overflows.
const MOST_DEPLOYMENTS: u64 = 1_500;
/// Namespaces of the largest cluster.
const MOST_NAMESPACES: u64 = 155;
/// One slot in ten has a volume; this is the first of them, past the API servers' slots.
const VOLUME_SLOT_STEP: u64 = 10;
const FIRST_VOLUME_SLOT: u64 = 3;
/// Kinds of volume.
const VOLUME_TIERS: [&str; 3] = ["hot", "warm", "cold"];
/// Bytes in a GiB and a MiB, as numbers of a report.
const GIB: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;

/// Everything about a cluster that does not change from hour to hour.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) seed: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) deployments: Vec<Deployment>,
    volume_labels: Vec<LabelSet>,
    master_count: usize,
    infra_count: usize,
    slot_count: u64,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) resource_id: String,
    pub(super) role: &'static str,
    pub(super) cpu_cores: f64,
    pub(super) memory_bytes: f64,
    pub(super) labels: LabelSet,
}

/// A project.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) name: String,
    pub(super) labels: LabelSet,
    is_platform: bool,
}

/// Pods that share labels, requests and limits.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) namespace: usize,
    pub(super) name: String,
    pub(super) stable_labels: LabelSet,
    pub(super) canary_labels: LabelSet,
    pub(super) claim_labels: LabelSet,
    pub(super) request_cores: f64,
    pub(super) request_bytes: f64,
    /// Limit divided by request; 0: no limit.
    pub(super) limit_factor: f64,
    /// Usage divided by request, on average.
    usual_load: f64,
    template_hash: String,
}

/// What runs in a slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pod {
    pub(super) deployment: usize,
    /// None while the pod waits for a node.
    pub(super) node: Option<usize>,
    pub(super) is_canary: bool,
    /// Usage divided by request.
    pub(super) load: f64,
    pub(super) name: String,
}

/// A volume; it belongs to a slot, or to none if its claim was deleted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Volume {
    pub(super) slot: Option<u64>,
    /// Whether a pod uses it.
    pub(super) is_mounted: bool,
    pub(super) name: String,
    pub(super) handle: String,
    pub(super) storage_class: &'static str,
    pub(super) driver: &'static str,
    pub(super) capacity_bytes: f64,
    /// Which of the cluster's kinds of volume it is.
    pub(super) tier: usize,
}

impl Cluster {
    /// A cluster in which `slot_count` pods run at the same time.
    pub(super) fn new(seed: u64, slot_count: u64) -> Self {
        let node_count = ((slot_count + PODS_PER_NODE / 2) / PODS_PER_NODE).max(3);
        let (master_count, infra_count) = if node_count < 6 { (1, 1) } else { (3, (node_count / 40).max(1)) };
        let namespace_count = (slot_count / 5).clamp(4, MOST_NAMESPACES);
        let deployment_count = (slot_count / 12).clamp(namespace_count, MOST_DEPLOYMENTS);
        let nodes = (0..node_count)
            .map(|index| {
                let role = match index {
                    _ if index < master_count => "master",
                    _ if index < master_count + infra_count => "infra",
                    _ => "worker",
                };
                Node::new(seed, index, role)
            })
            .collect();
        let namespaces: Vec<Namespace> = (0..position(namespace_count)).map(Namespace::new).collect();
        let deployments = (0..deployment_count).map(|index| Deployment::new(seed, index, &namespaces)).collect();
        Self {
            seed,
            nodes,
            namespaces,
            deployments,
            volume_labels: VOLUME_TIERS.iter().map(|tier| labels(&[("storage_tier", tier)])).collect(),
            master_count: position(master_count),
            infra_count: position(infra_count),
            slot_count,
        }
    }

    /// The pod in a slot; `hour` counts from 1970, so that overlapping periods agree.
    pub(super) fn pod(&self, slot: u64, hour: u64) -> Pod {
        if slot < self.master_count as u64 {
            return self.api_server(position(slot));
        }
        let mut of_slot = Draws::new(self.seed, Topic::Slot, slot, 0);
        // Squared: a few deployments have many pods, most have few. The first one is the API server's.
        let share = of_slot.unit() * of_slot.unit();
        let deployment = 1 + scaled(share, self.deployments.len() - 1);
        // Pods live for two to twenty days and do not all end at midnight.
        let lifetime_hours = 48 + of_slot.below(433) as u64;
        let generation = (hour + of_slot.below(480) as u64) / lifetime_hours;
        let declared = &self.deployments[deployment];

        let mut of_pod = Draws::new(self.seed, Topic::Pod, slot, generation);
        let first_node = if self.namespaces[declared.namespace].is_platform { 0 } else { self.application_nodes() };
        let node = first_node + of_pod.below(self.nodes.len() - first_node);
        let waits_for_node = slot % 401 == 7;
        let name = if slot % VOLUME_SLOT_STEP == FIRST_VOLUME_SLOT {
            format!("{}-{slot}", declared.name)
        } else {
            format!("{}-{}-{}{}", declared.name, declared.template_hash, of_pod.suffix(3), base_27(slot, generation))
        };
        Pod {
            deployment,
            node: (!waits_for_node).then_some(node),
            is_canary: of_pod.below(10) == 0,
            load: declared.usual_load * (0.6 + 0.8 * of_pod.unit()),
            name,
        }
    }

    /// How many volumes belong to the first `slot_count` slots.
    pub(super) fn claimed_volumes(slot_count: u64) -> u64 {
        (slot_count + VOLUME_SLOT_STEP - 1).saturating_sub(FIRST_VOLUME_SLOT) / VOLUME_SLOT_STEP
    }

    /// How many volumes have lost their claim.
    pub(super) fn orphaned_volumes(&self) -> u64 {
        Self::claimed_volumes(self.slot_count) / 50
    }

    /// A volume that belongs to a slot.
    pub(super) fn claimed_volume(&self, index: u64) -> Volume {
        self.volume(index, Some(FIRST_VOLUME_SLOT + index * VOLUME_SLOT_STEP))
    }

    /// A volume without a claim.
    pub(super) fn orphaned_volume(&self, index: u64) -> Volume {
        self.volume(u64::MAX - index, None)
    }

    /// Labels of volumes of a tier.
    pub(super) fn volume_labels(&self, tier: usize) -> &LabelSet {
        &self.volume_labels[tier]
    }

    /// Index of the first node that runs applications: masters and infra nodes come before it.
    fn application_nodes(&self) -> usize {
        self.master_count + self.infra_count
    }

    /// The API server's static pod on a master: never replaced.
    fn api_server(&self, master: usize) -> Pod {
        let name = format!("kube-apiserver-{}", self.nodes[master].name);
        Pod { deployment: 0, node: Some(master), is_canary: false, load: 0.7, name }
    }

    fn volume(&self, index: u64, slot: Option<u64>) -> Volume {
        let mut draws = Draws::new(self.seed, Topic::Volume, index, 0);
        let (high, low) = (draws.bits(), draws.bits());
        let (storage_class, driver) = draws.pick(&STORAGE_CLASSES);
        let tier = draws.below(VOLUME_TIERS.len());
        Volume {
            slot,
            is_mounted: slot.is_some() && draws.below(50) != 0,
            name: format!(
                "pvc-{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                high >> 32,
                (high >> 16) & 0xffff,
                (high >> 4) & 0xfff,
                low >> 52,
                low & 0xffff_ffff_ffff
            ),
            handle: format!("vol-0{:016x}", draws.bits()),
            storage_class,
            driver,
            capacity_bytes: draws.pick(&[1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0]) * GIB,
            tier,
        }
    }
}

impl Node {
    fn new(seed: u64, index: u64, role: &'static str) -> Self {
        let mut draws = Draws::new(seed, Topic::Node, index, 0);
        let name = format!("ip-10-{}-{}-{}.ec2.internal", index / 62_500, index / 250 % 250, index % 250 + 4);
        let zone = draws.pick(&["eu-central-1a", "eu-central-1b", "eu-central-1c"]);
        // Room for 104 pods of the sizes below.
        let (machine, cpu_cores, memory_gib) = match role {
            "master" => ("m6i.4xlarge", 16.0, 64.0),
            "infra" => ("m6i.8xlarge", 32.0, 128.0),
            _ => draws.pick(&[("m6i.16xlarge", 64.0, 256.0), ("m6i.24xlarge", 96.0, 384.0)]),
        };
        let labels = labels(&[
            ("kubernetes_io_arch", "amd64"),
            ("kubernetes_io_hostname", &name),
            ("node_kubernetes_io_instance_type", machine),
            ("node_role_kubernetes_io", role),
            ("topology_kubernetes_io_zone", zone),
            ("cost_center", draws.pick(&["cc-100", "cc-200", "cc-300"])),
        ]);
        let resource_id = format!("i-0{:016x}", draws.bits());
        Self { name, resource_id, role, cpu_cores, memory_bytes: memory_gib * GIB, labels }
    }
}

impl Namespace {
    /// The API server's namespace, then five applications for each namespace of the platform.
    fn new(index: usize) -> Self {
        let is_platform = index.is_multiple_of(6);
        let platform = index / 6;
        let application = index.saturating_sub(platform + 1);
        let (product, stage) = (PRODUCTS[application % PRODUCTS.len()], STAGES[application / PRODUCTS.len()]);
        let name = match platform {
            0 if is_platform => API_SERVER_NAMESPACE.to_owned(),
            _ if is_platform => PLATFORM_NAMESPACES[platform - 1].to_owned(),
            _ => format!("{product}-{stage}"),
        };
        let labels = if is_platform {
            labels(&[("kubernetes_io_metadata_name", &name), ("openshift_io_cluster_monitoring", "true")])
        } else {
            labels(&[("kubernetes_io_metadata_name", &name), ("environment", stage), ("product", product)])
        };
        Self { name, labels, is_platform }
    }
}

impl Deployment {
    /// Deployment 0 is the API server; the first ones fill all namespaces in order, so that none stays empty.
    fn new(seed: u64, index: u64, namespaces: &[Namespace]) -> Self {
        let mut draws = Draws::new(seed, Topic::Deployment, index, 0);
        let namespace = match position(index) {
            fixed if fixed < namespaces.len() => fixed,
            _ => 1 + draws.below(namespaces.len() - 1),
        };
        let component = draws.pick(&COMPONENTS);
        let name = if index == 0 { "kube-apiserver".to_owned() } else { format!("{component}-{index}") };
        let template_hash = draws.suffix(10);
        let team = draws.pick(&TEAMS);
        let optional_count = draws.below(5);
        let optional = [
            ("tier", draws.pick(&["frontend", "backend", "data"])),
            ("cost_center", draws.pick(&["cc-100", "cc-200", "cc-300", "cc-400"])),
            ("version", draws.pick(&["v1.4.2", "v2.0.0", "v2.1.7", "v3.0.1"])),
            ("app_kubernetes_io_managed_by", draws.pick(&["Helm", "argocd", ""])),
        ];
        let label_set = |track: &str| {
            // One deployment in a hundred has no labels at all.
            if index % 97 == 13 {
                return labels(&[]);
            }
            let mut pairs = vec![
                ("app", name.as_str()),
                ("app_kubernetes_io_name", component),
                ("pod_template_hash", template_hash.as_str()),
                ("environment", namespaces[namespace].name.rsplit('-').next().unwrap_or_default()),
                ("team", team),
            ];
            pairs.extend(&optional[..optional_count]);
            pairs.push(("track", track));
            labels(&pairs)
        };
        let stable_labels = label_set("stable");
        let canary_labels = label_set("canary");
        // One deployment in seven usually takes more than it asked for.
        let usual_load = if draws.below(7) == 0 { 0.9 + 0.7 * draws.unit() } else { 0.1 + 0.7 * draws.unit() };
        Self {
            namespace,
            claim_labels: labels(&[("app", &name), ("team", team)]),
            request_cores: draws.pick(&[0.01, 0.05, 0.1, 0.1, 0.2, 0.25, 0.5, 1.0]),
            request_bytes: draws.pick(&[64.0, 128.0, 256.0, 256.0, 512.0, 1_024.0, 2_048.0]) * MIB,
            limit_factor: draws.pick(&[0.0, 2.0, 2.0, 4.0]),
            usual_load,
            stable_labels,
            canary_labels,
            name,
            template_hash,
        }
    }
}

/// A set from borrowed pairs.
fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// A count of nodes, slots or deployments as a position in a list.
fn position(count: u64) -> usize {
    usize::try_from(count).expect("counts of a cluster fit the address space")
}

/// `share` (in [0, 1)) of a list of `length` items as a position in it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative and below `length`
fn scaled(share: f64, length: usize) -> usize {
    (share * length as f64) as usize
}

/// Slot and generation in letters, so that two pods of one deployment never share a name.
fn base_27(slot: u64, generation: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // Lifetimes are at least 48 hours: of 64 successive generations none is still there when its letter comes back.
    let mut rest = slot * 64 + generation % 64;
    let mut text = String::new();
    loop {
        text.push(char::from(LETTERS[position(rest % 27)]));
        rest /= 27;
        if rest == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_large_cluster_has_the_sizes_it_promises() {
        let cluster = Cluster::new(1, 83_333);
        assert_eq!(cluster.nodes.len(), 801);
        assert_eq!(cluster.namespaces.len(), 155);
        let names: BTreeSet<&str> = cluster.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
        assert_eq!(names.len(), 155, "names of namespaces differ");
        assert_eq!(Cluster::claimed_volumes(83_333), 8_333);
        assert_eq!(Cluster::claimed_volumes(0), 0);
        assert_eq!(Cluster::claimed_volumes(3), 0);
        assert_eq!(Cluster::claimed_volumes(4), 1);
    }

    #[test]
    fn label_texts_of_the_large_cluster_fit_one_dictionary_page() {
        let cluster = Cluster::new(1, 83_333);
        let mut texts = BTreeSet::new();
        for deployment in &cluster.deployments {
            for set in [&deployment.stable_labels, &deployment.canary_labels] {
                assert!(set.pairs().is_empty() || (6..=10).contains(&set.pairs().len()), "{}", set.pairs().len());
                texts.insert(set.json());
            }
        }
        // Each entry of a dictionary page is a length of four bytes and the text.
        let page_bytes: usize = texts.iter().map(|text| text.len() + 4).sum();
        assert!(page_bytes < 1 << 20, "{page_bytes}");
        assert!(texts.len() > 2_000, "{}", texts.len());
    }

    #[test]
    fn pods_live_for_days_and_are_then_replaced() {
        let cluster = Cluster::new(3, 1_000);
        let mut generations = 0;
        for slot in 500..600 {
            let names: BTreeSet<String> = (0..720).map(|hour| cluster.pod(slot, 480_000 + hour).name).collect();
            assert!(names.len() <= 16, "at least two days each: {}", names.len());
            generations += names.len();
        }
        assert!((200..1_000).contains(&generations), "{generations}");
    }

    #[test]
    fn pods_that_run_at_one_time_have_different_names() {
        let cluster = Cluster::new(3, 20_000);
        let names: BTreeSet<String> = (0..20_000).map(|slot| cluster.pod(slot, 480_000).name).collect();
        assert_eq!(names.len(), 20_000);
    }

    #[test]
    fn one_node_of_forty_says_that_it_is_infra() {
        let cluster = Cluster::new(3, 20_000);
        let is_infra = |node: &&Node| node.labels.json().contains(r#""node_role_kubernetes_io": "infra""#);
        assert_eq!(cluster.nodes.len(), 192);
        assert_eq!(cluster.nodes.iter().filter(is_infra).count(), 4);
    }

    #[test]
    fn masters_run_the_api_server_and_some_pods_have_no_node() {
        let cluster = Cluster::new(3, 1_000);
        for master in 0..3 {
            let pod = cluster.pod(master, 480_000);
            assert_eq!(pod.node, Some(position(master)));
            assert_eq!(cluster.namespaces[cluster.deployments[pod.deployment].namespace].name, API_SERVER_NAMESPACE);
        }
        let without_node = (0..1_000).filter(|slot| cluster.pod(*slot, 480_000).node.is_none()).count();
        assert_eq!(without_node, 3);
    }
}

//! Node roles of a window, derived from its usage where the reference's node table is not used.
//!
//! Source: contract of the OCP daily summary, section 3.3. Unlike the daily rollups this one belongs to a whole window: the
//! scans run per day like any other, `Roles` collects their small results.

use std::collections::{BTreeMap, BTreeSet};

use crate::rollups::declaration::{Grouped, Kernel, Key, Scan};
use crate::rollups::facts::NodeRole;
use crate::rollups::semantics::Semantics;
use crate::rollups::tables::{DayTables, NameId};
use crate::schema::source::{self as report, ReportType, SourceTable, Variant};
use crate::time::UsageDay;

const REPORTED: &str = "reported_roles";
const LABELLED: &str = "labelled_nodes";
/// The namespace that runs on control-plane nodes only.
const CONTROL_PLANE_NAMESPACE: &str = "openshift-kube-apiserver";
/// The entry that marks an infrastructure node among the node's labels.
const INFRA_ENTRY: (&str, &str) = ("node_role_kubernetes_io", "infra");

/// The scans of the rollup.
pub fn scans(semantics: Semantics, has_raw: impl Fn(ReportType) -> bool) -> Vec<Scan> {
    let table = |report_type| {
        let daily = semantics.reads_daily_objects() || !has_raw(report_type);
        SourceTable { report: report_type, variant: if daily { Variant::Daily } else { Variant::Raw } }
    };
    let distinct = |keys, text_maxima| {
        vec![Kernel::Grouped(Grouped { keys, only_named: None, sums: vec![], maxima: vec![], text_maxima })]
    };
    vec![
        Scan {
            name: LABELLED,
            table: table(ReportType::NodeLabels),
            kernels: distinct(
                vec![Key::Value(&report::NODE), Key::HasEntry(&report::NODE_LABELS, INFRA_ENTRY.0, INFRA_ENTRY.1)],
                vec![],
            ),
        },
        Scan {
            name: REPORTED,
            table: table(ReportType::PodUsage),
            kernels: distinct(
                vec![
                    Key::Value(&report::NODE),
                    Key::Value(&report::RESOURCE_ID),
                    Key::Equals(&report::NAMESPACE, CONTROL_PLANE_NAMESPACE),
                ],
                vec![&report::NODE_ROLE],
            ),
        },
    ]
}

/// What the days of a window say about its nodes.
#[derive(Debug, Default, Clone)]
pub struct Roles {
    /// (node, resource id) → greatest reported role, whether the control plane ran there.
    nodes: BTreeMap<(String, Option<String>), (Option<String>, bool)>,
    /// Nodes with a label row.
    labelled: BTreeSet<String>,
    /// Nodes whose labels say infra.
    infra: BTreeSet<String>,
    /// The nodes of each day's pods: only their roles reach its rows.
    of_days: BTreeMap<UsageDay, BTreeSet<(String, Option<String>)>>,
}

impl Roles {
    /// Adds what one day says.
    pub fn add_day(&mut self, tables: &DayTables<'_>) {
        let node_names = tables.names(report::NODE.name);
        let resource_ids = tables.names(report::RESOURCE_ID.name);
        let role_names = tables.names(report::NODE_ROLE.name);
        if let Some(table) = tables.grouped(LABELLED) {
            for group in 0..table.len() {
                let keys = table.keys_of(group);
                let Some(node) = node_names.text(NameId(keys[0])) else { continue };
                self.labelled.insert(node.to_owned());
                if keys[1] == 1 {
                    self.infra.insert(node.to_owned());
                }
            }
        }
        let of_day = self.of_days.entry(tables.day).or_default();
        if let Some(table) = tables.grouped(REPORTED) {
            for group in 0..table.len() {
                let keys = table.keys_of(group);
                let Some(node) = node_names.text(NameId(keys[0])) else { continue };
                let resource_id = resource_ids.text(NameId(keys[1])).map(str::to_owned);
                let role = role_names.text(table.text_maxima_of(group)[0]).map(str::to_owned);
                let pair = (node.to_owned(), resource_id);
                of_day.insert(pair.clone());
                let entry = self.nodes.entry(pair).or_default();
                entry.0 = entry.0.take().max(role);
                entry.1 |= keys[2] == 1;
            }
        }
    }

    /// One role per (node, resource id), sorted; nodes without any label row in the window have none.
    pub fn finish(&self) -> Vec<NodeRole> {
        let labelled = self.nodes.iter().filter(|((node, _), _)| self.labelled.contains(node));
        let roles = labelled.map(|((node, resource_id), (reported, control_plane))| {
            let role = reported.clone().unwrap_or_else(|| self.fallback(node, *control_plane).to_owned());
            NodeRole { node: node.clone(), resource_id: resource_id.clone(), role: Some(role) }
        });
        roles.collect()
    }

    /// Those of `all`, as `finish` gives them, that belong to nodes of each day. A day without any row is not there.
    pub fn of_days(&self, all: &[NodeRole]) -> BTreeMap<UsageDay, Vec<NodeRole>> {
        let of_day = |pairs: &BTreeSet<(String, Option<String>)>| {
            let mut roles = Vec::with_capacity(pairs.len());
            for (node, resource_id) in pairs {
                let place = all.binary_search_by(|role| (&role.node, &role.resource_id).cmp(&(node, resource_id)));
                roles.extend(place.ok().map(|index| all[index].clone()));
            }
            roles
        };
        self.of_days.iter().map(|(day, pairs)| (*day, of_day(pairs))).collect()
    }

    fn fallback(&self, node: &str, control_plane: bool) -> &'static str {
        if control_plane {
            "master"
        } else if self.infra.contains(node) {
            "infra"
        } else {
            "worker"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollups::ocp_daily_summary;

    /// The fingerprint of a day holds the roles of the nodes that this rollup sees on it. They are all that can reach the day's rows
    /// only as long as the daily summary takes its nodes from the same objects.
    #[test]
    fn nodes_come_from_the_objects_that_the_daily_summary_reads_its_pods_from() {
        for semantics in [Semantics::Balanced, Semantics::SelfHosted, Semantics::Trino] {
            for has_raw in [true, false] {
                let table_of =
                    |scans: Vec<Scan>, name: &str| scans.iter().find(|scan| scan.name == name).map(|scan| scan.table);
                let ours = table_of(scans(semantics, |_| has_raw), REPORTED);
                let theirs = table_of(ocp_daily_summary::scans(semantics, |_| has_raw), ocp_daily_summary::PODS);
                assert!(ours.is_some());
                assert_eq!(ours, theirs, "{semantics}");
            }
        }
    }

    #[test]
    fn a_day_has_the_roles_of_its_own_nodes() {
        let pair = |node: &str| (node.to_owned(), Some(format!("i-{node}")));
        let role = |node: &str| NodeRole {
            node: node.to_owned(),
            resource_id: Some(format!("i-{node}")),
            role: Some("worker".to_owned()),
        };
        let mut roles = Roles::default();
        roles.of_days.insert(UsageDay(1), BTreeSet::from([pair("a"), pair("c"), ("a".to_owned(), None)]));
        roles.of_days.insert(UsageDay(2), BTreeSet::from([pair("unlabelled")]));
        let of_days = roles.of_days(&[role("a"), role("b"), role("c")]);
        assert_eq!(of_days[&UsageDay(1)], [role("a"), role("c")]);
        assert_eq!(of_days[&UsageDay(2)], []);
    }
}

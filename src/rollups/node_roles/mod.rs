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
        if let Some(table) = tables.grouped(REPORTED) {
            for group in 0..table.len() {
                let keys = table.keys_of(group);
                let Some(node) = node_names.text(NameId(keys[0])) else { continue };
                let resource_id = resource_ids.text(NameId(keys[1])).map(str::to_owned);
                let role = role_names.text(table.text_maxima_of(group)[0]).map(str::to_owned);
                let entry = self.nodes.entry((node.to_owned(), resource_id)).or_default();
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

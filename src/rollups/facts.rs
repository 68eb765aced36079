//! Facts of a window that do not come from its usage rows: the reference data, as plain values.

/// A namespace pattern and the category it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CostCategory {
    /// SQL LIKE pattern over the whole namespace.
    pub namespace_pattern: String,
    /// Id of the category.
    pub cost_category_id: i32,
}

/// The role of one (node, resource id); a pair may occur more than once, the greatest role counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRole {
    /// Name of the node.
    pub node: String,
    /// The node's id at its cloud; null never joins.
    pub resource_id: Option<String>,
    /// `master`, `infra`, `worker`, something else, or null.
    pub role: Option<String>,
}

/// The small tables as one run uses them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceData {
    /// Enabled OCP keys, sorted and distinct, as read; the always-enabled key is added by the semantics.
    pub enabled_tag_keys: Vec<String>,
    /// Patterns, sorted.
    pub cost_categories: Vec<CostCategory>,
    /// Roles, sorted; empty until derived if they are derived.
    pub node_roles: Vec<NodeRole>,
    /// Stamped on every row; null where the reference keeps no report periods.
    pub report_period_id: Option<i32>,
}

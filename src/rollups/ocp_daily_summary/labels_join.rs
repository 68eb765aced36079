//! Label sets of nodes and namespaces and cost categories of namespaces, as the joins of the summary see them.
//!
//! Source: contract, sections 3.4.2, 3.4.4 and 3.5; table of behaviours, rows 10 to 13.

use hashbrown::HashMap;

use crate::labels::{LabelSetId, LabelStore};
use crate::rollups::facts::CostCategory;
use crate::rollups::like::{LikePattern, TrailingEscape};
use crate::rollups::tables::{LabelSetsTable, NameId, NameTable};

/// What an outer join with a label report yields where it finds nothing: one empty set.
const NO_SETS: [LabelSetId; 1] = [LabelSetId::EMPTY];

/// The label side of the joins of one day.
pub struct LabelJoin<'a> {
    nodes: HashMap<NameId, &'a [LabelSetId]>,
    namespaces: HashMap<NameId, &'a [LabelSetId]>,
    store: &'a LabelStore,
    merged: HashMap<[LabelSetId; 4], LabelSetId>,
}

impl<'a> LabelJoin<'a> {
    pub fn new(
        nodes: Option<&'a LabelSetsTable>,
        namespaces: Option<&'a LabelSetsTable>,
        store: &'a LabelStore,
    ) -> Self {
        let index = |table: Option<&'a LabelSetsTable>| {
            let rows = table.map_or(&[][..], |table| &table.rows);
            rows.iter().map(|(key, sets)| (*key, sets.as_slice())).collect()
        };
        Self { nodes: index(nodes), namespaces: index(namespaces), store, merged: HashMap::new() }
    }

    /// Label sets of a node; a null node joins nothing.
    pub fn node_sets(&self, node: NameId) -> &'a [LabelSetId] {
        self.nodes.get(&node).copied().unwrap_or(&NO_SETS)
    }

    /// Label sets of a namespace; a null namespace joins nothing.
    pub fn namespace_sets(&self, namespace: NameId) -> &'a [LabelSetId] {
        self.namespaces.get(&namespace).copied().unwrap_or(&NO_SETS)
    }

    /// Node ⊕ namespace ⊕ own ⊕ claim, later ones overriding; null if `own` or `claim` is null.
    pub fn merge(&mut self, node: LabelSetId, namespace: LabelSetId, own: LabelSetId, claim: LabelSetId) -> LabelSetId {
        if own == LabelSetId::NULL || claim == LabelSetId::NULL {
            return LabelSetId::NULL;
        }
        let store = self.store;
        let key = [node, namespace, own, claim];
        *self.merged.entry(key).or_insert_with(|| store.merge(&key))
    }
}

/// Which categories the namespaces of a day belong to.
pub struct Categories<'a> {
    patterns: Vec<(LikePattern, i32)>,
    names: &'a NameTable,
    known: HashMap<NameId, CategoryMatch>,
}

/// Categories of one namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CategoryMatch {
    /// Greatest id among the matching patterns.
    pub cost_category_id: Option<i32>,
    /// Number of matching patterns.
    pub pattern_count: u32,
}

impl<'a> Categories<'a> {
    pub fn new(categories: &[CostCategory], escape: bool, names: &'a NameTable) -> Self {
        let parse = |category: &CostCategory| {
            (LikePattern::parse(&category.namespace_pattern, escape), category.cost_category_id)
        };
        Self { patterns: categories.iter().map(parse).collect(), names, known: HashMap::new() }
    }

    /// Categories of a namespace of the day; null matches nothing.
    pub fn of(&mut self, namespace: NameId) -> Result<CategoryMatch, TrailingEscape> {
        if let Some(known) = self.known.get(&namespace) {
            return Ok(*known);
        }
        let mut found = CategoryMatch::default();
        if let Some(text) = self.names.text(namespace) {
            for id in self.all_of(text)? {
                found.pattern_count += 1;
                found.cost_category_id = found.cost_category_id.max(Some(id));
            }
        }
        self.known.insert(namespace, found);
        Ok(found)
    }

    /// Ids of all patterns that match a text, one per pattern.
    pub fn all_of(&self, text: &str) -> Result<Vec<i32>, TrailingEscape> {
        let mut ids = Vec::new();
        for (pattern, id) in &self.patterns {
            if pattern.matches(text)? {
                ids.push(*id);
            }
        }
        Ok(ids)
    }
}

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
    /// By id of the node.
    nodes: Vec<&'a [LabelSetId]>,
    /// By id of the namespace.
    namespaces: Vec<&'a [LabelSetId]>,
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
            let key_count = rows.iter().map(|(key, _)| key.0 as usize + 1).max().unwrap_or(0);
            let mut index = vec![&NO_SETS[..]; key_count];
            rows.iter().for_each(|(key, sets)| index[key.0 as usize] = sets);
            index
        };
        Self { nodes: index(nodes), namespaces: index(namespaces), store, merged: HashMap::new() }
    }

    /// Label sets of a node; a null node joins nothing.
    pub fn node_sets(&self, node: NameId) -> &'a [LabelSetId] {
        self.nodes.get(node.0 as usize).copied().unwrap_or(&NO_SETS)
    }

    /// Label sets of a namespace; a null namespace joins nothing.
    pub fn namespace_sets(&self, namespace: NameId) -> &'a [LabelSetId] {
        self.namespaces.get(namespace.0 as usize).copied().unwrap_or(&NO_SETS)
    }

    /// Node ⊕ namespace ⊕ own ⊕ claim, later ones overriding; null if `own` or `claim` is null.
    pub fn merge(&mut self, node: LabelSetId, namespace: LabelSetId, own: LabelSetId, claim: LabelSetId) -> LabelSetId {
        if own == LabelSetId::NULL || claim == LabelSetId::NULL {
            return LabelSetId::NULL;
        }
        if [node, namespace, claim] == [LabelSetId::EMPTY; 3] {
            return own;
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
    /// By id of the namespace; null until it was asked for.
    known: Vec<Option<CategoryMatch>>,
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
        Self { patterns: categories.iter().map(parse).collect(), names, known: Vec::new() }
    }

    /// Categories of a namespace of the day; null matches nothing.
    pub fn of(&mut self, namespace: NameId) -> Result<CategoryMatch, TrailingEscape> {
        let id = namespace.0 as usize;
        if let Some(Some(known)) = self.known.get(id) {
            return Ok(*known);
        }
        let mut found = CategoryMatch::default();
        if let Some(text) = self.names.text(namespace) {
            for id in self.all_of(text)? {
                found.pattern_count += 1;
                found.cost_category_id = found.cost_category_id.max(Some(id));
            }
        }
        if id >= self.known.len() {
            self.known.resize(self.names.len().max(id + 1), None);
        }
        self.known[id] = Some(found);
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

//! A number of a finished row that no decimal can hold → the report's own row that is to be named for it.
//!
//! Rows of unallocated capacity are computed: a user finds no such namespace in the report.

use super::batches::{DayColumns, name_position};
use super::decimal::{DecimalError, decimal};
use super::error::EnrichError;
use crate::rollups::ocp_daily_summary::{COLUMNS, ColumnValue, UsageRow, VolumeRow, place};
use crate::rollups::tables::NameId;
use crate::schema::source::{self, Column};

impl DayColumns {
    /// In the order of the rows, since that of the capacities depends on the order of arrival. Those of nodes go first: that of the
    /// cluster is their sum.
    pub(super) fn first_bad_capacity(&self) -> Option<EnrichError> {
        let positions = |is_of_cluster: bool| {
            COLUMNS.iter().filter_map(move |(name, value)| match value {
                ColumnValue::Capacity(position) if (*position >= NODE_CAPACITIES) == is_of_cluster => {
                    Some((*name, *position))
                }
                _ => None,
            })
        };
        let refused = |row: &UsageRow, position: usize| {
            let value = self.finish.capacities[row.capacity as usize][position]?;
            decimal(value, self.rounding).err()
        };
        let of_row = |row: &UsageRow| {
            positions(false).find_map(|(name, position)| {
                Some(self.refuse(name, self.place(row.namespace, row.node), refused(row, position)?))
            })
        };
        let of_cluster = |row: &UsageRow| {
            positions(true).find_map(|(name, position)| Some(self.refuse(name, place("", ""), refused(row, position)?)))
        };
        // Whatever an unallocated row has its node's own rows have as well.
        let rows = || self.finish.usage_order.iter().map(|at| &self.finish.usage[*at as usize]);
        let own = rows().filter(|row| !row.is_unallocated).find_map(of_row);
        own.or_else(|| rows().find_map(of_cluster)).or_else(|| rows().find_map(of_row))
    }

    /// A measure that cannot be stored. What is unallocated is computed from the rows of its node, so the first of these that
    /// cannot be stored either is named instead.
    #[cold]
    pub(super) fn refuse_measure(
        &self,
        column: &'static str,
        position: usize,
        row: &UsageRow,
        source: DecimalError,
    ) -> EnrichError {
        if !row.is_unallocated {
            return self.refuse(column, self.place(row.namespace, row.node), source);
        }
        let rows = self.finish.usage_order.iter().map(|at| &self.finish.usage[*at as usize]);
        let mut of_node = rows.filter(|other| other.node == row.node && !other.is_unallocated);
        let refused = of_node.find_map(|other| {
            let source = decimal(other.measure(position)?, self.rounding).err()?;
            Some(self.refuse(column, self.place(other.namespace, other.node), source))
        });
        refused.unwrap_or_else(|| self.refuse(column, self.place(NameId::NULL, row.node), source))
    }

    #[cold]
    pub(super) fn refuse_volume(&self, column: &'static str, row: &VolumeRow, source: DecimalError) -> EnrichError {
        let place = self.place(row.namespace, row.node);
        let name = |(column, id): (&Column, NameId)| {
            let (_, texts) = self.volume_names.iter().find(|(name, _)| *name == column.name)?;
            let (_, word) = source::PLACES.iter().find(|(known, _)| known.name == column.name)?;
            Some(format!(", {word} `{}`", texts.text(name_position(id))))
        };
        let names = [(&source::PERSISTENTVOLUMECLAIM, row.claim), (&source::PERSISTENTVOLUME, row.volume)];
        let names = names.into_iter().filter_map(name);
        self.refuse(column, place + &names.collect::<String>(), source)
    }

    fn refuse(&self, column: &'static str, place: String, source: DecimalError) -> EnrichError {
        EnrichError::Decimal { day: self.day, column, place, source }
    }

    fn place(&self, namespace: NameId, node: NameId) -> String {
        place(&self.namespaces.text(name_position(namespace)), &self.nodes.text(name_position(node)))
    }
}

/// Capacities of a node, which those of the cluster follow.
const NODE_CAPACITIES: usize = 4;

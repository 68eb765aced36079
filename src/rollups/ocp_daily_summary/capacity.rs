//! Hourly capacities of nodes → capacity of each node and of the cluster for the day, in hours.
//!
//! Source: contract, sections 3.4.3 and 3.5.

use hashbrown::HashMap;

use crate::rollups::arithmetic::{Arithmetic, ArithmeticError};
use crate::rollups::sum::CompensatedSum;
use crate::rollups::tables::{CapacityTable, NameId};
use crate::units::{GIBIBYTES_PER_BYTE, SECONDS_PER_HOUR};

/// Core-hours and GiB-hours; null where nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CapacityHours {
    pub cpu_core_hours: Option<f64>,
    pub memory_gigabyte_hours: Option<f64>,
}

/// Capacities of one day.
#[derive(Debug, Default)]
pub struct Capacities {
    nodes: HashMap<NameId, CapacityHours>,
    cluster: CapacityHours,
    missing_is_zero: bool,
}

impl Capacities {
    /// Converts a day's capacities. `table` is `None` where the raw pod report does not exist.
    /// Errors: names the node; null stands for the cluster.
    pub fn new(
        table: Option<&CapacityTable>,
        missing_is_zero: bool,
        arithmetic: Arithmetic,
    ) -> Result<Self, (NameId, ArithmeticError)> {
        let hours = |node, seconds| hours(seconds, arithmetic).map_err(|error| (node, error));
        let mut nodes = HashMap::new();
        let mut cluster: [Option<CompensatedSum>; 2] = [None, None];
        for (node, values) in table.map_or(&[][..], |table| &table.rows) {
            for (total, value) in cluster.iter_mut().zip(values) {
                if let Some(value) = value {
                    total.get_or_insert_default().add_sum(*value);
                }
            }
            nodes.insert(*node, hours(*node, [values[0], values[1]])?);
        }
        Ok(Self { nodes, cluster: hours(NameId::NULL, cluster)?, missing_is_zero })
    }

    /// Capacity of a node; a null node joins nothing.
    pub fn node(&self, node: NameId) -> CapacityHours {
        let known = if node == NameId::NULL { None } else { self.nodes.get(&node) };
        self.filled(known.copied().unwrap_or_default())
    }

    /// Capacity of all nodes together.
    pub fn cluster(&self) -> CapacityHours {
        self.filled(self.cluster)
    }

    fn filled(&self, hours: CapacityHours) -> CapacityHours {
        let fill = |value: Option<f64>| value.or(self.missing_is_zero.then_some(0.0));
        CapacityHours {
            cpu_core_hours: fill(hours.cpu_core_hours),
            memory_gigabyte_hours: fill(hours.memory_gigabyte_hours),
        }
    }
}

/// Core-seconds and byte-seconds to core-hours and GiB-hours.
fn hours(seconds: [Option<CompensatedSum>; 2], arithmetic: Arithmetic) -> Result<CapacityHours, ArithmeticError> {
    Ok(CapacityHours {
        cpu_core_hours: seconds[0].map(|sum| core_hours(sum.value(), arithmetic)).transpose()?,
        memory_gigabyte_hours: seconds[1].map(|sum| gigabyte_hours(sum.value(), arithmetic)).transpose()?,
    })
}

/// Core-seconds to core-hours.
pub fn core_hours(core_seconds: f64, arithmetic: Arithmetic) -> Result<f64, ArithmeticError> {
    arithmetic.quotient(core_seconds, SECONDS_PER_HOUR)
}

/// Byte-seconds to GiB-hours, divided first as the reference does.
pub fn gigabyte_hours(byte_seconds: f64, arithmetic: Arithmetic) -> Result<f64, ArithmeticError> {
    arithmetic.product(arithmetic.quotient(byte_seconds, SECONDS_PER_HOUR)?, GIBIBYTES_PER_BYTE)
}

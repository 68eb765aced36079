//! The CPU pool, the memory budget and the limits of the container.

pub mod cpu_pool;
pub mod limits;
pub mod memory_budget;

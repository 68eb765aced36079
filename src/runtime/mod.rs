//! The CPU pool, the memory budget, limits of the container, shutdown.

pub mod cpu_pool;
pub mod limits;

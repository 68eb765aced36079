//! Batches of a chunk → partial results per open day and lane.
//!
//! Knows kernels and column forms, no column by name. Ids are common to all workers of a day, so that their partial results
//! merge by key; nothing here depends on which worker sees a row.

mod capacity;
mod compile;
mod day;
mod grouped;
mod ids;
mod ingest;
mod key_trail;
mod label_sets;
mod members;
mod memory;
mod names;
mod odd_numbers;
mod texts;
mod trail;

pub use capacity::CapacityPartial;
pub use compile::{CompiledKernel, CompiledScan};
pub use day::{DayState, GroupCounts, KernelPartial, LabelColumnStats, LabelSettings};
pub use grouped::GroupedPartial;
pub use ingest::{Chunk, ChunkCounts, IngestError, ingest};
pub use label_sets::LabelSetsPartial;
pub use members::MembersPartial;
pub use memory::Account;
pub use names::{NameIds, NameStore};
pub use odd_numbers::{OddNumber, OddNumbers};

//! Logs, progress and the report of a run: what the person sees.

pub mod logs;
pub mod progress;
pub mod report;
pub mod report_file;

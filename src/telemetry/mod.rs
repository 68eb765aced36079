//! Logs, progress, metrics, health and the report of a run: what people, collectors and probes see.

pub mod health;
pub mod last_words;
pub mod logs;
pub mod metrics;
pub mod progress;
pub mod report;
pub mod report_file;
pub mod server;

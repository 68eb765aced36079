//! Logs, progress and the report of a run.

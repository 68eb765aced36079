//! PostgreSQL or configuration → the small tables of a run.

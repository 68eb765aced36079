//! A day's merged tables → rows in the target's schema.

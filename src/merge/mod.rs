//! The workers' partial groups of a day → one table, whatever the order was.

//! Configuration, listing and footers → which row groups of which objects make up each day, as a printable value.

//! Column bytes of one row group → record batches with dictionaries kept.

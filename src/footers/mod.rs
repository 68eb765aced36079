//! Objects → Parquet footers → the days each row group touches.

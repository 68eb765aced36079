//! A sound Parquet file → the same file with another footer, as other writers would have written it.

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};

/// Changes what the footer says of every column chunk; pages stay as they are.
pub fn with_chunks(file: &[u8], change: impl Fn(ColumnChunkMetaData) -> ColumnChunkMetaData) -> Vec<u8> {
    let length = u32::from_le_bytes(*file[..file.len() - 4].last_chunk().expect("a length")) as usize;
    let footer_start = file.len() - 8 - length;
    let footer = &file[footer_start..file.len() - 8];
    let mut builder = ParquetMetaDataReader::decode_metadata(footer).expect("a sound footer").into_builder();
    let mut row_groups = Vec::new();
    for row_group in builder.take_row_groups() {
        let mut row_group = row_group.into_builder();
        let columns = row_group.take_columns().into_iter().map(&change).collect();
        row_groups.push(row_group.set_column_metadata(columns).build().expect("as many columns"));
    }
    let metadata = builder.set_row_groups(row_groups).build();
    let mut changed = file[..footer_start].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &metadata).finish().expect("a footer");
    changed
}

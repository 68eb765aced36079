//! Texts that many rows share → Arrow columns of numbers beside one array that holds each text once.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType};

/// The type of a text column.
pub fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Distinct texts; a column refers to them by position.
#[derive(Debug, Clone)]
pub struct Texts {
    values: Arc<StringArray>,
}

/// The position that stands for null.
pub const NULL: u32 = u32::MAX;

impl Texts {
    /// The given texts in their order.
    /// Errors: more texts or bytes than Arrow's 32-bit offsets reach.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, ArrowError> {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            let end = i32::try_from(bytes.len()).map_err(|_| ArrowError::OffsetOverflowError(bytes.len()))?;
            ends.push(end);
        }
        i32::try_from(ends.len()).map_err(|_| ArrowError::OffsetOverflowError(ends.len()))?;
        let offsets = arrow_buffer::OffsetBuffer::new(ends.into());
        Ok(Self { values: Arc::new(StringArray::try_new(offsets, bytes.into(), None)?) })
    }

    /// Texts that lie one after the other; nothing is copied.
    /// Errors: as for [`Texts::new`].
    pub fn joined(text: String, ends: &[usize]) -> Result<Self, ArrowError> {
        let overflow = |end: usize| ArrowError::OffsetOverflowError(end);
        let end = |end: &usize| i32::try_from(*end).map_err(|_| overflow(*end));
        let offsets: Vec<i32> = std::iter::once(Ok(0)).chain(ends.iter().map(end)).collect::<Result<_, _>>()?;
        i32::try_from(offsets.len()).map_err(|_| overflow(offsets.len()))?;
        let offsets = arrow_buffer::OffsetBuffer::new(offsets.into());
        Ok(Self { values: Arc::new(StringArray::try_new(offsets, text.into_bytes().into(), None)?) })
    }

    /// Memory of the texts.
    pub fn held_bytes(&self) -> usize {
        self.values.get_array_memory_size()
    }

    /// One text; empty for null.
    pub fn text(&self, position: u32) -> String {
        let position = position as usize;
        if position < self.values.len() { self.values.value(position).to_owned() } else { String::new() }
    }

    /// A column of texts by position; `NULL` is null.
    pub fn column(&self, positions: impl Iterator<Item = u32>) -> Result<ArrayRef, ArrowError> {
        let mut has_null = false;
        let keys: Vec<i32> = positions
            .map(|position| {
                has_null |= position == NULL;
                position.cast_signed()
            })
            .collect();
        let nulls = has_null.then(|| keys.iter().map(|key| *key >= 0).collect::<NullBuffer>());
        let keys = Int32Array::try_new(keys.into(), nulls)?;
        let values: Arc<dyn Array> = Arc::<StringArray>::clone(&self.values);
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values)?))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use super::*;

    #[test]
    fn a_column_refers_to_its_texts() {
        let texts = Texts::new(["", "a", "bc"].into_iter()).unwrap();
        let column = texts.column([2, NULL, 0, 1, 2].into_iter()).unwrap();
        let column = column.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        assert_eq!(column.into_iter().collect::<Vec<_>>(), [Some("bc"), None, Some(""), Some("a"), Some("bc")]);
        assert!(texts.column([3].into_iter()).is_err());
    }
}

//! Text and label columns of a batch → ids of the day, each dictionary entry looked at once per row group and day.

use std::ops::Range;

use super::compile::{IdColumn, IdSource};
use super::day::{DayState, LabelColumnStats};
use super::texts::{KnownTexts, hash_of};
use crate::decode::{BatchColumn, LabelColumn, TextColumn};
use crate::labels::{LabelSetId, Outcome, Refusal, TextForm, form_of};
use crate::rollups::tables::NameId;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, ListArray, MapArray, StringArray, StringViewArray, StructArray};

/// Not looked at yet. Ids never get that far: a day with 2^32 names does not fit into memory.
const UNRESOLVED: u32 = u32::MAX;
/// A malformed text that is taken as `{}`; its rows are counted. No name or set has this id either.
const TAKEN_AS_EMPTY: u32 = u32::MAX - 1;

/// A label that is refused, and the row it was met in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedRow {
    /// Position within the batch.
    pub row: usize,
    /// Why.
    pub refusal: Refusal,
}

/// Ids of one column for one chunk and day.
#[derive(Debug)]
pub struct Translation {
    column: IdColumn,
    /// The dictionary that `codes` translates. Holding it keeps its address from being used again.
    dictionary: Option<StringArray>,
    codes: Vec<u32>,
    /// How many entries of `codes` are no ids: not looked at yet, or malformed.
    special_code_count: usize,
    /// Texts of the lane that came without a dictionary.
    pub texts: KnownTexts,
    /// How the column was read, if it holds labels.
    pub stats: LabelColumnStats,
}

impl Translation {
    /// Nothing translated yet in this chunk; `texts` are those that the lane knows of the column.
    pub fn new(column: IdColumn, texts: KnownTexts) -> Self {
        Self {
            column,
            dictionary: None,
            codes: Vec::new(),
            special_code_count: 0,
            texts,
            stats: LabelColumnStats::default(),
        }
    }

    /// What is remembered until the chunk ends, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.codes.len() * 4 + self.texts.state_bytes() + self.stats.hash_bytes()
    }

    /// The column that is translated.
    pub fn column(&self) -> IdColumn {
        self.column
    }

    /// Writes the ids of some rows.
    /// Errors: the first row whose labels are refused.
    pub fn translate(
        &mut self,
        day: &DayState,
        column: &BatchColumn,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        ids.clear();
        match column {
            BatchColumn::Absent | BatchColumn::Numbers(_) => {
                ids.resize(rows.len(), self.null_id(day));
                self.stats.null_rows += rows.len() as u64;
                Ok(())
            }
            BatchColumn::Text(text) | BatchColumn::Labels(LabelColumn::Text(text)) => {
                self.translate_text(day, text, rows, ids)
            }
            BatchColumn::Labels(LabelColumn::Map(map)) => self.translate_map(day, map, rows, ids),
            BatchColumn::Labels(LabelColumn::Entries(list)) => self.translate_list(day, list, rows, ids),
            BatchColumn::Labels(LabelColumn::Struct(fields)) => self.translate_struct(day, fields, rows, ids),
        }
    }

    fn null_id(&self, day: &DayState) -> u32 {
        match self.column.source {
            IdSource::Labels => day.labels.resolve_null().0,
            _ => 0,
        }
    }

    fn translate_text(
        &mut self,
        day: &DayState,
        text: &TextColumn,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        match text {
            TextColumn::Dictionary { codes, values } => self.translate_codes(day, codes, values, rows, ids),
            TextColumn::Views(views) => self.translate_views(day, views, rows, ids),
        }
    }

    /// Looks each used dictionary entry up once; unused entries are never looked at, so that rows outside of the window
    /// cannot raise an error.
    fn translate_codes(
        &mut self,
        day: &DayState,
        codes: &Int32Array,
        values: &StringArray,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        let is_known = self.dictionary.as_ref().is_some_and(|known| {
            known.len() == values.len()
                && known.value_data().as_ptr() == values.value_data().as_ptr()
                && known.value_offsets().as_ptr() == values.value_offsets().as_ptr()
        });
        if !is_known {
            self.dictionary = Some(values.clone());
            self.codes.clear();
            self.codes.resize(values.len(), UNRESOLVED);
            self.special_code_count = values.len();
        }
        let null_id = self.null_id(day);
        self.stats.text_rows += rows.len() as u64;
        let first_row = rows.start;
        let codes_of_rows = &codes.values()[rows];
        let nulls = codes.nulls().filter(|nulls| nulls.null_count() > 0);
        if nulls.is_none() {
            // Nearly always every entry was looked at before: one tight loop, and a second look only where that is not so.
            let table = self.codes.as_slice();
            ids.extend(codes_of_rows.iter().map(|code| table[code.unsigned_abs() as usize]));
            if self.special_code_count == 0 || ids.iter().all(|id| *id < TAKEN_AS_EMPTY) {
                return Ok(());
            }
            ids.clear();
        }
        for (row, code) in (first_row..).zip(codes_of_rows) {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                ids.push(null_id);
                self.note_null_text();
                continue;
            }
            // The Parquet reader has checked codes against the dictionary's length.
            let code = code.unsigned_abs() as usize;
            let mut id = self.codes[code];
            if id == UNRESOLVED {
                id = resolve(self.column, &mut self.stats, day, values.value(code))
                    .map_err(|refusal| RefusedRow { row, refusal })?;
                self.codes[code] = id;
                self.special_code_count -= usize::from(id != TAKEN_AS_EMPTY);
            }
            ids.push(if id == TAKEN_AS_EMPTY { self.counted_as_empty() } else { id });
        }
        Ok(())
    }

    fn translate_views(
        &mut self,
        day: &DayState,
        views: &StringViewArray,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        if self.column.source == IdSource::KnownNames {
            // Most names are unknown and look-ups add nothing: remembering them would cost more than looking again.
            let names = day.names(self.column.name).lock();
            let known = |row: usize| views.is_valid(row).then(|| names.find(views.value(row))).flatten();
            ids.extend(rows.map(|row| known(row).unwrap_or(NameId::NULL).0));
            return Ok(());
        }
        let null_id = self.null_id(day);
        self.stats.text_rows += rows.len() as u64;
        for row in rows {
            if views.is_null(row) {
                ids.push(null_id);
                self.note_null_text();
                continue;
            }
            let (column, stats) = (self.column, &mut self.stats);
            let id = self.texts.id_of(views.value(row), |text| resolve(column, stats, day, text));
            let id = id.map_err(|refusal| RefusedRow { row, refusal })?;
            ids.push(if id == TAKEN_AS_EMPTY { self.counted_as_empty() } else { id });
        }
        Ok(())
    }

    fn note_null_text(&mut self) {
        self.stats.text_rows -= 1;
        self.stats.null_rows += 1;
    }

    /// Counts a row whose malformed text is taken as the empty set.
    fn counted_as_empty(&mut self) -> u32 {
        self.stats.malformed_rows += 1;
        LabelSetId::EMPTY.0
    }

    fn translate_map(
        &mut self,
        day: &DayState,
        map: &MapArray,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        let (keys, values) = (map.keys(), map.values());
        for row in rows {
            if map.is_null(row) {
                ids.push(self.null_id(day));
                self.stats.null_rows += 1;
                continue;
            }
            let entries = range(map.value_offsets(), row);
            self.push_entries(day, row, pairs(keys, values, entries), ids)?;
        }
        Ok(())
    }

    fn translate_list(
        &mut self,
        day: &DayState,
        list: &ListArray,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        let entries = list.values().as_struct();
        for row in rows {
            if list.is_null(row) {
                ids.push(self.null_id(day));
                self.stats.null_rows += 1;
                continue;
            }
            let range = range(list.value_offsets(), row);
            self.push_entries(day, row, pairs(entries.column(0), entries.column(1), range), ids)?;
        }
        Ok(())
    }

    /// One field per key; a null field means that the row does not have the label, since a struct cannot leave it out.
    fn translate_struct(
        &mut self,
        day: &DayState,
        fields: &StructArray,
        rows: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        for row in rows {
            if fields.is_null(row) {
                ids.push(self.null_id(day));
                self.stats.null_rows += 1;
                continue;
            }
            let present = fields.fields().iter().zip(fields.columns()).filter_map(|(field, column)| {
                let value = text_at(column, row)?;
                Some((field.name().as_str(), Some(value)))
            });
            self.push_entries(day, row, present, ids)?;
            self.stats.map_rows -= 1;
            self.stats.struct_rows += 1;
        }
        Ok(())
    }

    fn push_entries<'a>(
        &mut self,
        day: &DayState,
        row: usize,
        entries: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        ids: &mut Vec<u32>,
    ) -> Result<(), RefusedRow> {
        self.stats.map_rows += 1;
        let id = match self.column.source {
            IdSource::HasEntry(key, value) => {
                // Of equal keys the last entry counts.
                let last = entries.filter(|(entry, _)| *entry == key).last();
                u32::from(last.is_some_and(|(_, text)| text == Some(value)))
            }
            _ => {
                let outcome = day.labels.resolve_entries(entries);
                let id = encode(outcome).map_err(|refusal| RefusedRow { row, refusal })?;
                if id == TAKEN_AS_EMPTY { self.counted_as_empty() } else { id }
            }
        };
        ids.push(id);
        Ok(())
    }

    /// Whether the column's values are label sets.
    pub fn is_labels(&self) -> bool {
        self.column.source == IdSource::Labels
    }
}

/// The id of a text that is met for the first time.
fn resolve(column: IdColumn, stats: &mut LabelColumnStats, day: &DayState, text: &str) -> Result<u32, Refusal> {
    match column.source {
        IdSource::Names => Ok(day.names(column.name).lock().add(text).0),
        IdSource::KnownNames => Ok(day.names(column.name).lock().find(text).map_or(NameId::NULL.0, |id| id.0)),
        IdSource::Equals(constant) => Ok(u32::from(text == constant)),
        IdSource::HasEntry(key, value) => Ok(u32::from(has_entry(text, key, value))),
        IdSource::Labels => {
            let texts = match form_of(text, day.label_rules()) {
                TextForm::Operator => &mut stats.operator_texts,
                TextForm::Json | TextForm::Blank => &mut stats.json_texts,
            };
            texts.insert(hash_of(text));
            encode(day.labels.resolve_text(Some(text)))
        }
    }
}

fn encode(outcome: Outcome) -> Result<u32, Refusal> {
    match outcome {
        Outcome::Set(id) => Ok(id.0),
        Outcome::TakenAsEmpty => Ok(TAKEN_AS_EMPTY),
        Outcome::Refused(refusal) => Err(refusal),
    }
}

/// The exact text `"key": "value"`, with the blank of the stored JSON (contract, section 3.3).
fn has_entry(text: &str, key: &str, value: &str) -> bool {
    text.contains(&format!("\"{key}\": \"{value}\""))
}

fn range(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize
}

fn pairs<'a>(
    keys: &'a ArrayRef,
    values: &'a ArrayRef,
    entries: Range<usize>,
) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    entries.filter_map(move |entry| Some((text_at(keys, entry)?, text_at(values, entry))))
}

fn text_at(array: &ArrayRef, at: usize) -> Option<&str> {
    let texts = array.as_string_opt::<i32>()?;
    texts.is_valid(at).then(|| texts.value(at))
}

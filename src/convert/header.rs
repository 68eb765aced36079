//! The header of a CSV → which report it is, and which field becomes which column.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::error::ConvertError;
use super::records::Fields;
use crate::schema::operator::{
    Content, Fold, GPU_MAX_SLICES, GPU_MODEL_NAME, INTERVAL_START, MIG_INSTANCE_ID, MIG_MEMORY_CAPACITY_MIB,
    MIG_PROFILE, MIG_SLICE_COUNT, MIG_STRATEGY, OperatorReport,
};

/// Columns that a header may have; reports have some thirty.
const MOST_COLUMNS: usize = 1_000;

/// What the rows of a file consist of.
#[derive(Debug)]
pub(super) struct Shape {
    /// The kind of report.
    pub(super) report: OperatorReport,
    /// Number of fields of each record.
    pub(super) field_count: usize,
    /// Fields that hold points in time.
    pub(super) times: Vec<TimeField>,
    /// Position of the interval's start among the times.
    pub(super) interval_start: usize,
    /// Fields that hold numbers.
    pub(super) numbers: Vec<NumberField>,
    /// Fields that hold texts.
    pub(super) texts: Vec<TextField>,
    /// Columns of the raw copy: first those of the header in its order, then derived ones.
    pub(super) columns: Vec<PartColumn>,
    /// Where the fields of a partitioned graphics processor are.
    pub(super) partitions: Option<PartitionFields>,
}

/// A field with a point in time.
#[derive(Debug)]
pub(super) struct TimeField {
    pub(super) field: usize,
    pub(super) name: &'static str,
}

/// A field with a number.
#[derive(Debug)]
pub(super) struct NumberField {
    pub(super) field: usize,
    /// Whether the row is dropped if it is too large.
    pub(super) is_limited: bool,
    /// What stands for a text that is no number; NaN becomes null.
    pub(super) otherwise: f64,
}

/// A field with a text.
#[derive(Debug)]
pub(super) struct TextField {
    pub(super) field: usize,
    pub(super) content: Content,
}

/// A column of the raw copy.
#[derive(Debug)]
pub(super) struct PartColumn {
    pub(super) name: String,
    pub(super) source: ColumnSource,
    pub(super) fold: Fold,
}

/// What a column is made from; positions among times, numbers or texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnSource {
    Time(usize),
    Number(usize),
    Text(usize),
    /// The greater of two numbers.
    Greater(usize, usize),
    /// Slices of a partition.
    Slices,
    /// Memory of a partition.
    SliceMemory,
    /// Most slices of the model.
    MostSlices,
}

/// Texts that say how a graphics processor is partitioned; positions among the texts.
#[derive(Debug)]
pub(super) struct PartitionFields {
    pub(super) model: usize,
    pub(super) profile: usize,
    /// The texts that are null for a model that cannot be partitioned, the profile included.
    pub(super) nulled: Vec<usize>,
}

impl Shape {
    /// Reads a header record.
    /// Errors: no known report, or a header that cannot be one.
    pub(super) fn of_header(file: &str, header: &str, fields: &Fields) -> Result<Self, ConvertError> {
        if fields.count() > MOST_COLUMNS {
            return Err(ConvertError::ReportUnknown { file: file.to_owned(), found: fields.count() });
        }
        let names: Vec<String> =
            (0..fields.count()).map(|index| column_name(fields.get(header, index), index)).collect();
        let mut known = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !known.insert(name.as_str())) {
            return Err(ConvertError::ColumnTwice { file: file.to_owned(), column: twice.clone() });
        }
        let report = OperatorReport::of_header(|name| known.contains(name))
            .ok_or_else(|| ConvertError::ReportUnknown { file: file.to_owned(), found: names.len() })?;
        Ok(Self::of_report(report, &names))
    }

    fn of_report(report: OperatorReport, names: &[String]) -> Self {
        let mut shape = Self {
            report,
            field_count: names.len(),
            times: Vec::new(),
            interval_start: 0,
            numbers: Vec::new(),
            texts: Vec::new(),
            columns: Vec::new(),
            partitions: None,
        };
        let is_partitioned = names.iter().any(|name| name == MIG_PROFILE);
        for (field, name) in names.iter().enumerate() {
            if !is_derived(report, name, is_partitioned) {
                shape.add_field(field, name);
            }
        }
        for effective in report.effective_usages() {
            let source = ColumnSource::Greater(shape.number(effective.usage), shape.number(effective.request));
            shape.add_column(effective.name, source, Fold::Sum);
        }
        if report == OperatorReport::GpuUsage && is_partitioned {
            shape.add_partitions();
        }
        shape
    }

    fn add_field(&mut self, field: usize, name: &str) {
        let column = self.report.column(name);
        let (content, fold) = column.map_or((Content::Text, Fold::Absent), |column| (column.content, column.fold));
        let source = match (content, column) {
            (Content::Time, Some(column)) => {
                if column.name == INTERVAL_START {
                    self.interval_start = self.times.len();
                }
                self.times.push(TimeField { field, name: column.name });
                ColumnSource::Time(self.times.len() - 1)
            }
            (Content::Metric | Content::LimitedMetric | Content::OptionalNumber, _) => {
                let otherwise = if content == Content::OptionalNumber { f64::NAN } else { 0.0 };
                self.numbers.push(NumberField { field, is_limited: content == Content::LimitedMetric, otherwise });
                ColumnSource::Number(self.numbers.len() - 1)
            }
            _ => {
                self.texts.push(TextField { field, content });
                ColumnSource::Text(self.texts.len() - 1)
            }
        };
        self.add_column(name, source, fold);
    }

    fn add_column(&mut self, name: &str, source: ColumnSource, fold: Fold) {
        self.columns.push(PartColumn { name: name.to_owned(), source, fold });
    }

    fn add_partitions(&mut self) {
        let text = |name| {
            self.column(name).and_then(|column| match column.source {
                ColumnSource::Text(position) => Some(position),
                _ => None,
            })
        };
        let model = text(GPU_MODEL_NAME).expect("the model is required of this report");
        let profile = text(MIG_PROFILE).expect("it is partitioned because the profile is there");
        let nulled = [MIG_PROFILE, MIG_INSTANCE_ID, MIG_STRATEGY].into_iter().filter_map(text).collect();
        self.partitions = Some(PartitionFields { model, profile, nulled });
        self.add_column(MIG_SLICE_COUNT, ColumnSource::Slices, Fold::Greatest);
        self.add_column(GPU_MAX_SLICES, ColumnSource::MostSlices, Fold::Greatest);
        self.add_column(MIG_MEMORY_CAPACITY_MIB, ColumnSource::SliceMemory, Fold::Greatest);
    }

    /// A column by name.
    pub(super) fn column(&self, name: &str) -> Option<&PartColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Position of a required metric among the numbers.
    fn number(&self, name: &str) -> usize {
        match self.column(name).map(|column| column.source) {
            Some(ColumnSource::Number(position)) => position,
            _ => unreachable!("effective usage is made from required metrics"),
        }
    }

    /// The columns of the raw copy; `with_partitions`: also those derived from the profiles of graphics processors.
    pub(super) fn raw_columns(&self, with_partitions: bool) -> impl Iterator<Item = (usize, &PartColumn)> {
        self.columns.iter().enumerate().filter(move |(_, column)| with_partitions || !column.source.is_partition())
    }

    /// The schema of the raw copy.
    pub(super) fn raw_schema(&self, with_partitions: bool) -> SchemaRef {
        let fields = self.raw_columns(with_partitions).map(|(_, column)| {
            let data_type = match column.source {
                ColumnSource::Time(_) => time_type(),
                ColumnSource::Text(_) => text_type(),
                _ => DataType::Float64,
            };
            Field::new(column.name.as_str(), data_type, true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

impl ColumnSource {
    fn is_partition(self) -> bool {
        matches!(self, ColumnSource::Slices | ColumnSource::SliceMemory | ColumnSource::MostSlices)
    }
}

/// Milliseconds without a zone: the reference's OCP timestamps do not carry the UTC flag.
pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// Texts with their dictionary, which Parquet knows as plain strings.
pub(super) fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

/// Whether a column of the header gives way to one that is computed.
fn is_derived(report: OperatorReport, name: &str, is_partitioned: bool) -> bool {
    let is_effective = report.effective_usages().iter().any(|effective| effective.name == name);
    let of_profile = [MIG_SLICE_COUNT, GPU_MAX_SLICES, MIG_MEMORY_CAPACITY_MIB].contains(&name);
    is_effective || (report == OperatorReport::GpuUsage && is_partitioned && of_profile)
}

/// A name as it is in Parquet: each run of other than letters, digits and `_` becomes `_`; lower case.
fn column_name(text: &str, index: usize) -> String {
    let mut name = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_alphanumeric() || character == '_' {
            name.extend(character.to_lowercase());
        } else if !name.ends_with('\u{1}') {
            // Marks the run: an underscore of the name itself must not swallow one that follows.
            name.push('\u{1}');
        }
    }
    if name.is_empty() { format!("unnamed_{index}") } else { name.replace('\u{1}', "_") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::records::Records;

    fn shape(header: &str) -> Result<Shape, ConvertError> {
        let line = format!("{header}\n");
        let mut fields = Fields::default();
        Records::new(&line).next_into(&mut fields);
        Shape::of_header("a.csv", &line, &fields)
    }

    const TIMES: &str = "report_period_start,report_period_end,interval_start,interval_end";

    #[test]
    fn a_header_decides_report_and_columns() {
        let shape = shape(&format!("node_labels,{TIMES},Extra Column!,node")).unwrap();
        assert_eq!(shape.report, OperatorReport::NodeLabels);
        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names[0], "node_labels");
        assert_eq!(names[5..], ["extra_column_", "node"]);
        assert_eq!(shape.columns[5].fold, Fold::Absent);
        assert_eq!(shape.times[shape.interval_start].field, 3);
        assert_eq!((shape.times.len(), shape.numbers.len(), shape.texts.len()), (4, 0, 3));
    }

    #[test]
    fn headers_of_no_report_and_repeated_columns_are_refused() {
        assert!(matches!(shape("a,b"), Err(ConvertError::ReportUnknown { found: 2, .. })));
        assert!(matches!(shape(""), Err(ConvertError::ReportUnknown { .. })));
        let twice = shape(&format!("{TIMES},node,node_labels,Node"));
        assert!(matches!(twice, Err(ConvertError::ColumnTwice { column, .. }) if column == "node"));
        assert!(matches!(shape(&"x,".repeat(2_000)), Err(ConvertError::ReportUnknown { found: 2_001, .. })));
    }

    #[test]
    fn names_are_normalised_as_the_reference_does() {
        let cases = [
            ("lineItem/UsageStartDate", "lineitem_usagestartdate"),
            ("usage.amount_in_pricing_units", "usage_amount_in_pricing_units"),
            ("a - b", "a_b"),
            ("a_-b", "a__b"),
            ("", "unnamed_7"),
        ];
        for (text, name) in cases {
            assert_eq!(column_name(text, 7), name);
        }
    }
}

//! The columns of each generated report, raw and daily (contract, sections 2.3 and 1.5), and a row of them.

use std::borrow::Cow;

use super::label_set::RowLabels;
use crate::schema::source::{self, Column, ReportType, Variant};

/// What a column holds and how the daily copy folds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// First instant of the row's month.
    PeriodStart,
    /// First instant of the month after it.
    PeriodEnd,
    /// First second of the hour, or of the day in the daily copy.
    IntervalStart,
    /// Last second of the hour; absent in the daily copy.
    IntervalEnd,
    /// A name that is part of the daily key.
    Key,
    /// A name of which the daily copy keeps the greatest.
    Greatest,
    /// A label set, part of the daily key.
    Labels,
    /// A number that the daily copy sums.
    Sum,
    /// A number of which the daily copy keeps the greatest.
    Maximum,
}

/// One column of a report.
#[derive(Debug, Clone, Copy)]
pub(super) struct GeneratedColumn {
    /// Name in the file.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) content: Content,
}

/// One row; texts, labels and numbers each in the order of their columns.
#[derive(Debug, Clone)]
pub(super) struct Row<'c> {
    /// Milliseconds since 1970.
    pub(super) interval_start: i64,
    pub(super) texts: Vec<Cow<'c, str>>,
    pub(super) labels: Vec<RowLabels<'c>>,
    pub(super) numbers: Vec<f64>,
}

/// Columns that no rollup reads, and so have no entry in the schema.
const REPORT_PERIOD_START: &str = "report_period_start";
const REPORT_PERIOD_END: &str = "report_period_end";
const INTERVAL_END: &str = "interval_end";
const CSI_DRIVER: &str = "csi_driver";

/// The columns of a report in file order.
pub(super) fn columns(report: ReportType, variant: Variant) -> Vec<GeneratedColumn> {
    let mut columns = vec![
        GeneratedColumn { name: REPORT_PERIOD_START, content: Content::PeriodStart },
        GeneratedColumn { name: REPORT_PERIOD_END, content: Content::PeriodEnd },
        GeneratedColumn { name: source::INTERVAL_START.name, content: Content::IntervalStart },
    ];
    if variant == Variant::Raw {
        columns.push(GeneratedColumn { name: INTERVAL_END, content: Content::IntervalEnd });
    }
    columns.extend(match report {
        ReportType::PodUsage => pod_columns(),
        ReportType::StorageUsage => storage_columns(),
        ReportType::NodeLabels => label_columns(&source::NODE, &source::NODE_LABELS),
        ReportType::NamespaceLabels => label_columns(&source::NAMESPACE, &source::NAMESPACE_LABELS),
    });
    columns
}

fn of(column: &Column, content: Content) -> GeneratedColumn {
    GeneratedColumn { name: column.name, content }
}

fn pod_columns() -> Vec<GeneratedColumn> {
    vec![
        of(&source::NODE, Content::Key),
        of(&source::NAMESPACE, Content::Key),
        of(&source::POD, Content::Key),
        of(&source::POD_USAGE_CPU_CORE_SECONDS, Content::Sum),
        of(&source::POD_REQUEST_CPU_CORE_SECONDS, Content::Sum),
        of(&source::POD_LIMIT_CPU_CORE_SECONDS, Content::Sum),
        of(&source::POD_USAGE_MEMORY_BYTE_SECONDS, Content::Sum),
        of(&source::POD_REQUEST_MEMORY_BYTE_SECONDS, Content::Sum),
        of(&source::POD_LIMIT_MEMORY_BYTE_SECONDS, Content::Sum),
        of(&source::NODE_CAPACITY_CPU_CORES, Content::Maximum),
        of(&source::NODE_CAPACITY_CPU_CORE_SECONDS, Content::Sum),
        of(&source::NODE_CAPACITY_MEMORY_BYTES, Content::Maximum),
        of(&source::NODE_CAPACITY_MEMORY_BYTE_SECONDS, Content::Sum),
        of(&source::NODE_ROLE, Content::Greatest),
        of(&source::RESOURCE_ID, Content::Greatest),
        of(&source::POD_LABELS, Content::Labels),
        of(&source::POD_EFFECTIVE_USAGE_CPU_CORE_SECONDS, Content::Sum),
        of(&source::POD_EFFECTIVE_USAGE_MEMORY_BYTE_SECONDS, Content::Sum),
    ]
}

fn storage_columns() -> Vec<GeneratedColumn> {
    vec![
        of(&source::NAMESPACE, Content::Key),
        of(&source::POD, Content::Key),
        of(&source::NODE, Content::Key),
        of(&source::PERSISTENTVOLUMECLAIM, Content::Key),
        of(&source::PERSISTENTVOLUME, Content::Key),
        of(&source::STORAGECLASS, Content::Key),
        GeneratedColumn { name: CSI_DRIVER, content: Content::Key },
        of(&source::CSI_VOLUME_HANDLE, Content::Key),
        of(&source::PERSISTENTVOLUMECLAIM_CAPACITY_BYTES, Content::Maximum),
        of(&source::PERSISTENTVOLUMECLAIM_CAPACITY_BYTE_SECONDS, Content::Sum),
        of(&source::VOLUME_REQUEST_STORAGE_BYTE_SECONDS, Content::Sum),
        of(&source::PERSISTENTVOLUMECLAIM_USAGE_BYTE_SECONDS, Content::Sum),
        of(&source::PERSISTENTVOLUME_LABELS, Content::Labels),
        of(&source::PERSISTENTVOLUMECLAIM_LABELS, Content::Labels),
    ]
}

fn label_columns(name: &Column, labels: &Column) -> Vec<GeneratedColumn> {
    vec![of(name, Content::Key), of(labels, Content::Labels)]
}

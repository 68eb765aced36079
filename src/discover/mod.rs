//! Key layout → the objects of a window, listed concurrently.
//!
//! All prefixes are listed at once (the store bounds the requests). Objects are chosen by folder and by the rule in `objects.rs` alone; what
//! a file name says is kept as a hint and never decides about rows.

mod names;
mod neighbours;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::ErrorKind;
use crate::schema::source::{SourceTable, Variant};
use crate::store::{Entry, ObjectRef, Store, StoreError};
use crate::time::{BillingMonth, UsageDay};
use crate::units::Bytes;

pub use names::ManifestName;
pub use neighbours::what_is_there;
pub use objects::{PassedOver, Role};

/// The objects of a window.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Objects sorted by key, each key once.
    pub objects: Vec<Arc<ObjectInfo>>,
    /// Objects under the prefixes that are no reports.
    pub passed_over: PassedOver,
}

/// One object with the table and month its folder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Key, starting with `data/`, exactly as it is in the bucket.
    pub key: String,
    /// The table its folder belongs to.
    pub table: SourceTable,
    /// The month its folder belongs to.
    pub month: BillingMonth,
    /// Size at listing time; may be 0.
    pub size: Bytes,
    /// Entity tag at listing time.
    pub etag: Option<String>,
    /// Time of the last upload.
    pub last_modified: DateTime<Utc>,
    /// What the file name says, if it has the reference's form. A hint: rows are never chosen by it.
    pub manifest: Option<ManifestName>,
}

impl ObjectInfo {
    /// What the store needs to read exactly this object.
    pub fn reference(&self) -> ObjectRef<'_> {
        let (etag, last_modified) = (self.etag.as_deref(), self.last_modified);
        ObjectRef { key: &self.key, size: self.size, etag, last_modified }
    }
}

/// Objects of one table and day that come from different deliveries, by their file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoManifests {
    /// The table.
    pub table: SourceTable,
    /// The month whose folder holds them.
    pub month: BillingMonth,
    /// The day in the file names.
    pub day: UsageDay,
    /// The deliveries, sorted; at least two.
    pub manifest_ids: Vec<String>,
}

/// A prefix could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The storage refuses or does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

crate::impl_failure!(DiscoverError);

impl DiscoverError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DiscoverError::Store(error) => error.kind(),
        }
    }
}

impl Listing {
    /// The objects of one table in one month, sorted by key.
    pub fn of(&self, table: SourceTable, month: BillingMonth) -> impl Iterator<Item = &Arc<ObjectInfo>> {
        self.objects.iter().filter(move |object| object.table == table && object.month == month)
    }
}

/// Lists every table of every month of one cluster. No object at all is not an error here.
pub async fn discover(
    store: &Store,
    org_id: &str,
    source: Uuid,
    months: &[BillingMonth],
    tables: &[SourceTable],
) -> Result<Listing, DiscoverError> {
    let folders: BTreeSet<(SourceTable, BillingMonth)> =
        tables.iter().flat_map(|table| months.iter().map(move |month| (*table, *month))).collect();
    let lists = folders.into_iter().map(|(table, month)| async move {
        let prefix = prefix(org_id, source, table, month);
        let entries = store.list(&prefix).await?;
        Ok::<_, DiscoverError>((table, month, prefix.len(), entries))
    });
    let mut by_key = BTreeMap::new();
    let mut passed_over = PassedOver::default();
    for (table, month, prefix_bytes, entries) in futures::future::try_join_all(lists).await? {
        for entry in entries {
            match Role::of(entry.key.get(prefix_bytes..).unwrap_or_default(), entry.size) {
                // A page that repeats an entry must not make it count twice; the later one is the fresher one.
                Role::Report => _ = by_key.insert(entry.key.clone(), Arc::new(describe(entry, table, month))),
                role => passed_over.note(role, entry.key),
            }
        }
    }
    Ok(Listing { objects: by_key.into_values().collect(), passed_over })
}

/// The folder of one table and month, with a slash at its end (contract, section 1.1).
pub fn prefix(org_id: &str, source: Uuid, table: SourceTable, month: BillingMonth) -> String {
    let BillingMonth { year, month } = month;
    format!("{}source={source}/year={year:04}/month={month:02}/", sources_prefix(org_id, table))
}

/// The folder that has a folder for each source.
fn sources_prefix(org_id: &str, table: SourceTable) -> String {
    let daily = match table.variant {
        Variant::Raw => "",
        Variant::Daily => "daily/",
    };
    format!("data/parquet/{daily}{org_id}/OCP/{}/", table.report.folder())
}

/// Finds tables and days for which the file names show more than one delivery; sorted by table, month and day.
pub fn two_manifests(objects: &[Arc<ObjectInfo>]) -> Vec<TwoManifests> {
    let mut deliveries: BTreeMap<(SourceTable, BillingMonth, UsageDay), BTreeSet<&str>> = BTreeMap::new();
    for object in objects {
        if let Some(name) = &object.manifest {
            let manifest_ids = deliveries.entry((object.table, object.month, name.day)).or_default();
            manifest_ids.insert(name.manifest_id.as_str());
        }
    }
    let several = deliveries.into_iter().filter(|(_, manifest_ids)| manifest_ids.len() > 1);
    several
        .map(|((table, month, day), manifest_ids)| {
            let manifest_ids = manifest_ids.into_iter().map(str::to_owned).collect();
            TwoManifests { table, month, day, manifest_ids }
        })
        .collect()
}

fn describe(entry: Entry, table: SourceTable, month: BillingMonth) -> ObjectInfo {
    let manifest = ManifestName::of_key(&entry.key, table.report);
    let Entry { key, size, etag, last_modified } = entry;
    ObjectInfo { key, table, month, size, etag, last_modified, manifest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::source::ReportType;

    const RAW_PODS: SourceTable = SourceTable { report: ReportType::PodUsage, variant: Variant::Raw };
    const MONTH: BillingMonth = BillingMonth { year: 2025, month: 3 };

    fn object(file: &str) -> Arc<ObjectInfo> {
        let key = format!("{}{file}", prefix("org1", Uuid::nil(), RAW_PODS, MONTH));
        let entry = Entry { key, size: Bytes(1), etag: None, last_modified: DateTime::UNIX_EPOCH };
        Arc::new(describe(entry, RAW_PODS, MONTH))
    }

    #[test]
    fn prefixes_follow_the_key_layout() {
        let source = Uuid::from_u128(0xAB);
        let daily = SourceTable { report: ReportType::NodeLabels, variant: Variant::Daily };
        assert_eq!(
            prefix("1234567", source, RAW_PODS, MONTH),
            "data/parquet/1234567/OCP/pod_usage/source=00000000-0000-0000-0000-0000000000ab/year=2025/month=03/"
        );
        assert_eq!(
            prefix("1234567", source, daily, MONTH),
            "data/parquet/daily/1234567/OCP/node_labels/source=00000000-0000-0000-0000-0000000000ab/year=2025/month=03/"
        );
    }

    #[test]
    fn two_deliveries_of_a_day_are_found() {
        let objects = [
            object("pod_usage.2025-03-01.7.0_0.parquet"),
            object("pod_usage.2025-03-01.7.1_0.parquet"),
            object("pod_usage.2025-03-02.7.0_0.parquet"),
            object("pod_usage.2025-03-02.10.0_0.parquet"),
            object("something-else.parquet"),
        ];
        let found = two_manifests(&objects);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].day.to_string(), "2025-03-02");
        assert_eq!(found[0].manifest_ids, ["10", "7"]);
    }
}

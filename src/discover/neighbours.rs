//! A period without objects → what there is in its place, so that a mistyped uuid, organisation or month is seen at once.

use uuid::Uuid;

use super::sources_prefix;
use crate::schema::source::SourceTable;
use crate::store::{Store, StoreError};

/// Names that a message gives.
const NAMED: usize = 8;
/// Folders of reports, the organisation's among them.
const ROOT: &str = "data/parquet/";

/// What the folders above an empty one hold, as a phrase; empty if they hold nothing either, or cannot be listed.
pub async fn what_is_there(store: &Store, org_id: &str, source: Uuid, table: SourceTable) -> String {
    look(store, org_id, source, table).await.unwrap_or_default()
}

async fn look(store: &Store, org_id: &str, source: Uuid, table: SourceTable) -> Result<String, StoreError> {
    let above = sources_prefix(org_id, table);
    let sources = store.folders(&above).await?;
    if sources.is_empty() {
        let organisations: Vec<String> =
            store.folders(ROOT).await?.into_iter().filter(|name| name != "daily").collect();
        return Ok(match organisations.is_empty() {
            true => format!("`{ROOT}` has no folders at all"),
            false => format!("`{above}` is empty; the organisations there are {}", named(&organisations)),
        });
    }
    let own = format!("source={source}");
    if !sources.contains(&own) {
        return Ok(format!("`{above}` has {}", named(&sources)));
    }
    let mut months = Vec::new();
    for year in store.folders(&format!("{above}{own}/")).await? {
        let of_year = store.folders(&format!("{above}{own}/{year}/")).await?;
        months.extend(of_year.iter().map(|month| format!("{year}/{month}")));
    }
    Ok(format!("`{above}{own}/` has {}", if months.is_empty() { "no months".to_owned() } else { named(&months) }))
}

/// The last names of a sorted list, which are the latest months, and how many there are before them.
fn named(names: &[String]) -> String {
    let skipped = names.len().saturating_sub(NAMED);
    let list: Vec<String> = names[skipped..].iter().map(|name| format!("`{name}`")).collect();
    let more = if skipped == 0 { String::new() } else { format!("{skipped} others and ") };
    format!("{more}{}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_the_last_are_given() {
        let names: Vec<String> = (1..=10).map(|month| format!("month={month:02}")).collect();
        assert_eq!(named(&names[..2]), "`month=01`, `month=02`");
        assert!(named(&names).starts_with("2 others and `month=03`, `month=04`"), "{}", named(&names));
    }
}

//! A day of a source → advisory locks held to the end of the transaction, so that no two writers of it exist; and slots, so that
//! no more days are written at once than the database is to bear.

use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::ledger::DayKey;
use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::sql::TableName;

/// Takes the lock of the day, waiting no longer than the transaction's `lock_timeout`.
/// Errors: `LockBusy` if another transaction holds it all that time.
pub async fn lock_day(connection: &Connection, key: &DayKey) -> Result<(), PostgresError> {
    let action = format!("locking day {} of source {} in {}", key.day, key.source_uuid, key.target);
    let number = lock_number(key);
    connection.query(&action, "SELECT pg_catalog.pg_advisory_xact_lock($1)", &[(&number, Type::INT8)]).await?;
    Ok(())
}

/// Takes the reference's own locks as well: provider first, then cluster, the order in which it takes them itself.
pub async fn lock_like_the_reference(
    connection: &Connection,
    source_uuid: Uuid,
    cluster_id: &str,
) -> Result<(), PostgresError> {
    let provider = source_uuid.to_string();
    let sql = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext($1))";
    let action = format!("taking the reference's lock of source {source_uuid}");
    connection.query(&action, sql, &[(&provider, Type::TEXT)]).await?;
    let action = format!("taking the reference's lock of cluster {cluster_id}");
    connection.query(&action, sql, &[(&cluster_id, Type::TEXT)]).await?;
    Ok(())
}

/// Takes one of the slots that all writers of a table share; false if none is free. Waits for nobody.
pub async fn take_writer_slot(
    connection: &Connection,
    target: &TableName,
    slot_count: usize,
) -> Result<bool, PostgresError> {
    // The first lock that can be had ends the search.
    let sql = "SELECT slot FROM pg_catalog.unnest($1::bigint[]) AS slot \
               WHERE pg_catalog.pg_try_advisory_xact_lock(slot) LIMIT 1";
    let slots: Vec<i64> = (0..slot_count).map(|slot| slot_number(target, slot)).collect();
    let action = format!("taking a writer's slot of {target}");
    Ok(!connection.query(&action, sql, &[(&slots, Type::INT8_ARRAY)]).await?.is_empty())
}

/// The number of a day's lock.
pub(super) fn lock_number(key: &DayKey) -> i64 {
    let source: &[u8] = key.source_uuid.as_bytes();
    number(b"gristmill day\0", &[key.target.schema.as_bytes(), key.target.table.as_bytes(), source], key.day.0.into())
}

fn slot_number(target: &TableName, slot: usize) -> i64 {
    number(b"gristmill writer\0", &[target.schema.as_bytes(), target.table.as_bytes()], slot as i64)
}

/// The first eight bytes of a digest over a kind and its parts; lengths are part of it, so that no two keys share a text.
fn number(kind: &[u8], parts: &[&[u8]], last: i64) -> i64 {
    let mut hash = Sha256::new();
    hash.update(kind);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(last.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    i64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UsageDay;

    fn key(schema: &str, table: &str, day: i32) -> DayKey {
        DayKey { target: TableName::new(schema, table), source_uuid: Uuid::nil(), day: UsageDay(day) }
    }

    #[test]
    fn each_part_of_the_key_changes_the_lock() {
        let base = lock_number(&key("a", "bc", 1));
        assert_eq!(base, lock_number(&key("a", "bc", 1)));
        assert_ne!(base, lock_number(&key("ab", "c", 1)));
        assert_ne!(base, lock_number(&key("a", "bc", 2)));
        let other_source = DayKey { source_uuid: Uuid::from_u128(1), ..key("a", "bc", 1) };
        assert_ne!(base, lock_number(&other_source));
    }

    #[test]
    fn slots_are_of_a_table_and_no_days() {
        let (table, other) = (TableName::new("a", "bc"), TableName::new("ab", "c"));
        let base = slot_number(&table, 1);
        assert_eq!(base, slot_number(&table, 1));
        assert!(![slot_number(&table, 2), slot_number(&other, 1), lock_number(&key("a", "bc", 1))].contains(&base));
    }
}

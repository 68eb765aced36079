//! Days that several pods share → who holds which of them, until when, and under which token.
//!
//! All times are the database's. A claim is taken, renewed and given back by single statements that wait for no row's lock: a row
//! that is locked belongs to a day that is being written. Whoever lost a claim without noticing is stopped by its token, which the
//! day's transaction compares under the lock of the row.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::DayKey;
use super::lock::{lock_day, lock_number};
use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::sql::TableName;
use crate::time::UsageDay;

/// Who claims days, and for how long.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// Name of this process alone, as the ledger shows it.
    pub name: String,
    /// How long a claim holds without being renewed.
    pub lease: Duration,
}

/// A claim on a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Who holds it.
    pub claimed_by: String,
    /// Its token.
    pub token: i64,
    /// Seconds until it expires; negative once it has.
    pub expires_in_seconds: f64,
}

/// What the ledger says about a day that others may be at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Fingerprint of the rows and the run that wrote them; `None` if none are noted.
    pub written: Option<(Vec<u8>, Uuid)>,
    /// The claim on it, expired or not.
    pub claim: Option<Claim>,
    /// Whether somebody is in the middle of writing it; then its claim cannot be renewed and cannot be taken.
    pub is_being_written: bool,
}

/// What the writer of a day went by when it decided to write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Basis {
    /// The run that the ledger named for the day.
    pub last_run: Option<Uuid>,
    /// Token of the claim, where days are claimed.
    pub token: Option<i64>,
}

/// Whether a day may be written on that basis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody was there before.
    Write,
    /// Another run wrote the same rows meanwhile.
    AlreadyThere,
    /// The claim is somebody else's by now.
    ClaimLost,
}

impl Basis {
    /// `own_run` is the one that wants to write rows of this fingerprint. Without a standing the ledger does not know the day.
    pub fn verdict(self, own_run: Uuid, fingerprint: &[u8], standing: &Standing) -> Verdict {
        let token = standing.claim.as_ref().map(|claim| claim.token);
        match &standing.written {
            Some((found, run)) if Some(*run) != self.last_run && *run != own_run && found == fingerprint => {
                Verdict::AlreadyThere
            }
            _ if self.token.is_some() && self.token != token => Verdict::ClaimLost,
            _ => Verdict::Write,
        }
    }
}

/// Makes sure that the ledger has a row for each of some days; one that is written stays as it is.
pub async fn expect_days(
    connection: &Connection,
    target: &TableName,
    source_uuid: Uuid,
    days: &[UsageDay],
) -> Result<(), PostgresError> {
    let sql = "INSERT INTO gristmill.day_ledger (target_schema, target_table, source_uuid, usage_day) \
               SELECT $1, $2, $3, day FROM pg_catalog.unnest($4::date[]) AS day \
               ON CONFLICT (target_schema, target_table, source_uuid, usage_day) DO NOTHING";
    let dates: Vec<_> = days.iter().map(|day| day.date()).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&target.schema, Type::TEXT),
        (&target.table, Type::TEXT),
        (&source_uuid, Type::UUID),
        (&dates, Type::DATE_ARRAY),
    ];
    connection.execute("adding days to the ledger", sql, &parameters).await?;
    Ok(())
}

/// Claims a day that nobody holds and that nobody has written since `last_run`; answers the token, or `None`.
pub async fn claim(
    connection: &Connection,
    key: &DayKey,
    last_run: Option<Uuid>,
    claimant: &Claimant,
) -> Result<Option<i64>, PostgresError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&key.target.schema, Type::TEXT),
        (&key.target.table, Type::TEXT),
        (&key.source_uuid, Type::UUID),
        (&key.day.date(), Type::DATE),
        (&last_run, Type::UUID),
        (&claimant.name, Type::TEXT),
        (&claimant.lease.as_secs_f64(), Type::FLOAT8),
    ];
    let rows = connection.query(&format!("claiming day {}", key.day), CLAIM_SQL, &parameters).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Renews claims by their tokens; answers those that are still ours. One whose row is locked is being written, and nobody can take
/// it until that ends.
pub async fn renew(
    connection: &Connection,
    target: &TableName,
    tokens: &[i64],
    lease: Duration,
) -> Result<Vec<i64>, PostgresError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&target.schema, Type::TEXT),
        (&target.table, Type::TEXT),
        (&tokens, Type::INT8_ARRAY),
        (&lease.as_secs_f64(), Type::FLOAT8),
    ];
    let rows = connection.query("renewing claims", RENEW_SQL, &parameters).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Gives claims of a claimant back: those of some tokens, or all. Answers how many could not be, because their rows are locked.
pub async fn release(
    connection: &Connection,
    target: &TableName,
    claimed_by: &str,
    tokens: Option<&[i64]>,
) -> Result<i64, PostgresError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&target.schema, Type::TEXT),
        (&target.table, Type::TEXT),
        (&claimed_by, Type::TEXT),
        (&tokens, Type::INT8_ARRAY),
    ];
    Ok(connection.query_one("giving claims back", RELEASE_SQL, &parameters).await?.get(0))
}

/// What the ledger says about some days; a day that it does not have is absent.
pub async fn look(
    connection: &Connection,
    target: &TableName,
    source_uuid: Uuid,
    days: &[UsageDay],
) -> Result<BTreeMap<UsageDay, Standing>, PostgresError> {
    let dates: Vec<_> = days.iter().map(|day| day.date()).collect();
    let key = |day: &UsageDay| DayKey { target: target.clone(), source_uuid, day: *day };
    let locks: Vec<i64> = days.iter().map(|day| lock_number(&key(day))).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&target.schema, Type::TEXT),
        (&target.table, Type::TEXT),
        (&source_uuid, Type::UUID),
        (&dates, Type::DATE_ARRAY),
        (&locks, Type::INT8_ARRAY),
    ];
    let sql = [STANDING_SQL, BEING_WRITTEN_SQL].concat();
    let rows = connection.query("looking at days of others", &sql, &parameters).await?;
    let look = |row: &tokio_postgres::Row| Standing { is_being_written: row.get(6), ..standing(row) };
    Ok(rows.iter().map(|row| (UsageDay::from_date(row.get(0)), look(row))).collect())
}

/// Takes the lock of the day, then reads its row and locks that as well, both on one journey. The row is read by a statement of its
/// own, because one that waited for the lock would still see what was there before.
pub async fn lock_day_and_look(connection: &Connection, key: &DayKey) -> Result<Standing, PostgresError> {
    let sql = [STANDING_SQL, UNDER_LOCK_SQL].concat();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&key.target.schema, Type::TEXT),
        (&key.target.table, Type::TEXT),
        (&key.source_uuid, Type::UUID),
        (&key.day.date(), Type::DATE),
    ];
    let action = format!("reading day {} in the ledger", key.day);
    // Both are sent when they are first polled, in this order, and the server takes one after the other.
    let ((), rows) = try_join(lock_day(connection, key), connection.query(&action, &sql, &parameters)).await?;
    Ok(rows.first().map(standing).unwrap_or_default())
}

fn standing(row: &tokio_postgres::Row) -> Standing {
    let written: (Option<Vec<u8>>, Option<Uuid>) = (row.get(1), row.get(2));
    let claim: (Option<String>, Option<i64>, Option<f64>) = (row.get(3), row.get(4), row.get(5));
    Standing {
        written: written.0.zip(written.1),
        claim: claim.0.zip(claim.1).zip(claim.2).map(|((claimed_by, token), expires_in_seconds)| Claim {
            claimed_by,
            token,
            expires_in_seconds,
        }),
        is_being_written: false,
    }
}

const CLAIM_SQL: &str = "\
UPDATE gristmill.day_ledger SET claimed_by = $6, token = pg_catalog.nextval('gristmill.claim_token'), \
expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $7) \
WHERE id = (SELECT id FROM gristmill.day_ledger WHERE target_schema = $1 AND target_table = $2 AND source_uuid = $3 \
AND usage_day = $4 AND run_id IS NOT DISTINCT FROM $5 \
AND (expires_at IS NULL OR expires_at <= pg_catalog.clock_timestamp()) FOR UPDATE SKIP LOCKED) RETURNING token";

/// The outer SELECT sees the rows as they were before: what has another token there was lost.
const RENEW_SQL: &str = "\
WITH renewed AS (UPDATE gristmill.day_ledger \
SET expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4) \
WHERE id IN (SELECT id FROM gristmill.day_ledger WHERE target_schema = $1 AND target_table = $2 AND token = ANY ($3) \
FOR UPDATE SKIP LOCKED)) \
SELECT token FROM gristmill.day_ledger WHERE target_schema = $1 AND target_table = $2 AND token = ANY ($3)";

const RELEASE_SQL: &str = "\
WITH free AS (SELECT id FROM gristmill.day_ledger WHERE target_schema = $1 AND target_table = $2 AND claimed_by = $3 \
AND ($4::bigint[] IS NULL OR token = ANY ($4)) FOR UPDATE SKIP LOCKED), \
released AS (UPDATE gristmill.day_ledger SET claimed_by = NULL, token = NULL, expires_at = NULL \
WHERE id IN (SELECT id FROM free) RETURNING id) \
SELECT count(*) - (SELECT count(*) FROM released) FROM gristmill.day_ledger \
WHERE target_schema = $1 AND target_table = $2 AND claimed_by = $3 AND ($4::bigint[] IS NULL OR token = ANY ($4))";

/// Goes on with one of the two below.
const STANDING_SQL: &str = "\
SELECT usage_day, CASE WHEN status = 'written' THEN fingerprint END, CASE WHEN status = 'written' THEN run_id END, \
claimed_by, token, extract(epoch FROM expires_at - pg_catalog.clock_timestamp())::float8";

const UNDER_LOCK_SQL: &str = " FROM gristmill.day_ledger \
WHERE target_schema = $1 AND target_table = $2 AND source_uuid = $3 AND usage_day = $4 FOR UPDATE";

/// Whoever writes a day holds its lock; the view shows the two halves of its number.
const BEING_WRITTEN_SQL: &str = ", EXISTS (SELECT FROM pg_catalog.pg_locks AS held \
WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1 \
AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
AND (held.classid::bigint << 32) | held.objid::bigint = wanted.number) \
FROM gristmill.day_ledger JOIN ROWS FROM (pg_catalog.unnest($4::date[]), pg_catalog.unnest($5::bigint[])) AS wanted (day, number) \
ON usage_day = wanted.day \
WHERE target_schema = $1 AND target_table = $2 AND source_uuid = $3";

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Uuid = Uuid::from_u128(1);
    const BEFORE: Uuid = Uuid::from_u128(2);
    const OTHER: Uuid = Uuid::from_u128(3);

    fn standing(written: Option<(&[u8], Uuid)>, token: Option<i64>) -> Standing {
        let claim = |token| Claim { claimed_by: "somebody".to_owned(), token, expires_in_seconds: -1.0 };
        Standing {
            written: written.map(|(bytes, run)| (bytes.to_vec(), run)),
            claim: token.map(claim),
            is_being_written: false,
        }
    }

    #[test]
    fn what_another_run_wrote_meanwhile_is_there_already_and_everything_else_is_written() {
        let basis = Basis { last_run: Some(BEFORE), token: None };
        let verdict = |written| basis.verdict(OWN, b"new", &standing(written, None));
        assert_eq!(verdict(Some((b"new", OTHER))), Verdict::AlreadyThere);
        assert_eq!(verdict(Some((b"old", OTHER))), Verdict::Write, "other rows than ours");
        assert_eq!(verdict(Some((b"new", BEFORE))), Verdict::Write, "known before, and to be written all the same");
        assert_eq!(verdict(Some((b"new", OWN))), Verdict::Write, "our own, once more");
        assert_eq!(verdict(None), Verdict::Write);
        let first = Basis::default().verdict(OWN, b"new", &standing(Some((b"new", OTHER)), None));
        assert_eq!(first, Verdict::AlreadyThere);
    }

    #[test]
    fn only_the_own_token_writes_even_after_its_time() {
        let basis = Basis { last_run: Some(BEFORE), token: Some(7) };
        let verdict = |written, token| basis.verdict(OWN, b"new", &standing(written, token));
        assert_eq!(verdict(Some((b"old", BEFORE)), Some(7)), Verdict::Write, "expired, and taken by nobody");
        assert_eq!(verdict(Some((b"old", BEFORE)), Some(8)), Verdict::ClaimLost);
        assert_eq!(verdict(Some((b"old", OTHER)), None), Verdict::ClaimLost, "written and given back");
        assert_eq!(verdict(Some((b"new", OTHER)), None), Verdict::AlreadyThere);
    }
}

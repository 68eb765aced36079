//! A target that does something else with rows than to store them: noticed before the commit, named, and the old day stays.

use gristmill::config::Postgres;
use gristmill::error::{ErrorKind, Failure};
use gristmill::sink::Sink;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{OCTOBER, count, ready_database, sink, target};
use crate::day_rows::{day, pod_rows};

const DAY: &str = "2025-10-01";
const OLD_ROWS: usize = 5;
const PARTITION: &str = "tenant.reporting_ocpusagelineitem_daily_summary_2025_10";

/// A day that lies in the target.
struct Bed {
    config: Postgres,
    client: Client,
    source: Uuid,
}

impl Bed {
    async fn new() -> Self {
        let (config, client) = ready_database().await;
        let source = Uuid::new_v4();
        sink(&config, source).replace(pod_rows(day(DAY), source, OLD_ROWS, 1, None)).await.unwrap();
        Self { config, client, source }
    }

    /// Writes other rows for the day, which must fail.
    async fn failure(&self) -> Failure {
        let rows = pod_rows(day(DAY), self.source, 9, 1, None);
        let failure =
            sink(&self.config, self.source).replace(rows).await.expect_err("the rows are not those that were sent");
        assert_eq!(
            count(&self.client, &format!("SELECT count(*) FROM {}", target(&self.config))).await,
            OLD_ROWS as i64
        );
        let recorded = count(&self.client, "SELECT sum(row_count)::bigint FROM gristmill.day_ledger").await;
        assert_eq!(recorded, OLD_ROWS as i64);
        failure
    }

    async fn trigger(&self, when: &str, on: &str, body: &str) {
        let sql = format!(
            "CREATE FUNCTION tenant.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; \
             CREATE TRIGGER meddle {when} ON {on} FOR EACH ROW EXECUTE FUNCTION tenant.meddle()"
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    async fn is_altered(&self, parts: &[&str]) {
        let failure = self.failure().await;
        assert_eq!((failure.kind, failure.kind.exit_code()), (ErrorKind::RowsAltered, 78), "{}", failure.full_text());
        for part in parts.iter().chain(&["rolled back", "drop or disable what the message names"]) {
            assert!(failure.full_text().contains(part), "{part} is not in {}", failure.full_text());
        }
    }
}

#[tokio::test]
async fn a_trigger_that_drops_rows_is_named() {
    let bed = Bed::new().await;
    let once = "IF nextval('tenant.seen') % 3 = 0 THEN RETURN NULL; END IF; RETURN new;";
    bed.client.batch_execute("CREATE SEQUENCE tenant.seen").await.unwrap();
    bed.trigger("BEFORE INSERT", PARTITION, once).await;
    bed.is_altered(&["9 rows were sent, 6 rows are there (COPY)", &format!("trigger meddle on {PARTITION}")]).await;
}

#[tokio::test]
async fn a_trigger_that_moves_rows_to_another_day_is_named() {
    let bed = Bed::new().await;
    bed.trigger("BEFORE INSERT", PARTITION, "new.usage_start := new.usage_start + 1; RETURN new;").await;
    bed.is_altered(&["9 rows were sent, 0 rows are there (rows of the day's scope)", "trigger meddle on"]).await;
}

#[tokio::test]
async fn a_trigger_that_changes_a_measure_is_named() {
    let bed = Bed::new().await;
    bed.trigger("BEFORE INSERT", &target(&bed.config), "new.pod_usage_cpu_core_hours := 0; RETURN new;").await;
    bed.is_altered(&["column `pod_usage_cpu_core_hours` sums to 0", "trigger meddle on tenant."]).await;
}

#[tokio::test]
async fn a_trigger_that_marks_rows_as_those_of_a_later_step_is_named() {
    let bed = Bed::new().await;
    bed.trigger("BEFORE INSERT", PARTITION, "new.monthly_cost_type := 'Node'; RETURN new;").await;
    bed.is_altered(&["0 rows are there", "trigger meddle on"]).await;
}

#[tokio::test]
async fn a_trigger_that_deletes_what_was_just_written_is_named() {
    let bed = Bed::new().await;
    let body = format!("DELETE FROM {PARTITION} WHERE uuid = new.uuid; RETURN NULL;");
    bed.trigger("AFTER INSERT", PARTITION, &body).await;
    bed.is_altered(&["0 rows are there", "trigger meddle on"]).await;
}

#[tokio::test]
async fn a_trigger_or_rule_that_keeps_the_old_rows_is_named() {
    let bed = Bed::new().await;
    bed.trigger("BEFORE DELETE", PARTITION, "RETURN NULL;").await;
    bed.is_altered(&["9 rows were sent, 14 rows are there", "trigger meddle on"]).await;
    bed.client.batch_execute(&format!("DROP TRIGGER meddle ON {PARTITION}")).await.unwrap();
    let rule = format!("CREATE RULE keep AS ON DELETE TO {} DO INSTEAD NOTHING", target(&bed.config));
    bed.client.batch_execute(&rule).await.unwrap();
    bed.is_altered(&["9 rows were sent, 14 rows are there", "rule keep on tenant."]).await;
}

#[tokio::test]
async fn a_trigger_that_leaves_rows_alone_and_one_that_is_disabled_do_no_harm() {
    let bed = Bed::new().await;
    bed.trigger("BEFORE INSERT", PARTITION, "RETURN new;").await;
    let other = format!(
        "CREATE FUNCTION tenant.drop_all() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER drop_all \
         BEFORE INSERT ON {PARTITION} FOR EACH ROW EXECUTE FUNCTION tenant.drop_all(); \
         ALTER TABLE {PARTITION} DISABLE TRIGGER drop_all"
    );
    bed.client.batch_execute(&other).await.unwrap();
    let rows = pod_rows(day(DAY), bed.source, 9, 1, None);
    sink(&bed.config, bed.source).replace(rows).await.unwrap();
    assert_eq!(count(&bed.client, &format!("SELECT count(*) FROM {}", target(&bed.config))).await, 9);
}

#[tokio::test]
async fn a_default_that_would_make_rows_those_of_a_later_step_is_a_problem_of_the_shape() {
    let bed = Bed::new().await;
    let table = target(&bed.config);
    let sql = format!(
        "ALTER TABLE {table} ALTER monthly_cost_type SET DEFAULT 'Node', ALTER infrastructure_raw_cost SET DEFAULT 0"
    );
    bed.client.batch_execute(&sql).await.unwrap();
    let error = sink(&bed.config, bed.source).prepare(&[OCTOBER]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetShape);
    let text = error.to_string();
    assert!(text.contains("column `monthly_cost_type`") && text.contains("DROP DEFAULT"), "{text}");
    assert!(!text.contains("infrastructure_raw_cost"), "zero is as good as null there: {text}");
}

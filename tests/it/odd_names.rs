//! Names that are SQL themselves: they are quoted wherever they stand, from `init-db` to `verify`.

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, into_csv, into_postgres, settings};

const DAYS: [&str; 2] = ["2025-10-31", "2025-11-01"];
const SCHEMA: &str = "a\"; drop schema public cascade; --";

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_a_statement_is_a_name() {
    let postgres = gristmill::config::Postgres { schema: SCHEMA.to_owned(), ..database::database().await };
    let folder = tempfile::tempdir().unwrap();
    let settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
    let client = database::client(&postgres).await;
    client.batch_execute("CREATE TABLE public.witness (id int)").await.unwrap();
    Delivery::of(&DAYS, 1.0).write(folder.path());
    Invocation::with("init-db", &settings).run().await.expect(0, &["created"]);
    Invocation::with("init-db", &settings).run().await.expect(0, &["is there already"]);
    Invocation::with("check", &settings).run().await.expect(0, &["nothing stands in the way of a run"]);
    Invocation::with("run", &settings).run().await.expect(0, &["written"]);
    // A second time, now with rows to delete.
    let again = Invocation::with("run", &settings).run().await;
    again.expect(0, &[]);

    let table = gristmill::postgres::sql::TableName::new(SCHEMA, &postgres.table).quoted();
    let sql = format!("SELECT count(*), count(DISTINCT tableoid) FROM {table}");
    let row = client.query_one(&sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (8, 2), "four rows a day, a partition per month");
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('public', 'a', $1) ORDER BY nspname";
    let schemas = client.query(schemas, &[&SCHEMA]).await.unwrap();
    assert_eq!(schemas.iter().map(|row| row.get(0)).collect::<Vec<String>>(), [SCHEMA, "public"]);
    client.query("SELECT id FROM public.witness", &[]).await.unwrap();

    let files = tempfile::tempdir().unwrap();
    let mut into_files = into_csv(settings.clone(), files.path());
    into_files["target"]["postgres"] = settings["target"]["postgres"].clone();
    Invocation::with("run", &into_files).run().await.expect(0, &[]);
    let against = files.path().to_str().unwrap();
    let verified = Invocation::with("verify", &settings).arguments(&["--against", against]).run().await;
    verified.expect(0, &[]);
}

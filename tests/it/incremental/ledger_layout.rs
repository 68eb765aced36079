//! A ledger of an earlier version: what says so, what mends it, what becomes of its rows.

use super::{Bed, DAYS};

#[tokio::test(flavor = "multi_thread")]
async fn an_older_ledger_is_brought_up_to_date_in_place() {
    let bed = Bed::filled().await;
    bed.execute("ALTER TABLE gristmill.day_ledger DROP COLUMN made_from").await;
    let parts = ["has the layout of an earlier version", "run `gristmill init-db` once"];
    for command in ["run", "plan", "check"] {
        bed.command(command, &[]).await.expect(78, &parts);
    }
    let rows = "SELECT count(*) FROM gristmill.day_ledger WHERE status = 'written'";
    assert_eq!(bed.client.query_one(rows, &[]).await.expect("a count").get::<_, i64>(0), 4);
    bed.command("init-db", &[]).await.expect(0, &["the ledger was brought up to date; its rows were kept"]);
    assert_eq!(bed.client.query_one(rows, &[]).await.expect("a count").get::<_, i64>(0), 4);
    bed.command("init-db", &[]).await.expect(0, &["the ledger is there already"]);
    bed.command("check", &[]).await.expect(0, &[]);

    // A row that does not say what it was made from is never taken for unchanged.
    bed.command("plan", &[]).await.expect(0, &["changed: what it was made from was not noted"]);
    assert_eq!(bed.written_by_run(&[]).await, DAYS);
    assert_eq!(bed.written_by_run(&[]).await, Vec::<String>::new());

    // The sequence belongs to it as well.
    bed.execute("DROP SEQUENCE gristmill.claim_token").await;
    bed.run(&[]).await.expect(78, &parts);
    bed.command("init-db", &[]).await.expect(0, &["brought up to date"]);
    assert_eq!(bed.written_by_run(&[]).await, Vec::<String>::new());

    bed.execute("DROP SCHEMA gristmill CASCADE").await;
    bed.run(&[]).await.expect(78, &["gristmill.day_ledger does not exist", "gristmill init-db"]);
}

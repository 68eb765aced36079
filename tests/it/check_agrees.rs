//! Every fault that keeps a run from its first row: `check` ends with the code of the run and names what stops it in the same words.

use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::binary::{Ended, Invocation};
use crate::database;
use crate::delivery::{Delivery, SOURCE, from_server, into_csv, into_postgres, pod_key, settings};
use crate::rerun::snapshot;
use crate::s3_server::S3Server;
use crate::s3_server::deviation::{Answer, Deviation};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const OTHER: &str = "00000000-0000-0000-0000-00000000beef";
const TARGET: &str = "tenant.reporting_ocpusagelineitem_daily_summary";

/// Something that is not as it should be.
struct Fault {
    name: &'static str,
    /// What an administrator did; `{role}` is the role of the run.
    sql: &'static str,
    /// What the configuration says.
    settings: fn(&mut Value),
    code: i32,
    part: &'static str,
}

fn as_they_are(_: &mut Value) {}

const fn of_database(name: &'static str, sql: &'static str, code: i32, part: &'static str) -> Fault {
    Fault { name, sql, settings: as_they_are, code, part }
}

const fn of_settings(name: &'static str, settings: fn(&mut Value), code: i32, part: &'static str) -> Fault {
    Fault { name, sql: "", settings, code, part }
}

fn target(settings: &mut Value) -> &mut Value {
    &mut settings["target"]["postgres"]
}

const SHAPE: &[Fault] = &[
    of_database("no target schema", "DROP SCHEMA tenant CASCADE", 78, "does not exist"),
    of_database("no target", "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary", 78, "does not exist"),
    of_database(
        "no column",
        "ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary DROP COLUMN node",
        78,
        "has no column `node`",
    ),
    of_database(
        "a column of another type",
        "ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary ALTER node TYPE varchar(9) USING 'x'",
        78,
        "needed is varchar(253)",
    ),
    of_database(
        "a column that wants a value",
        "DELETE FROM tenant.reporting_ocpusagelineitem_daily_summary; \
         ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary ADD must integer NOT NULL",
        78,
        "column `must`",
    ),
    of_database(
        "a default that marks rows",
        "ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary ALTER distributed_cost SET DEFAULT 0",
        78,
        "column `distributed_cost`",
    ),
    of_database(
        "no small table",
        "DROP TABLE tenant.reporting_enabledtagkeys",
        78,
        "reporting_enabledtagkeys does not",
    ),
    of_database("no nodes", "DROP TABLE tenant.reporting_ocp_nodes", 78, "reporting_ocp_nodes does not exist"),
    of_database(
        "no column in a small table",
        "ALTER TABLE tenant.reporting_enabledtagkeys DROP COLUMN provider_type",
        78,
        "reading the enabled keys",
    ),
    of_database(
        "another type in a small table",
        "ALTER TABLE tenant.reporting_enabledtagkeys ALTER enabled DROP DEFAULT, ALTER enabled TYPE text",
        78,
        "reading the enabled keys",
    ),
    of_database(
        "another type in the report periods",
        "ALTER TABLE tenant.reporting_ocpusagereportperiod ALTER provider_id TYPE text",
        78,
        "looking up the report period",
    ),
    of_database(
        "no report period",
        "DELETE FROM tenant.reporting_ocpusagereportperiod",
        78,
        "has no row for cluster_id",
    ),
    of_database("no ledger", "DROP SCHEMA gristmill CASCADE", 78, "day_ledger does not exist"),
    of_database(
        "an older ledger",
        "ALTER TABLE gristmill.day_ledger DROP made_from",
        78,
        "layout of an earlier version",
    ),
    of_database("no sequence", "DROP SEQUENCE gristmill.claim_token", 78, "layout of an earlier version"),
    of_database(
        "a ledger of other types",
        "ALTER TABLE gristmill.day_ledger ALTER run_id TYPE text",
        78,
        "day_ledger is not the table",
    ),
];

const RIGHTS: &[Fault] = &[
    of_database(
        "no USAGE on the target schema",
        "REVOKE USAGE ON SCHEMA tenant FROM {role}",
        78,
        "lacks USAGE on schema",
    ),
    of_database("no USAGE on the ledger", "REVOKE USAGE ON SCHEMA gristmill FROM {role}", 78, "lacks USAGE on schema"),
    of_database(
        "no DELETE",
        "REVOKE DELETE ON tenant.reporting_ocpusagelineitem_daily_summary FROM {role}",
        78,
        "lacks DELETE on table",
    ),
    of_database(
        "no INSERT",
        "REVOKE INSERT ON tenant.reporting_ocpusagelineitem_daily_summary FROM {role}",
        78,
        "lacks INSERT on table",
    ),
    of_database(
        "no SELECT",
        "REVOKE SELECT ON tenant.reporting_ocpusagelineitem_daily_summary FROM {role}",
        78,
        "lacks SELECT on table",
    ),
    of_database("no UPDATE", "REVOKE UPDATE ON gristmill.day_ledger FROM {role}", 78, "lacks UPDATE on table"),
    of_database(
        "no SELECT on the report periods",
        "REVOKE SELECT ON tenant.reporting_ocpusagereportperiod FROM {role}",
        78,
        "lacks SELECT on table tenant.reporting_ocpusagereportperiod",
    ),
    of_database(
        "row security on the target",
        "ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary ENABLE ROW LEVEL SECURITY",
        78,
        "row-level security on table tenant.reporting_ocpusagelineitem",
    ),
    of_database(
        "row security on the report periods",
        "ALTER TABLE tenant.reporting_ocpusagereportperiod ENABLE ROW LEVEL SECURITY",
        78,
        "row-level security on table tenant.reporting_ocpusagereportperiod",
    ),
    of_database(
        "row security behind a view with the rights of its reader",
        "ALTER TABLE tenant.reporting_ocp_nodes RENAME TO behind; ALTER TABLE tenant.behind ENABLE ROW LEVEL SECURITY; \
         CREATE VIEW tenant.reporting_ocp_nodes WITH (security_invoker = on) AS SELECT * FROM tenant.behind; \
         GRANT SELECT ON tenant.reporting_ocp_nodes TO {role}",
        78,
        "is not a table",
    ),
    of_database(
        "read-only by setting",
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        78,
        "default_transaction_read_only is on",
    ),
    of_database("no login", "ALTER ROLE {role} NOLOGIN", 78, "refuses the login"),
    Fault {
        name: "no connection left",
        sql: "ALTER ROLE {role} CONNECTION LIMIT 0",
        settings: |s| target(s)["retries"] = json!(1),
        code: 75,
        part: "too many connections",
    },
];

const PARTITIONS: &[Fault] = &[
    of_database(
        "a partition that the role may not create",
        "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10",
        78,
        "does not own",
    ),
    of_database(
        "a schema in which the role may not create",
        "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10; \
         ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary OWNER TO {role}",
        78,
        "lacks CREATE on schema tenant",
    ),
    of_database(
        "rows in the default partition",
        "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10; GRANT CREATE ON SCHEMA tenant TO {role}; \
         ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary OWNER TO {role}; \
         INSERT INTO tenant.reporting_ocpusagelineitem_daily_summary (uuid, usage_start, usage_end) \
         VALUES (gen_random_uuid(), '2025-10-05', '2025-10-05')",
        78,
        "already holds rows of 2025-10",
    ),
    of_database(
        "a partition's name that is taken",
        "ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary DETACH PARTITION \
         tenant.reporting_ocpusagelineitem_daily_summary_2025_10; GRANT CREATE ON SCHEMA tenant TO {role}; \
         ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary OWNER TO {role}",
        78,
        "exists, but is no partition of",
    ),
    of_database(
        "partitions for some days only",
        "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10; \
         CREATE TABLE tenant.some PARTITION OF tenant.reporting_ocpusagelineitem_daily_summary \
         FOR VALUES FROM ('2025-10-01') TO ('2025-10-11')",
        78,
        "cover 10 of the 31 days of 2025-10",
    ),
];

/// The reference's table of partitions, before the month's was made.
const TRACKED: &str = "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10; \
     CREATE TABLE tenant.partitioned_tables (schema_name text, table_name text, partition_of_table_name text, partition_type text, \
     partition_col text, partition_parameters jsonb, active boolean, UNIQUE (schema_name, table_name)); \
     CREATE FUNCTION tenant.make() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('CREATE TABLE %I.%I PARTITION OF \
     %I.%I FOR VALUES FROM (%L) TO (%L)', new.schema_name, new.table_name, new.schema_name, new.partition_of_table_name, \
     new.partition_parameters->>'from', new.partition_parameters->>'to'); RETURN new; END $$; \
     CREATE TRIGGER make AFTER INSERT ON tenant.partitioned_tables FOR EACH ROW EXECUTE FUNCTION tenant.make(); \
     GRANT SELECT, INSERT ON tenant.partitioned_tables TO {role};";

const TRACKED_PARTITIONS: &[Fault] = &[
    of_database(
        "no INSERT there",
        "REVOKE INSERT ON tenant.partitioned_tables FROM {role}",
        78,
        "lacks INSERT on table",
    ),
    of_database(
        "no SELECT there",
        "REVOKE SELECT ON tenant.partitioned_tables FROM {role}",
        78,
        "lacks SELECT on table",
    ),
    of_database("a trigger with the rights of the role", "SELECT 1", 78, "does not own"),
    of_database(
        "a trigger that is off",
        "ALTER FUNCTION tenant.make() SECURITY DEFINER; ALTER TABLE tenant.partitioned_tables DISABLE TRIGGER make; \
         ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary OWNER TO {role}; GRANT CREATE ON SCHEMA tenant TO {role}",
        78,
        "has no trigger that would create partition",
    ),
    of_database(
        "a row that made no partition",
        "ALTER FUNCTION tenant.make() SECURITY DEFINER; ALTER TABLE tenant.partitioned_tables DISABLE TRIGGER make; INSERT INTO \
         tenant.partitioned_tables (schema_name, table_name) VALUES ('tenant', \
         'reporting_ocpusagelineitem_daily_summary_2025_10'); ALTER TABLE tenant.partitioned_tables ENABLE TRIGGER make",
        78,
        "has a row for tenant.reporting_ocpusagelineitem_daily_summary_2025_10",
    ),
];

const SETTINGS: &[Fault] = &[
    of_settings("a wrong password", |s| target(s)["password"] = json!("mistyped"), 78, "refuses the login"),
    of_settings("no such database", |s| target(s)["database"] = json!("nowhere"), 78, "refuses the login"),
    of_settings("no such table", |s| target(s)["table"] = json!("elsewhere"), 78, "elsewhere does not exist"),
    of_settings("no such schema", |s| target(s)["schema"] = json!("elsewhere"), 78, "elsewhere"),
    of_settings(
        "no such reference",
        |s| s["reference"]["schema"] = json!("elsewhere"),
        78,
        "elsewhere.reporting_enabled",
    ),
    of_settings(
        "nobody at the port",
        |s| (target(s)["port"], target(s)["retries"]) = (json!(1), json!(1)),
        75,
        "cannot reach PostgreSQL",
    ),
    of_settings(
        "no such folder",
        |s| s["storage"]["url"] = json!("file:///no/such/folder"),
        78,
        "no such bucket or folder",
    ),
    of_settings("another organisation", |s| s["organization"]["org_id"] = json!("org8"), 65, "no objects in"),
    of_settings("another cluster", |s| s["source"]["cluster_id"] = json!("cluster-8"), 78, "has no row for cluster_id"),
    of_settings("too little memory", |s| s["performance"] = json!({"memory_budget": "1KiB"}), 78, "memory"),
];

/// A filled database to copy, newer reports in a folder, and the settings of a role with the documented rights.
struct Bed {
    folder: tempfile::TempDir,
    admin: Client,
    template: String,
    settings: Value,
}

impl Bed {
    async fn new() -> Self {
        let postgres = database::database().await;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
        settings["reference"] = json!({"from": "postgres"});
        Delivery::of(&DAYS, 1.0).write(folder.path());
        Invocation::with("init-db", &settings).run().await.expect(0, &[]);
        Invocation::with("run", &settings).run().await.expect(0, &[]);
        Delivery::of(&DAYS, 2.0).write(folder.path());
        let admin = database::client(&database::database().await).await;
        Self { folder, admin, template: postgres.database, settings }
    }

    /// A copy of the database with a role of its own.
    async fn copy(&self) -> (Client, String, Value) {
        let name = format!("c_{}", Uuid::new_v4().simple());
        self.admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {}", self.template)).await.unwrap();
        let mut postgres = database::database().await;
        postgres.database.clone_from(&name);
        let client = database::client(&postgres).await;
        let role = format!("r_{}", Uuid::new_v4().simple());
        let grants = format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA tenant, gristmill TO {role}; GRANT SELECT ON ALL TABLES \
             IN SCHEMA tenant TO {role}; GRANT INSERT, DELETE ON {TARGET} TO {role}; GRANT SELECT, INSERT, UPDATE ON \
             gristmill.day_ledger TO {role}"
        );
        client.batch_execute(&grants).await.unwrap();
        let mut settings = self.settings.clone();
        target(&mut settings)["database"] = json!(name);
        target(&mut settings)["user"] = json!(role);
        target(&mut settings)["password"] = json!("pw");
        (client, role, settings)
    }

    async fn meets(&self, fault: &Fault, before: &str) {
        let (client, role, mut settings) = self.copy().await;
        for sql in [before, fault.sql] {
            let sql = sql.replace("{role}", &role);
            client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}", fault.name));
        }
        (fault.settings)(&mut settings);
        agree(fault.name, &settings, fault.code, fault.part).await;
    }
}

/// What `check` calls problems.
fn problems(checked: &Ended) -> Vec<&str> {
    checked.stdout.lines().filter_map(|line| line.strip_prefix("problem  ")).collect()
}

/// Both end with the code and the part, and what `check` names first is what the run says.
async fn agree(name: &str, settings: &Value, code: i32, part: &str) {
    let checked = Invocation::with("check", settings).run().await;
    let ran = Invocation::with("run", settings).run().await;
    assert_eq!((checked.code, ran.code), (code, code), "{name}\n{checked:#?}\n{ran:#?}");
    let problems = problems(&checked);
    if code == 0 {
        assert_eq!(problems, Vec::<&str>::new(), "{name}");
        return;
    }
    assert!(problems.iter().any(|problem| problem.contains(part)), "{name}: {part} is not in {checked:#?}");
    // A run says of which source each day is, and which prefix is refused first differs from time to time.
    let first = problems[0].strip_prefix(&format!("source {OTHER}: ")).unwrap_or(problems[0]);
    let first = if first.starts_with("listing ") { part } else { first };
    assert!(ran.all_text().contains(first), "{name}: {first}\n{ran:#?}");
    let fix = checked.stdout.lines().find_map(|line| line.trim().strip_prefix("fix: ")).expect("a fix");
    assert!(ran.all_text().contains(fix), "{name}: {fix}\n{ran:#?}");
}

async fn all_of(faults: &[Fault], before: &str) {
    let bed = Bed::new().await;
    for fault in faults {
        bed.meets(fault, before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_both_end_well() {
    let bed = Bed::new().await;
    let (client, _, settings) = bed.copy().await;
    let before = snapshot(&client).await;
    Invocation::with("check", &settings).run().await.expect(0, &["nothing stands in the way of a run"]);
    assert_eq!(snapshot(&client).await, before, "check writes nothing");
    agree("nothing", &settings, 0, "").await;
    assert_ne!(snapshot(&client).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_tables_columns_and_the_ledger() {
    all_of(SHAPE, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_rights_and_what_hides_rows() {
    all_of(RIGHTS, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_partitions() {
    all_of(PARTITIONS, "").await;
    all_of(TRACKED_PARTITIONS, TRACKED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_missing_and_can_be_made_is_no_fault() {
    let bed = Bed::new().await;
    let own = "DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10; GRANT CREATE ON SCHEMA tenant TO {role}; \
               ALTER TABLE tenant.reporting_ocpusagelineitem_daily_summary OWNER TO {role}";
    bed.meets(&of_database("the owner", own, 0, ""), "").await;
    let definer = "ALTER FUNCTION tenant.make() SECURITY DEFINER";
    bed.meets(&of_database("a trigger with the rights of its owner", definer, 0, ""), TRACKED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_on_every_column_is_one_on_the_table() {
    let bed = Bed::new().await;
    let by_columns = "DO $$ DECLARE one record; BEGIN FOR one IN SELECT c.oid::regclass AS name, string_agg(quote_ident(a.attname), ', ') \
         AS columns FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT \
         a.attisdropped AND c.relnamespace::regnamespace::text IN ('tenant', 'gristmill') GROUP BY c.oid LOOP \
         EXECUTE format('REVOKE SELECT, INSERT, UPDATE ON %1$s FROM {role}; GRANT SELECT (%2$s), INSERT (%2$s), UPDATE (%2$s) ON %1$s \
         TO {role}', one.name, one.columns); END LOOP; END $$";
    bed.meets(&of_database("all columns", by_columns, 0, ""), "").await;
    let but_one = "REVOKE SELECT ON tenant.reporting_enabledtagkeys FROM {role}; \
         GRANT SELECT (key, enabled) ON tenant.reporting_enabledtagkeys TO {role}";
    bed.meets(&of_database("all but one", but_one, 78, "lacks SELECT on table tenant.reporting_enabledtagkeys"), "")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_what_the_configuration_names() {
    all_of(SETTINGS, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_the_report_periods_where_the_other_facts_are_inline() {
    let bed = Bed::new().await;
    let inline = |settings: &mut Value| settings["reference"] = json!({"from": "inline", "enabled_tag_keys": []});
    for (name, sql, part) in [
        ("none", "DELETE FROM tenant.reporting_ocpusagereportperiod", "has no row for cluster_id"),
        ("no right", "REVOKE SELECT ON tenant.reporting_ocpusagereportperiod FROM {role}", "lacks SELECT on table"),
    ] {
        bed.meets(&Fault { name, sql, settings: inline, code: 78, part }, "").await;
    }
    bed.meets(
        &Fault {
            name: "no table",
            sql: "DROP TABLE tenant.reporting_ocpusagereportperiod",
            settings: inline,
            code: 0,
            part: "",
        },
        "",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_one_of_several_sources() {
    let bed = Bed::new().await;
    Delivery::of(&DAYS, 2.0).and(Delivery::of(&DAYS, 1.0).delivered_by(OTHER)).write(bed.folder.path());
    let (client, _, mut settings) = bed.copy().await;
    settings.as_object_mut().unwrap().remove("source");
    let cluster = |uuid: &str, name: &str| json!({"uuid": uuid, "cluster_id": name, "cluster_alias": "any"});
    settings["sources"] = json!([cluster(SOURCE, "cluster-7"), cluster(OTHER, "cluster-8")]);
    let part = format!("source {OTHER}: tenant.reporting_ocpusagereportperiod has no row for cluster_id `cluster-8`");
    agree("no report period", &settings, 78, &part).await;
    let sql = format!(
        "INSERT INTO tenant.reporting_ocpusagereportperiod (cluster_id, report_period_start, report_period_end, provider_id) VALUES \
         ('cluster-8', '2025-10-01T00:00Z', '2025-11-01T00:00Z', '{OTHER}')"
    );
    client.batch_execute(&sql).await.unwrap();
    agree("both there", &settings, 0, "").await;
    Delivery::of(&DAYS, 2.0).write(bed.folder.path());
    agree("no objects", &settings, 65, &format!("source {OTHER}: period")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_about_the_storage() {
    let bed = Bed::new().await;
    let (_client, _, settings) = bed.copy().await;
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 2.0).store(&server);
    let settings = from_server(settings, &server);
    agree("all there", &settings, 0, "").await;
    let with = |key: &str, value: Value| {
        let mut settings = settings.clone();
        settings["storage"][key] = value;
        settings
    };
    agree("a wrong key", &with("secret_key", json!("mistyped")), 78, "access denied").await;
    agree("no bucket", &with("url", json!("s3://another-bucket")), 78, "no such bucket").await;
    agree("nobody there", &with("endpoint", json!("http://127.0.0.1:1")), 75, "cannot be reached").await;
    let html =
        Answer { contains: "month=10".to_owned(), body: "<html/>".to_owned(), content_type: "text/html".to_owned() };
    server.deviate(Deviation { answer_list: Some(html), ..Deviation::default() });
    agree("a web page", &settings, 78, "an HTML page came").await;
    server.deviate(Deviation { archived: Some(DAYS[1].to_owned()), ..Deviation::default() });
    agree("an archived object", &settings, 65, "archive class").await;
    server.deviate(Deviation { tags_differ: true, ..Deviation::default() });
    agree("other tags at each read", &settings, 78, "its ETag is another one").await;
    server.deviate(Deviation::default());
    server.remove(&pod_key(DAYS[0]));
    agree("a day that disappeared", &settings, 65, "none of their objects is there any more").await;
    server.put(&pod_key(DAYS[0]), Vec::new());
    agree("an empty object", &settings, 65, "zero bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_agree_where_only_the_small_tables_lie_in_the_database() {
    let bed = Bed::new().await;
    let files = tempfile::tempdir().unwrap();
    let (client, role, settings) = bed.copy().await;
    let mut into_files = into_csv(settings.clone(), files.path());
    into_files["target"]["postgres"] = settings["target"]["postgres"].clone();
    agree("all there", &into_files, 0, "").await;
    let sql = format!("REVOKE SELECT ON tenant.reporting_ocp_nodes FROM {role}; DROP SCHEMA gristmill CASCADE");
    client.batch_execute(&sql).await.unwrap();
    agree("no right", &into_files, 78, "lacks SELECT on table tenant.reporting_ocp_nodes").await;
    // What nobody asks for is not looked at.
    into_files["reference"] = json!({"from": "inline", "enabled_tag_keys": []});
    into_files["source"]["report_period_id"] = json!(1);
    target(&mut into_files)["password"] = json!("mistyped");
    agree("not used", &into_files, 0, "").await;
}

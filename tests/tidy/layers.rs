//! Which module may use which. A new edge is one line here, with its reason.

/// Modules that any module may use, and that use nothing but each other: pure values and the kinds of failure.
pub const FOUNDATION: [&str; 3] = ["error", "time", "units"];

/// Modules that only wire the others together, and that no module may use; each may use everything.
pub const WIRING: [&str; 3] = ["run", "cli", "main"];

/// A module and what it may use besides the foundation and itself.
pub const ALLOWED: &[(&str, &[&str])] = &[
    // --- what: pure data
    ("schema", &[]),
    ("labels", &[]),
    // keys and physical form of the objects that generate and convert write
    ("objects", &["schema"]),
    // rules per semantics; ids of label sets in finished rows
    ("rollups", &["schema", "labels"]),
    // --- intent
    // inline facts and the name of the semantics are settings
    ("config", &["rollups"]),
    // --- runtime, telemetry and clients of the outside
    ("telemetry", &["config"]),
    ("runtime", &["config", "telemetry"]),
    ("store", &["config", "runtime", "telemetry"]),
    ("postgres", &["config", "schema", "runtime", "telemetry"]),
    // roles of the window, keys and categories from tables or settings
    ("reference", &["config", "postgres", "rollups", "schema"]),
    ("ledger", &["config", "postgres", "schema"]),
    // schema, tables and ledger of an empty database
    ("init_db", &["config", "schema", "postgres", "reference", "ledger", "runtime"]),
    // --- flow: a stage may use the stage before it and its helpers, never a later one
    ("discover", &["config", "schema", "store", "runtime", "telemetry"]),
    ("footers", &["discover", "config", "schema", "store", "runtime", "telemetry"]),
    ("plan", &["footers", "discover", "config", "rollups", "schema"]),
    ("fetch", &["plan", "footers", "discover", "schema", "store", "config", "runtime", "telemetry"]),
    ("decode", &["fetch", "plan", "footers", "discover", "schema"]),
    // workers' tables live on the CPU pool
    ("aggregate", &["decode", "plan", "rollups", "labels", "schema", "runtime"]),
    ("merge", &["aggregate", "rollups", "labels", "schema", "runtime"]),
    ("enrich", &["merge", "rollups", "labels", "schema"]),
    // the text of a decimal is the rounding stage's
    ("sink", &["enrich", "schema", "postgres", "ledger", "config", "runtime", "telemetry"]),
    // --- the other commands, each a small pipeline of its own
    ("generate", &["schema", "objects", "store", "runtime"]),
    // sums whose digits do not depend on the order of the rows are the rollups'
    ("convert", &["schema", "objects", "rollups", "store", "runtime", "config"]),
    // names of columns and the reference SQL; nothing of the native engine but the look at pages before they are decoded
    ("sql", &["schema", "rollups", "plan", "footers", "store", "config", "runtime"]),
    ("verify", &["sql", "schema", "rollups", "plan", "store", "config", "postgres", "reference", "ledger", "runtime"]),
];

/// Modules that compute: they neither wait nor touch files, the environment or the network.
pub const PURE: [&str; 7] = ["decode", "aggregate", "merge", "enrich", "labels", "rollups", "plan"];

/// A word that only some files may use, and why.
pub const CONFINED: &[(&str, &[&str], &str)] = &[
    ("rayon", &["src/runtime/cpu_pool.rs"], "one pool computes"),
    ("datafusion", &["src/sql/"], "the second engine shares nothing with the first"),
];

/// Where `std::env` may be used: settings and the limits of the container.
pub const ENVIRONMENT_READERS: [&str; 2] = ["src/config/", "src/runtime/limits.rs"];

/// Where a report or summary column may be named in a string of its own.
pub const COLUMN_NAMERS: [&str; 2] = ["src/schema/", "src/rollups/"];

/// Files that may use a word that is also the name of a column, and why it means something else there.
pub const COLUMN_NAME_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/config/", "cluster_id", "a key of the configuration"),
    ("src/config/", "cluster_alias", "a key of the configuration"),
    ("src/config/", "report_period_id", "a key of the configuration"),
    ("src/config/", "cost_category_id", "a key of the configuration"),
    ("src/config/", "namespace", "a key of the configuration"),
    ("src/config/", "node", "a key of the configuration"),
    ("src/config/", "resource_id", "a key of the configuration"),
    ("src/telemetry/", "cluster_id", "a label of a metric"),
    ("src/ledger/", "source_uuid", "a column of the ledger's own table"),
    ("src/postgres/", "source_uuid", "the scope of a delete is chosen by the columns that the target has"),
    ("src/postgres/", "report_period_id", "the scope of a delete is chosen by the columns that the target has"),
    ("src/reference/", "cluster_id", "a column of the reference's small tables"),
    ("src/reference/", "cost_category_id", "a column of the reference's small tables"),
    ("src/reference/", "namespace", "a column of the reference's small tables"),
    ("src/reference/", "node", "a column of the reference's small tables"),
    ("src/reference/", "node_role", "a column of the reference's small tables"),
    ("src/reference/", "resource_id", "a column of the reference's small tables"),
];

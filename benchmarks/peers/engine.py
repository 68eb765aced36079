"""One peer, one run, in a process of its own: local Parquet -> result tables in memory (timed) -> Parquet files (not timed).

`engine.py NAME DATA PART THREADS OUT` prints one line of JSON: seconds from an idle engine to finished tables, seconds per
statement, peak memory. Importing the library is not timed. `NAME` is a key of `ENGINES`.
"""

import json
import re
import sys
import time
from pathlib import Path

import duckdb_tuned
import rollup_sql
from rollup_sql import KEYS, SUMS, Dialect

ORG = "org1234567"


def report_folder(data, report):
    """Where a report's raw objects lie."""
    return f"{data}/data/parquet/{ORG}/OCP/{report}"


def duckdb_connection(threads):
    """DuckDB with the settings that help here: no order to keep, no bar to draw."""
    import duckdb

    connection = duckdb.connect()
    for setting in (f"threads = {threads}", "preserve_insertion_order = false", "enable_progress_bar = false"):
        connection.execute(f"set {setting}")
    return connection


def duckdb_dialect(data):
    """Its functions; the JSON extension comes with the package."""
    return Dialect(
        source=lambda report: f"read_parquet('{report_folder(data, report)}/**/*.parquet', hive_partitioning = false)",
        label=lambda column, key: f"json_extract_string({column}, '$.{key}')",
    )


def duckdb_tuned_by_hand(data, part, threads):
    """The Pod part of `duckdb_tuned.py`."""
    require_pods("duckdb-tuned", part)
    return duckdb_steps(threads, duckdb_tuned.statements(duckdb_dialect(data)))


def duckdb_sql(data, part, threads):
    """The statements that the others run too."""
    return duckdb_steps(threads, rollup_sql.statements(duckdb_dialect(data), part))


def duckdb_steps(threads, statements):
    """Statements as steps, and how a result table is exported."""
    connection = duckdb_connection(threads)
    return (
        [(name, lambda sql=sql: connection.execute(sql)) for name, sql in statements],
        lambda table, columns, file: connection.execute(f"copy (select {columns} from {table}) to '{file}' (format parquet)"),
    )


def duckdb_straight(data, part, threads):
    """One statement as one would write it first: labels are parsed, filtered and merged row by row."""
    require_pods("duckdb-straight", part)
    connection = duckdb_connection(threads)
    dialect = duckdb_dialect(data)
    sql = Path(__file__).with_name("duckdb_straight.sql").read_text(encoding="utf-8")
    for report in ("pod_usage", "node_labels", "namespace_labels"):
        connection.execute(f"create view {report} as select * from {dialect.source(report)}")
    keys = ", ".join(f"'{key}'" for key in KEYS)
    labels = ", ".join(f"json_extract_string(pod_labels, '$.{key}') as {key}" for key in KEYS)

    def export(table, columns, file):
        connection.execute(f"copy (select {columns} from (select *, {labels} from {table})) to '{file}' (format parquet)")

    return [("pod_rows", lambda: connection.execute(sql.replace(":enabled_keys", keys)))], export


def duckdb_bare(data, part, threads):
    """Only the group-by over the rows: no capacities, no label parsing, no joins. A reference figure, not a rollup."""
    require_pods("duckdb-bare", part)
    connection = duckdb_connection(threads)
    sums = ", ".join(f"sum({column})" for column in SUMS)
    sql = f"""create temp table bare as select cast(interval_start as date), namespace, node, pod_labels, {sums}
        from {duckdb_dialect(data).source('pod_usage')} group by 1, 2, 3, 4"""
    return [("bare", lambda: connection.execute(sql))], None


def chdb(data, part, threads):
    """ClickHouse inside the process; tables of engine Memory."""
    from chdb import session

    connection = session.Session()
    settings = ["join_use_nulls = 1", "prefer_column_name_to_alias = 1", "session_timezone = 'UTC'", "use_hive_partitioning = 0"]
    for setting in [f"max_threads = {threads}", *settings]:
        connection.query(f"set {setting}")
    dialect = Dialect(
        source=lambda report: f"file('{report_folder(data, report)}/**/*.parquet', Parquet)",
        label=lambda column, key: f"JSONExtract(assumeNotNull({column}), '{key}', 'Nullable(String)')",
        day="toDate(interval_start)",
        create="create table {name} engine = Memory as {select}",
        month_seconds="86400.0 * toDayOfMonth(toLastDayOfMonth(usage_start))",
    )
    return (
        [(name, lambda sql=sql: connection.query(sql)) for name, sql in rollup_sql.statements(dialect, part)],
        lambda table, columns, file: connection.query(f"select {columns} from {table} into outfile '{file}' format Parquet"),
    )


def datafusion(data, part, threads):
    """It has no JSON functions, so the enabled keys are cut out with a regular expression, once per distinct text."""
    from datafusion import SessionConfig, SessionContext

    config = SessionConfig().with_target_partitions(threads)
    # The month's folder lies three levels below the report's.
    config = config.set("datafusion.execution.listing_table_ignore_subdirectory", "false")
    context = SessionContext(config)
    for report in ("pod_usage", "node_labels", "namespace_labels") + (("storage_usage",) if part == "all" else ()):
        context.register_parquet(report, report_folder(data, report) + "/")
    dialect = Dialect(
        source=lambda report: report,
        label=lambda column, key: f"""regexp_match({column}, '"{key}": "([^"]*)"')[1]""",
        create="create table {name} as {select}",
    )

    def export(table, columns, file):
        context.sql(f"select {columns} from {table}").write_parquet(file)

    return [(name, lambda sql=sql: context.sql(sql).collect()) for name, sql in rollup_sql.statements(dialect, part)], export


def polars(data, part, threads):
    """Lazy expressions on the streaming engine; see polars_rollup.py."""
    import os

    require_pods("polars", part)
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars_rollup

    made = {}

    def run():
        made["pod_rows"] = polars_rollup.pod_rows(lambda report: report_folder(data, report))

    return [("pod_rows", run)], lambda table, columns, file: made[table].select(columns.split(", ")).write_parquet(file)


def require_pods(name, part):
    """Some peers do the Pod part only."""
    if part != "pods":
        sys.exit(f"{name} does the Pod part only")


ENGINES = {
    "duckdb-tuned": duckdb_tuned_by_hand,
    "duckdb-sql": duckdb_sql,
    "duckdb-straight": duckdb_straight,
    "duckdb-bare": duckdb_bare,
    "chdb": chdb,
    "datafusion": datafusion,
    "polars": polars,
}


def peak_memory_bytes():
    """The most memory that this process had resident."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii")).group(1))


def main():
    """Runs one engine once."""
    name, data, part, threads, out = sys.argv[1:]
    steps, export = ENGINES[name](data, part, int(threads))
    of_step = {}
    started = time.perf_counter()
    for step, run in steps:
        before = time.perf_counter()
        run()
        of_step[step] = time.perf_counter() - before
    seconds = time.perf_counter() - started
    peak = peak_memory_bytes()
    if export:
        for table, columns in rollup_sql.results(part).items():
            export(table, ", ".join(columns), f"{out}/{table}.parquet")
    print(json.dumps({"seconds": seconds, "step_seconds": of_step, "peak_memory_bytes": peak}))


if __name__ == "__main__":
    main()

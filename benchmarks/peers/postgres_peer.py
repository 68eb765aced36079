"""PostgreSQL as a peer: line items COPYed and ANALYZEd before anything is timed, then the rollup as SQL in the server."""

import shutil
from pathlib import Path

import duckdb
import engine
import machine
import rollup_sql
from process import BenchmarkError

# Enough for every hash table and sort of the rollup, so that nothing spills.
WORK_MEMORY = "1GB"


def server_settings(threads):
    """What one would set on a server of this size that has only this to do: a quarter of the memory for its own cache, which
    is what its documentation advises to begin with, and as many processes for one query as threads."""
    quarter = machine.memory_bytes() // 4 // 1_048_576
    return {
        "shared_buffers": f"{quarter}MB",
        "effective_cache_size": f"{2 * quarter}MB",
        "work_mem": WORK_MEMORY,
        "maintenance_work_mem": "256MB",
        "max_worker_processes": str(threads + 8),
        "max_parallel_workers": str(threads),
        "max_wal_size": "8GB",
    }


class PostgresPeer:
    """Line items of one data set in a throwaway server."""

    def __init__(self, database, data, part, threads, scratch):
        self.database, self.part, self.threads = database, part, threads
        self.scratch = Path(scratch)
        self.dialect = rollup_sql.Dialect(
            source=lambda report: report,
            label=lambda column, key: f"(cast({column} as jsonb) ->> '{key}')",
            create="create unlogged table {name} as {select}; analyze {name}",
        )
        self.load(data)

    def load(self, data):
        """Creates and fills one table per report."""
        self.database.sql("drop schema if exists peers cascade; create schema peers")
        reports = ["pod_usage", "node_labels", "namespace_labels"] + (["storage_usage"] if self.part == "all" else [])
        rows = self.scratch / "rows.csv"
        free_bytes = shutil.disk_usage(self.scratch).free
        for report in reports:
            relation = f"read_parquet('{engine.report_folder(data, report)}/**/*.parquet', hive_partitioning = false)"
            described = duckdb.execute(f"describe select * from {relation}").fetchall()
            columns = ", ".join(f"{name} {self.column_type(kind)}" for name, kind, *_ in described)
            try:
                duckdb.execute(f"copy (select * from {relation}) to '{rows}' (format csv, header false, nullstr '\\N')")
            except duckdb.IOException as error:
                place = f"{self.scratch} ({free_bytes} bytes free; TMPDIR names another place)"
                raise BenchmarkError(f"{report} cannot be written as CSV to {place}: {error}") from error
            self.database.script(
                f"create unlogged table peers.{report} ({columns});\n"
                f"\\copy peers.{report} from '{rows}' (format csv, null '\\N')\nanalyze peers.{report};"
            )
            rows.unlink()

    @staticmethod
    def column_type(kind):
        """PostgreSQL's type for one of DuckDB's."""
        if kind == "DOUBLE":
            return "double precision"
        return "timestamp" if kind.startswith("TIMESTAMP") else "text"

    def run(self, out):
        """One rollup; the tables of the one before are dropped first."""
        statements = rollup_sql.statements(self.dialect, self.part)
        drops = ", ".join(f"peers.{name}" for name, _ in statements)
        self.database.sql(f"drop table if exists {drops}")
        # The leader works too: so many workers beside it.
        settings = {"search_path": "peers", "work_mem": f"'{WORK_MEMORY}'", "max_parallel_workers_per_gather": self.threads - 1}
        lines = [f"set {name} = {value}" for name, value in settings.items()] + [sql for _, sql in statements]
        seconds = self.database.script(";\n".join(lines) + ";").seconds
        for table, columns in rollup_sql.results(self.part).items():
            self.export(table, columns, Path(out))
        return {"seconds": seconds}

    def export(self, table, columns, out):
        """A result table as Parquet."""
        rows = self.scratch / "rows.csv"
        self.database.script(f"\\copy (select {', '.join(columns)} from peers.{table}) to '{rows}' (format csv, null '\\N')")
        types = ", ".join(f"'{column}': '{rollup_sql.type_of(column)}'" for column in columns)
        relation = f"read_csv('{rows}', header = false, nullstr = '\\N', columns = {{{types}}})"
        duckdb.execute(f"copy (select * from {relation}) to '{out / table}.parquet' (format parquet)")
        rows.unlink()

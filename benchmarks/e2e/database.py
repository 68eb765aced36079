"""A throwaway PostgreSQL with the target tables: emptied before a run, fingerprinted after it, and timed on its own."""

import os
import shutil
import tempfile
from pathlib import Path

from machine import REPOSITORY
from process import BenchmarkError, Server, measure, require, write_json

TABLE = "reporting_ocpusagelineitem_daily_summary"
LEDGER = "gristmill.day_ledger"


def require_postgres():
    """An error where there is no PostgreSQL: to be known before anything is built."""
    if shutil.which("psql") is None:
        raise BenchmarkError("PostgreSQL is not installed; on Debian or Ubuntu: apt-get install postgresql")


class Database:
    """The server, and psql on it."""

    def __init__(self, server_settings=None):
        command = [REPOSITORY / "scripts/throwaway_postgres.sh", "serve"]
        command += [f"{name}={value}" for name, value in (server_settings or {}).items()]
        # Its own messages say what is missing on a machine without PostgreSQL.
        self.server = Server(command, "the throwaway PostgreSQL")
        self.facts = dict(field.partition("=")[::2] for field in self.server.ready.split())
        self.environment = {
            **os.environ,
            "PGHOST": self.facts["host"],
            "PGPORT": self.facts["port"],
            "PGUSER": self.facts["user"],
            "PGPASSWORD": self.facts["password"],
            "PGDATABASE": self.facts["database"],
        }

    def settings(self, schema):
        """The `target.postgres` section of a configuration."""
        return {
            "host": self.facts["host"],
            "port": int(self.facts["port"]),
            "user": self.facts["user"],
            "password": self.facts["password"],
            "database": self.facts["database"],
            "schema": schema,
            "ssl_mode": "disable",
        }

    def sql(self, text):
        """Result of a statement as lines; fields separated by tabs."""
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t"]
        command += ["--set", "ON_ERROR_STOP=1", "--command", text]
        return require(command, self.environment).stdout.splitlines()

    def create(self, gristmill, settings, schema):
        """Makes schema, table, partitions and ledger as a user would: with `init-db`."""
        with tempfile.TemporaryDirectory(prefix="gristmill-benchmark-") as folder:
            config = Path(folder, "config.yaml")
            target = {"kind": "postgres", "postgres": self.settings(schema)}
            write_json(config, {**settings, "target": target})
            require([gristmill, "init-db", "--config", config])

    def drop(self, schema):
        """Removes a schema and what the ledger says about it."""
        self.sql(f"drop schema if exists {schema} cascade")

    def empty(self, schema):
        """An empty target and ledger, as before a first run."""
        self.sql(f"truncate {schema}.{TABLE}; truncate {LEDGER}")

    def drop_indexes(self, schema):
        """Leaves the table without any index."""
        of_table = f"from pg_index where indrelid = '{schema}.{TABLE}'::regclass"
        self.sql(f"alter table {schema}.{TABLE} drop constraint if exists {TABLE}_pkey cascade")
        for line in self.sql(f"select indexrelid::regclass {of_table}"):
            self.sql(f"drop index {line} cascade")
        left = self.sql(f"select count(*) from pg_indexes where schemaname = '{schema}' and tablename like '{TABLE}%'")
        if left != ["0"]:
            raise BenchmarkError(f"{left[0]} indexes are left on {schema}.{TABLE}")

    def fingerprint(self, schema):
        """Row count and a checksum over all columns but the random uuid, whatever the order of the rows."""
        columns = self.sql(
            "select string_agg(quote_ident(column_name), ', ' order by column_name) from information_schema.columns "
            f"where table_schema = '{schema}' and table_name = '{TABLE}' and column_name <> 'uuid'"
        )[0]
        return self.sql(
            f"select count(*), coalesce(sum(hashtextextended(row({columns})::text, 0)::numeric), 0) from {schema}.{TABLE}"
        )[0]

    def export(self, schema, file):
        """The table's rows as binary COPY in a file; returns how many."""
        self.script(f"\\copy (select * from {schema}.{TABLE}) to '{file}' (format binary)")
        return int(self.sql(f"select count(*) from {schema}.{TABLE}")[0])

    def copy_seconds(self, schema, file, row_count):
        """Seconds of one `\\copy` of the file in one transaction into the emptied table: PostgreSQL alone."""
        self.empty(schema)
        seconds = self.script(f"begin;\n\\copy {schema}.{TABLE} from '{file}' (format binary)\ncommit;").seconds
        if self.sql(f"select count(*) from {schema}.{TABLE}") != [str(row_count)]:
            raise BenchmarkError(f"\\copy into {schema}.{TABLE} gave another number of rows than {row_count}")
        return seconds

    def script(self, text):
        """A script of several lines, which may hold commands of psql itself."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(text + "\n")
            file.flush()
            command = ["psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", file.name]
            result = measure(command, self.environment)
        if result.exit_code != 0:
            raise BenchmarkError(f"psql ended with {result.exit_code}: {result.stderr.strip()}")
        return result

    def version(self):
        """Version and the settings that decide how fast it writes."""
        names = ["server_version", "fsync", "synchronous_commit", "shared_buffers", "work_mem", "max_wal_size"]
        return ", ".join(f"{name} {self.sql(f'show {name}')[0]}" for name in names)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()

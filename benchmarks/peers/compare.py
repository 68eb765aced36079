"""Rows that gristmill wrote and rows of a peer -> nothing, or the reason why they are not the same."""

import duckdb
import rollup_sql
from process import BenchmarkError

UNALLOCATED = "('Platform unallocated', 'Worker unallocated')"
# Which of our rows a peer's result table holds.
OURS = {
    "pod_rows": f"data_source = 'Pod' and (namespace is null or namespace not in {UNALLOCATED})",
    "storage_rows": "data_source = 'Storage'",
    "unallocated_rows": f"data_source = 'Pod' and namespace in {UNALLOCATED}",
}
LABELS = {"pod_rows": "pod_labels", "storage_rows": "volume_labels"}


class Expected:
    """Our rows, from the Parquet files of a `file` target."""

    def __init__(self, folder, part):
        self.connection = duckdb.connect()
        self.tables = rollup_sql.results(part)
        for table, columns in self.tables.items():
            chosen = ", ".join(self.column(table, column) for column in columns)
            self.connection.execute(
                f"create table {table} as select {chosen} from read_parquet('{folder}/*.parquet') where {OURS[table]}"
            )

    @staticmethod
    def column(table, column):
        """One of our columns in the peers' form: a column per enabled key, doubles instead of decimals."""
        if column in rollup_sql.KEYS:
            return f"json_extract_string({LABELS[table]}, '$.{column}') as {column}"
        return f"cast({column} as {rollup_sql.type_of(column)}) as {column}"

    def row_counts(self):
        """Rows per table."""
        return {table: self.connection.execute(f"select count(*) from {table}").fetchone()[0] for table in self.tables}

    def require_same(self, name, folder):
        """Stops unless the peer has the same rows: keys one by one, values within 1e-9 relative."""
        for table, columns in self.tables.items():
            theirs = f"read_parquet('{folder}/{table}.parquet*', hive_partitioning = false)"
            counts = [self.connection.execute(f"select count(*) from {source}").fetchone()[0] for source in (table, theirs)]
            if counts[0] != counts[1]:
                raise BenchmarkError(f"{name}: {table} has {counts[1]} rows, gristmill has {counts[0]}")
            self.require_sums(name, table, columns, theirs)
            self.require_rows(name, table, columns, theirs)

    def require_sums(self, name, table, columns, theirs):
        """Totals of every number, per day."""
        numbers = [column for column in columns if rollup_sql.type_of(column) == "DOUBLE"]
        sums = ", ".join(f"sum({column})" for column in numbers)
        rows = [
            self.connection.execute(f"select usage_start, {sums} from {source} group by 1 order by 1").fetchall()
            for source in (table, theirs)
        ]
        days = [[str(row[0]) for row in side] for side in rows]
        if days[0] != days[1]:
            unequal = ", ".join(sorted(set(days[0]) ^ set(days[1])))
            raise BenchmarkError(f"{name}: {table} has other days than gristmill: only one of them has {unequal}")
        for ours, other in zip(*rows):
            for number, (a, b) in enumerate(zip(ours[1:], other[1:])):
                if (a is None) != (b is None) or (a is not None and abs(a - b) > 1e-9 * abs(a) + 1e-9):
                    raise BenchmarkError(f"{name}: {table}, {ours[0]}: sum of {numbers[number]} is {b}, gristmill has {a}")

    def require_rows(self, name, table, columns, theirs):
        """Every row, joined on all columns that are no numbers."""
        keys = [column for column in columns if rollup_sql.type_of(column) != "DOUBLE"]
        numbers = [column for column in columns if column not in keys]
        self.require_keys(name, table, ", ".join(keys), theirs)
        same_key = " and ".join(f"a.{key} is not distinct from b.{key}" for key in keys)
        close = " and ".join(
            f"(a.{n} is not distinct from b.{n} or coalesce(abs(a.{n} - b.{n}) <= 1e-9 * abs(a.{n}) + 1e-12, false))"
            for n in numbers
        )
        # Each row by its number: a row that has two partners must not stand in for one that has none.
        numbered = [f"(select *, row_number() over () as row_number from {source})" for source in (table, theirs)]
        matched = self.connection.execute(
            f"select count(distinct a.row_number), count(distinct b.row_number) from {numbered[0]} a"
            f" join {numbered[1]} b on {same_key} where {close}"
        ).fetchone()
        expected = self.connection.execute(f"select count(*) from {table}").fetchone()[0]
        for side, found in zip(("gristmill's", "its"), matched):
            if found != expected:
                what = f"only {found} of {side} {expected} rows of {table} have a partner"
                raise BenchmarkError(f"{name}: {what} that agrees in every column")

    def require_keys(self, name, table, keys, theirs):
        """Each combination of names and labels as often on both sides."""
        sides = [f"select {keys}, count(*) as row_count from {source} group by all" for source in (table, theirs)]
        for one, other, whose in ((*sides, "gristmill"), (*reversed(sides), "the peer")):
            left = self.connection.execute(f"select count(*) from (({one}) except ({other}))").fetchone()[0]
            if left:
                what = f"{left} keys of {whose} are missing on the other side or not as often there"
                raise BenchmarkError(f"{name}: {table}: {what}")

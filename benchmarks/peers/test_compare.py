"""Does the comparison of rows see every kind of difference? Tiny tables on both sides.

Needs DuckDB, so: `~/.cache/gristmill/benchmarks/peers-environment/bin/python -B benchmarks/peers/test_compare.py`.
"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import duckdb  # noqa: E402
import rollup_sql  # noqa: E402
from compare import Expected  # noqa: E402
from process import BenchmarkError  # noqa: E402

TABLE = "pod_rows"
COLUMNS = rollup_sql.results("pods")[TABLE]
DAY, NEXT_DAY = "2025-10-01", "2025-10-02"


def select(rows):
    """(day, namespace, value of every number) as a query; whatever else a row has is null."""

    def value(column, day, namespace, number):
        if column == "usage_start":
            return f"date '{day}' as {column}"
        if rollup_sql.type_of(column) == "DOUBLE":
            return f"{number}::double as {column}"
        return f"'{namespace}' as {column}" if column == "namespace" else f"null::varchar as {column}"

    return " union all ".join("select " + ", ".join(value(column, *row) for column in COLUMNS) for row in rows)


class Comparison(unittest.TestCase):
    """Our rows, a peer's rows, and what is said about them."""

    def compare(self, ours, theirs):
        """Compares as the benchmark does."""
        # Without a folder of our files: the table is made here.
        expected = Expected.__new__(Expected)
        expected.connection, expected.tables = duckdb.connect(), {TABLE: COLUMNS}
        expected.connection.execute(f"create table {TABLE} as {select(ours)}")
        with tempfile.TemporaryDirectory() as folder:
            duckdb.execute(f"copy ({select(theirs)}) to '{folder}/{TABLE}.parquet' (format parquet)")
            expected.require_same("peer", folder)

    def differs(self, message, ours, theirs):
        """The comparison stops and says why."""
        with self.assertRaisesRegex(BenchmarkError, message):
            self.compare(ours, theirs)

    def test_the_order_and_the_last_bits_do_not_matter(self):
        self.compare([(DAY, "a", 1), (DAY, "b", 2)], [(DAY, "b", 2.0000000000001), (DAY, "a", 1)])

    def test_a_row_twice_does_not_hide_a_missing_one(self):
        self.differs("keys of gristmill are missing", [(DAY, "a", 1), (DAY, "b", 1)], [(DAY, "a", 1), (DAY, "a", 1)])

    def test_rows_of_one_key_are_matched_one_by_one(self):
        same_key = [(DAY, "a", 1), (DAY, "a", 1), (DAY, "a", 4)]
        self.compare(same_key, same_key)
        self.differs("have a partner", same_key, [(DAY, "a", 1), (DAY, "a", 2), (DAY, "a", 3)])

    def test_exchanged_values_are_seen(self):
        self.differs("have a partner", [(DAY, "a", 1), (DAY, "b", 2)], [(DAY, "a", 2), (DAY, "b", 1)])

    def test_other_days_are_named(self):
        self.differs(f"only one of them has {DAY}, {NEXT_DAY}", [(DAY, "a", 1)], [(NEXT_DAY, "a", 1)])
        both = [(DAY, "a", 1), (NEXT_DAY, "a", 1)]
        self.differs(f"only one of them has {NEXT_DAY}", both, [(DAY, "a", 1), (DAY, "a", 1)])

    def test_another_sum_is_named(self):
        self.differs("sum of .* is 3.0, gristmill has 1.0", [(DAY, "a", 1)], [(DAY, "a", 3)])

    def test_another_number_of_rows_is_named(self):
        self.differs("has 1 rows, gristmill has 2", [(DAY, "a", 1), (DAY, "b", 1)], [(DAY, "a", 2)])


if __name__ == "__main__":
    unittest.main()

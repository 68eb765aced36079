"""Does the streaming benchmark stop when a check fails? Its own code with stand-ins for the programs and the database.

`python3 -B benchmarks/e2e/test_checks.py` takes about a second and needs nothing but Python 3.11; scripts/test.sh runs it.
"""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import database as database_module
import runs
import streaming
from data import DataSet
from process import conclude

ROWS = 48
FIGURES = ["peak_memory_bytes", "bytes_read", "requests"]
# A program that answers `run` and `verify` as gristmill does. What it reports is filled in.
GRISTMILL = """#!{python}
import json, sys
command, arguments = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
target = json.load(open(arguments["--config"]))["target"]["kind"]
sums = {{f"measure_{{number}}": {sums}[target] for number in range({sum_count})}}
day = {{"day": "2025-10-01", "rows_in": {rows}, "rows_out": 4, "sums": sums}}
report = {{"days": [day], "rows_in": {rows}, "rows_out": 4, "stage_seconds": [], **dict.fromkeys({figures}, 1)}}
json.dump(report, open(arguments["--report"], "w"))
sys.exit({verify_exit_code} if command == "verify" else 0)
"""
DECODE = """#!{python}
import json, sys
print("json " + json.dumps({{"floor_seconds": [0.5], "threads": int(sys.argv[3])}}))
"""


class StandInDatabase:
    """A database whose table always holds the same."""

    def __init__(self, fingerprints=("4\t17",)):
        self.fingerprints = list(fingerprints)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fingerprint(self, _schema):
        """The next content; the last one stays."""
        return self.fingerprints.pop(0) if len(self.fingerprints) > 1 else self.fingerprints[0]

    def settings(self, schema):
        """Only what a report of the test needs."""
        return {"schema": schema}

    def version(self):
        """No server."""
        return "none"

    def export(self, _schema, _file):
        """Rows of the table."""
        return 4

    def copy_seconds(self, *_):
        """Seconds of a plain copy."""
        return 0.25

    def empty(self, _schema):
        """Nothing to empty."""

    drop = drop_indexes = empty

    def create(self, *_):
        """Nothing to create."""


class Checks(unittest.TestCase):
    """Each case runs the whole benchmark."""

    def bench(self, target="both", database=None, sums=None, sum_count=runs.POD_SUMS, verify_exit_code=0, has_postgres=True):
        """Exit code, names of what was recorded, and the messages."""
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            folder, out = Path(scratch), Path(scratch, "results")
            facts = {"rows": ROWS, "figures": FIGURES, "sum_count": sum_count, "verify_exit_code": verify_exit_code}
            facts["sums"] = sums or {"postgres": "1.500000000000000", "none": "1.500000000000000"}
            programs = {"s3_server": None}
            for name, text in (("gristmill", GRISTMILL), ("decode", DECODE)):
                programs[name] = folder / name
                programs[name].write_text(text.format(python=sys.executable, **facts), encoding="utf-8")
                programs[name].chmod(0o755)
            data = DataSet(folder, ROWS, ROWS, "2025-10-01", "2025-10-01", "the test")
            bucket = mock.Mock(server=None)
            bucket.settings.return_value = {"url": "s3://nowhere"}
            replaced = {
                "build": lambda _: programs,
                "obtain": lambda *_: data,
                "Database": lambda: database or StandInDatabase(),
                "environment": lambda: [],
            }
            for name, stand_in in replaced.items():
                stack.enter_context(mock.patch.object(streaming, name, stand_in))
            psql = "/usr/bin/true" if has_postgres else None
            stack.enter_context(mock.patch.object(database_module.shutil, "which", lambda _: psql))
            stack.enter_context(mock.patch.object(runs.storage, "uploaded", lambda *_: contextlib.nullcontext(bucket)))
            arguments = ["streaming", "small", "--main-only", "--workers", "1", "--target", target, "--out", str(out)]
            stack.enter_context(mock.patch.object(sys, "argv", arguments))
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                options = streaming.parse()
                exit_code = conclude(lambda: streaming.run(options))
            recorded = sorted(path.name for path in out.rglob("*")) if out.exists() else []
            return exit_code, recorded, said.getvalue()

    def stops(self, message, **case):
        """The benchmark ends with 1, records nothing and says why."""
        exit_code, recorded, said = self.bench(**case)
        self.assertEqual((exit_code, recorded), (1, []), said)
        self.assertIn(message, said)
        self.assertIn("nothing was recorded", said)

    def test_what_agrees_is_recorded(self):
        exit_code, recorded, said = self.bench()
        self.assertEqual(exit_code, 0, said)
        for name in ("report.md", "report.json", "environment.md"):
            self.assertIn(name, recorded)

    def test_a_machine_without_postgresql_has_its_message(self):
        self.stops("PostgreSQL is not installed; on Debian or Ubuntu: apt-get install postgresql", has_postgres=False)

    def test_a_failed_verification_stops_the_benchmark(self):
        for target in ("postgres", "none"):
            self.stops("verification failed with exit code 1", target=target, verify_exit_code=1)

    def test_nothing_to_compare_is_a_failed_verification(self):
        self.stops("verification failed with exit code 2", verify_exit_code=2)

    def test_other_sums_of_a_run_that_only_counts_stop_it(self):
        sums = {"postgres": "1.500000000000000", "none": "1.500000000000001"}
        self.stops("measure_0 is 1.500000000000001, the verified run has 1.5", target="none", sums=sums)

    def test_a_report_without_sums_stops_it(self):
        self.stops("has 0 column sums instead of 8", sum_count=0)

    def test_other_content_of_the_table_stops_it(self):
        self.stops("the table's content differs", target="postgres", database=StandInDatabase(["4\t17", "4\t18"]))


if __name__ == "__main__":
    # The same whatever the caller's machine has been set to.
    os.environ.pop("S3_ENDPOINT", None)
    unittest.main()

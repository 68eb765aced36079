"""CSV of the cluster operator -> Parquet: by `gristmill convert` (raw and daily) and by DuckDB's COPY of the same text untouched.

As a program, `convert.py CSV THREADS OUT` does one COPY and prints one line of JSON; importing the library is not timed.
"""

import datetime
import hashlib
import json
import sys
import time
from pathlib import Path

PODS_PER_DEPLOYMENT = 25
# As `gristmill convert` cuts if nothing is said.
ROWS_PER_OBJECT = 200_000
MONTH = (datetime.datetime(2025, 10, 1), datetime.datetime(2025, 11, 1))
COLUMNS = [
    *["report_period_start", "report_period_end", "interval_start", "interval_end", "pod", "namespace", "node", "resource_id"],
    *["pod_usage_cpu_core_seconds", "pod_request_cpu_core_seconds", "pod_limit_cpu_core_seconds"],
    *["pod_usage_memory_byte_seconds", "pod_request_memory_byte_seconds", "pod_limit_memory_byte_seconds"],
    *["node_capacity_cpu_cores", "node_capacity_cpu_core_seconds"],
    *["node_capacity_memory_bytes", "node_capacity_memory_byte_seconds", "pod_labels"],
]
# Compared as sums: numbers with few digits, whose sums no order of adding changes by more than the tolerance.
SUMMED = [column for column in COLUMNS if column.startswith("pod_") and column.endswith("_seconds")]
GIB_HOUR = 2**30 * 3600


class Csv:
    """One file of hourly pod rows, made once and kept in the cache: so many pods in each hour from the first day on."""

    def __init__(self, cache, pods, hours, has_own_labels):
        self.pods, self.hours, self.has_own_labels = pods, hours, has_own_labels
        self.rows = pods * hours
        self.daily_rows = daily_rows(pods, hours)
        key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        labels = "own-labels" if has_own_labels else "shared-labels"
        self.folder = cache / "csv" / f"{pods}-pods-{hours}-hours-{labels}-{key}"
        self.file = self.folder / "pod_usage.csv"
        if not self.file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = self.folder / "pod_usage.part"
            with open(partial, "w", encoding="ascii") as file:
                file.writelines(self.lines())
            partial.rename(self.file)

    def lines(self):
        """The header, and hour after hour a row of each pod."""
        yield ",".join(COLUMNS) + "\n"
        pods = [(self.names(number), self.measures(number)) for number in range(self.pods)]
        for hour in range(self.hours):
            start = MONTH[0] + datetime.timedelta(hours=hour)
            end = start + datetime.timedelta(minutes=59, seconds=59)
            times = ",".join(f"{moment} +0000 UTC" for moment in (*MONTH, start, end))
            for number, (names, (measures, labels)) in enumerate(pods):
                # Usage differs from hour to hour, so that it is no column of a few distinct values.
                usage = f"{(number * 31 + hour * 17) % 100_003 / 32},{900 + number % 7 * 450},7200"
                yield f"{times},{names},{usage},{measures},{labels}\n"

    @staticmethod
    def names(number):
        """Pod, namespace, node and resource id."""
        deployment = number // PODS_PER_DEPLOYMENT
        return f"service-{deployment}-{number:x},project-{deployment % 97},node-{number % 211},i-{number % 211:017x}"

    def measures(self, number):
        """Memory of the pod and capacities of its node; labels."""
        deployment = number // PODS_PER_DEPLOYMENT
        memory = ",".join(str(number % factor * GIB_HOUR // 8) for factor in (5, 9, 17))
        node = f"64,{64 * 3600},{256 * 2**30},{256 * GIB_HOUR}"
        team, version = deployment % 12, deployment % 40
        labels = f"label_app:service-{deployment}|label_environment:prod|label_team:team-{team}|label_version:v{version}"
        own = f"|label_pod_template_hash:{number * 2654435761 % 2**32:08x}" if self.has_own_labels else ""
        return f"{memory},{node}", labels + own


def daily_rows(pods, hours):
    """Rows of the daily copies. Each folds the rows of one object: so many rows of one day in the order of the CSV, in which
    no pod comes again before all others have come."""
    rows = 0
    for first_hour in range(0, hours, 24):
        left = pods * min(24, hours - first_hour)
        while left > 0:
            rows += min(pods, left, ROWS_PER_OBJECT)
            left -= ROWS_PER_OBJECT
    return rows


class Converter:
    """Our side: whole processes that write raw and daily objects into a folder."""

    def __init__(self, program, csv, threads):
        self.program, self.csv, self.threads = program, csv, threads

    def run(self, out):
        """One conversion."""
        from data import cluster_arguments
        from process import require

        command = [self.program, "convert", "--in", self.csv.file, "--out", Path(out, "ours"), "--workers", self.threads]
        result = require([*command, "--rows-per-file", ROWS_PER_OBJECT, *cluster_arguments()])
        return {"seconds": result.seconds, "cpu_seconds": result.cpu_seconds}


class Converted:
    """What must lie in the folder after both have run."""

    def __init__(self, csv):
        self.csv = csv

    def row_counts(self):
        """Rows per copy."""
        return {"the raw copy": self.csv.rows, "the daily copy": self.csv.daily_rows}

    def require_same(self, name, out):
        """Stops unless the Parquet files have the rows of the CSV, and the same sums of the pods' measures."""
        from data import ORG_ID
        from engine import report_folder
        from process import BenchmarkError

        ours = Path(out, "ours")
        files = {
            name: (f"{out}/copy.parquet", self.csv.rows),
            "gristmill, raw": (f"{report_folder(ours, 'pod_usage')}/**/*.parquet", self.csv.rows),
            "gristmill, daily": (f"{ours}/data/parquet/daily/{ORG_ID}/OCP/pod_usage/**/*.parquet", self.csv.daily_rows),
        }
        sums = {side: self.check_rows(side, *facts) for side, facts in files.items()}
        for side, found in sums.items():
            for column, a, b in zip(SUMMED, found, sums[name]):
                if abs(a - b) > 1e-9 * abs(b):
                    raise BenchmarkError(f"{side}: sum of {column} is {a}, {name} has {b}")

    @staticmethod
    def check_rows(side, files, rows):
        """Sums of the measures, if there are as many rows as there must be."""
        import duckdb
        from process import BenchmarkError

        columns = ", ".join(f"sum({column})::double" for column in SUMMED)
        source = f"read_parquet('{files}', hive_partitioning = false)"
        count, *sums = duckdb.execute(f"select count(*), {columns} from {source}").fetchone()
        if count != rows:
            raise BenchmarkError(f"{side}: {count} rows in Parquet instead of {rows}")
        return sums


def main():
    """One COPY by DuckDB."""
    from engine import duckdb_connection, peak_memory_bytes

    file, threads, out = sys.argv[1:]
    connection = duckdb_connection(int(threads))
    started, cpu_started = time.perf_counter(), time.process_time()
    connection.execute(f"copy (select * from read_csv('{file}')) to '{out}/copy.parquet' (format parquet)")
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    main()

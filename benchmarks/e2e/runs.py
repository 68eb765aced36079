"""One data set -> runs of the whole program in several settings, in turns, each checked against rows that were verified."""

import json
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import storage
from process import BenchmarkError, measure, read_json, require, write_json

LATENCY_MILLISECONDS = 50
# Measures that are summed in pod rows; the report has the sum of each per day.
POD_SUMS = 8


@dataclass
class Variant:
    """One way to run, and what was measured."""

    name: str
    place: str
    target: str
    workers: int
    schema: str = "indexed"
    overrides: dict = field(default_factory=dict)
    counted: list = field(default_factory=list)

    def seconds(self):
        """Median wall time."""
        return statistics.median(run["seconds"] for run in self.counted)


def variants(targets, workers, is_own_server, is_full):
    """The ways to run. The first one is the main one; the others share its rounds."""
    chosen = [Variant(f"s3, {target}", "s3", target, workers) for target in targets]
    if not is_full:
        return chosen
    for target in targets:
        chosen.append(Variant(f"local, {target}", "local", target, workers))
        if is_own_server:
            chosen.append(Variant(f"s3 + {LATENCY_MILLISECONDS} ms, {target}", "slow s3", target, workers))
    if "postgres" in targets:
        chosen.append(Variant("local, postgres, 1 connection", "local", "postgres", workers, overrides={"connections": 1}))
        chosen.append(Variant("local, postgres, no indexes", "local", "postgres", workers, schema="bare"))
    fewer = [count for count in (1, 2, 4, 8, 16, 32) if count < workers]
    for target in targets:
        chosen += [Variant(f"local, {target}, {count} of {workers} workers", "local", target, count) for count in fewer]
    return chosen


class Bench:
    """Everything that the runs of one scale share."""

    def __init__(self, programs, database, data, scratch):
        self.programs, self.database, self.data, self.scratch = programs, database, data, Path(scratch)
        self.places = {}
        self.expected = None
        self.verification = None

    def settings(self, variant):
        """The configuration of a variant."""
        place = self.places[variant.place]
        section = self.data.local_storage() if place is None else place.settings()
        target = {"kind": "none"}
        if variant.target == "postgres":
            target = {"kind": "postgres", "postgres": {**self.database.settings(variant.schema), **variant.overrides}}
        return {**self.data.settings(variant.workers), "storage": section, "target": target}

    def run(self, variant):
        """One run into an empty target, whose rows must be those that were verified."""
        config, report = self.scratch / "config.yaml", self.scratch / "report.json"
        write_json(config, self.settings(variant))
        if variant.target == "postgres":
            self.database.empty(variant.schema)
        place = self.places[variant.place]
        server = place.server if place else None
        server_before = server.cpu_seconds() if server else 0.0
        result = measure([self.programs["gristmill"], "run", "--config", config, "--report", report])
        if result.exit_code != 0:
            raise BenchmarkError(f"{variant.name}: the run ended with {result.exit_code}:\n{result.stderr.strip()}")
        facts = read_json(report)
        days = day_results(facts)
        if facts["rows_in"] != self.data.rows:
            raise BenchmarkError(f"{variant.name}: {facts['rows_in']} rows were read, the data has {self.data.rows}")
        fingerprint = self.database.fingerprint(variant.schema) if variant.target == "postgres" else None
        self.check(variant, days, fingerprint)
        return {
            "seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
            "server_cpu_seconds": server.cpu_seconds() - server_before if server else None,
            "peak_memory_bytes": facts["peak_memory_bytes"],
            "bytes_read": facts["bytes_read"],
            "requests": facts["requests"],
            "rows_in": facts["rows_in"],
            "rows_out": facts["rows_out"],
            "stage_seconds": {stage["stage"]: stage["seconds"] for stage in facts["stage_seconds"]},
        }

    def check(self, variant, days, fingerprint):
        """Compares with the first run, which is the one that gets verified: every run's rows and column sums per day, and
        in PostgreSQL the content of the table."""
        if self.expected is None:
            self.expected = (days, fingerprint)
        expected_days, expected_fingerprint = self.expected
        require_same_days(variant.name, days, expected_days, "the verified run")
        if fingerprint is not None and fingerprint != expected_fingerprint:
            raise BenchmarkError(f"{variant.name}: the table's content differs from that of the verified run")

    def verify(self, variant):
        """`gristmill verify` on what the variant has just written; anything but `equal` stops the benchmark."""
        config, report = self.scratch / "config.yaml", self.scratch / "verify.json"
        self.verification = verify(self.programs["gristmill"], config, report, variant.name)


def bench_scale(programs, database, data, options):
    """All runs of a data set; returns what the report needs, or stops."""
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gristmill-benchmark-"))
        # psql runs as this user, PostgreSQL's files are its own; nobody else needs the folder.
        bench = Bench(programs, database, data, scratch)
        bucket = stack.enter_context(storage.uploaded(programs["s3_server"], data.folder))
        bench.places = {"s3": bucket, "local": None}
        chosen = variants(options.targets, options.workers, bucket.server is not None, options.is_full)
        if any(variant.place == "slow s3" for variant in chosen):
            slow = storage.own_bucket(programs["s3_server"], data.folder, LATENCY_MILLISECONDS)
            bench.places["slow s3"] = stack.enter_context(slow)
        schemas = make_schemas(bench)
        # Verified before anything is timed: whatever --target says, rows have to lie somewhere to be compared.
        first = Variant("verification", "s3", "postgres", options.workers)
        bench.run(first)
        bench.verify(first)
        copies = PlainCopy(bench, schemas)
        floors = {workers: [] for workers in sorted({options.workers, *(variant.workers for variant in chosen)})}
        for number in range(options.runs + 1):
            # The first round warms memory, page cache and the database.
            is_counted = number > 0
            for variant in chosen:
                measured = bench.run(variant)
                if is_counted:
                    variant.counted.append(measured)
            copies.run(is_counted)
            if is_counted:
                for workers, seconds in floors.items():
                    seconds += decode_floor(programs, data, 1, workers)["floor_seconds"]
        return {
            "pod_rows": data.pod_rows,
            "made_by": data.made_by,
            "workers": options.workers,
            "verification": bench.verification,
            "fingerprint": bench.expected[1],
            "variants": [
                {"name": variant.name, "workers": variant.workers, "target": variant.target, "runs": variant.counted}
                for variant in chosen
            ],
            "copy_seconds": copies.counted,
            "copy_rows": copies.row_count,
            "decode_floor_seconds": {str(workers): seconds for workers, seconds in floors.items()},
        }


def day_results(report):
    """What a run's report says about the rows of each day, whatever its target: counts and the sums of the pod measures."""
    for day in report["days"]:
        if day["rows_out"] > 0 and len(day["sums"]) != POD_SUMS:
            raise BenchmarkError(f"{day['day']}: the run's report has {len(day['sums'])} column sums instead of {POD_SUMS}")
    return [(day["day"], {"rows in": day["rows_in"], "rows out": day["rows_out"], **day["sums"]}) for day in report["days"]]


def require_same_days(name, days, expected, of_what):
    """Stops unless two runs' days have the same counts and, digit for digit, the same sums; names the first that differs."""
    if [day for day, _ in days] != [day for day, _ in expected]:
        raise BenchmarkError(f"{name}: the days are not those of {of_what}")
    for (day, found), (_, wanted) in zip(days, expected):
        for what in sorted(found.keys() | wanted.keys()):
            if found.get(what) != wanted.get(what):
                raise BenchmarkError(f"{name}: {day}: {what} is {found.get(what)}, {of_what} has {wanted.get(what)}")


def verify(gristmill, config, report, name):
    """`gristmill verify` against the second engine; anything but `equal` stops the benchmark."""
    result = measure([gristmill, "verify", "--config", config, "--against", "recompute", "--report", report])
    if result.exit_code != 0:
        output = "\n".join((result.stdout + result.stderr).strip().splitlines()[-20:])
        raise BenchmarkError(
            f"{name}: verification failed with exit code {result.exit_code}, so nothing is reported:\n{output}"
        )
    return {"seconds": result.seconds, "against": "recompute", "report": read_json(report)}


def make_schemas(bench):
    """The target with the contract's indexes, one without any, and one for PostgreSQL's own COPY."""
    settings = {**bench.data.settings(1), "storage": bench.data.local_storage()}
    for schema in ("indexed", "bare", "copied"):
        # Of the scale before; at the end the server takes everything with it.
        bench.database.drop(schema)
        bench.database.create(bench.programs["gristmill"], settings, schema)
    bench.database.drop_indexes("bare")
    return {"with indexes": "copied", "without indexes": "bare"}


class PlainCopy:
    """PostgreSQL alone: the verified rows, COPYed from a file into identical tables."""

    def __init__(self, bench, schemas):
        self.database, self.schemas = bench.database, schemas
        self.file = bench.scratch / "rows.bin"
        self.row_count = self.database.export("indexed", self.file)
        self.counted = {name: [] for name in schemas}

    def run(self, is_counted):
        """One COPY into each table."""
        for name, schema in self.schemas.items():
            seconds = self.database.copy_seconds(schema, self.file, self.row_count)
            if is_counted:
                self.counted[name].append(seconds)


def decode_floor(programs, data, runs, threads):
    """Seconds of merely decoding the needed columns on so many threads, and of the engine beside it in the same process."""
    result = require([programs["decode"], data.folder, runs, threads])
    lines = [line.removeprefix("json ") for line in result.stdout.splitlines() if line.startswith("json ")]
    if len(lines) != 1:
        raise BenchmarkError("the decode benchmark printed no figures")
    figures = json.loads(lines[0])
    if figures["threads"] != threads:
        raise BenchmarkError(f"the decode benchmark ran on {figures['threads']} threads instead of {threads}")
    return figures


def cores():
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))

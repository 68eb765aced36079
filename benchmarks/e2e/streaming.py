"""Scales -> checked and timed runs of the whole program -> a folder of results. See scripts/run_streaming_benchmark.sh."""

import argparse
import datetime
import os
import sys
from pathlib import Path

import report
from data import NISE, SCALES, obtain
from database import Database, require_postgres
from machine import REPOSITORY, build, environment, environment_page, machine_name, record
from process import conclude
from runs import bench_scale, cores


def main():
    """Runs the benchmark; exit code 0 only if the first run was verified and every other one agrees with it."""
    options = parse()
    return conclude(lambda: run(options))


def parse():
    """The command line."""
    usual = [scale.name for scale in SCALES if not scale.on_demand]
    on_demand = [scale.name for scale in SCALES if scale.on_demand]
    parser = argparse.ArgumentParser(
        prog="scripts/run_streaming_benchmark.sh",
        description=f"Scales: {', '.join(usual)}; only if named: {', '.join(on_demand)}.",
    )
    parser.add_argument("scales", nargs="*", metavar="scale", help="default: all but those that must be named")
    parser.add_argument("--target", choices=["postgres", "none", "both"], default="both", help="what is timed (default: both)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each variant, at least 3 (default: 3)")
    parser.add_argument("--workers", type=int, default=cores(), help="max_workers of the main runs (default: all cores)")
    parser.add_argument("--main-only", action="store_true", help="no latency, no local files, no other numbers of workers")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results", help="parent of the results")
    parser.add_argument("--cargo-argument", action="append", default=[], help="passed to cargo build; may be repeated")
    options = parser.parse_args()
    known = {scale.name: scale for scale in SCALES}
    unknown = [name for name in options.scales if name not in known]
    if unknown:
        parser.error(f"no such scale: {', '.join(unknown)}; there are: {', '.join(known)}")
    if options.runs < 3:
        parser.error("--runs must be at least 3")
    if not 1 <= options.workers <= cores():
        parser.error(f"--workers must be between 1 and {cores()}, the cores of this machine")
    options.chosen = [known[name] for name in options.scales or usual]
    options.targets = ["postgres", "none"] if options.target == "both" else [options.target]
    options.is_full = not options.main_only
    return options


def run(options):
    """Everything; returns the folder of the results."""
    require_postgres()
    date = datetime.date.today().isoformat()
    facts = environment()
    print("building gristmill, the decode floor and the S3 server", file=sys.stderr)
    programs = build(options.cargo_argument)
    scales = {}
    with Database() as database:
        facts.append(("PostgreSQL server", database.version()))
        for scale in options.chosen:
            print(f"{scale.name}: data", file=sys.stderr)
            data = obtain(scale, programs["gristmill"])
            print(f"{scale.name}: runs", file=sys.stderr)
            scales[scale.name] = bench_scale(programs, database, data, options)
    facts.append(("S3 server", os.environ.get("S3_ENDPOINT") or "the tests' own, a process beside the run"))
    if any(scale.maker == "nise" for scale in options.chosen):
        facts.append(("usage generator of the reference", NISE))
    facts.append(("load average at the end", " ".join(f"{load:.2f}" for load in os.getloadavg())))

    def write(folder):
        report.write(folder, scales, date)
        (folder / "environment.md").write_text(environment_page(facts), encoding="utf-8")

    return record(options.out, f"{date}-{machine_name()}", write)


if __name__ == "__main__":
    sys.exit(main())

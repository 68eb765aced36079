"""The same rollup by gristmill and by its peers on the same local files, in turns: medians and ratios. See README.md."""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import machine  # noqa: E402
from data import SCALES, Scale, obtain, virtual_environment  # noqa: E402
from database import Database, require_postgres  # noqa: E402
from process import conclude, read_json, require, write_json  # noqa: E402
from runs import day_results, decode_floor, require_same_days, verify  # noqa: E402

REQUIREMENTS = HERE / "requirements.txt"
PEERS = {
    "pods": ["duckdb-bare", "duckdb-tuned", "duckdb-straight", "chdb", "polars", "datafusion", "postgres"],
    "all": ["duckdb-sql", "chdb", "datafusion", "postgres"],
    "convert": ["duckdb-copy"],
}
# Timed in the same rounds, but no rollups: nothing to compare.
REFERENCES = ("duckdb-bare", "decode floor")
# The run whose rows the peers are compared with.
WROTE_FILES = "the run that wrote files"
# Of gristmill's own rows in PostgreSQL, beside the peer's tables.
SCHEMA = "verified"
# Which data each comparison runs on: part of the rollup, arguments of `gristmill generate`.
SHAPES = {
    "pods, labels in dictionary pages": ("pods", []),
    "pods, labels overflow the dictionary page": ("pods", ["--unique-labels"]),
    "all of the rollup": ("all", ["--storage"]),
    # A million rows each: pods, hours, whether each pod has a label text of its own.
    "operator CSV to Parquet, labels shared by deployments": ("convert", (8_333, 120, False)),
    "operator CSV to Parquet, a label text per pod": ("convert", (83_333, 12, True)),
}


def main():
    """Runs all comparisons; exit code 0 only if every peer's rows equal ours."""
    options = parse()

    def work():
        packages = REQUIREMENTS.read_text(encoding="utf-8").split()
        python = virtual_environment("peers", packages) / "bin" / "python"
        if Path(sys.prefix) != python.parents[1]:
            os.execv(python, [str(python), "-B", __file__, *sys.argv[1:]])
        return run(options, packages)

    return conclude(work)


def parse():
    """The command line."""
    cores = len(os.sched_getaffinity(0))
    peers = sorted({peer for peers in PEERS.values() for peer in peers})
    parser = argparse.ArgumentParser(prog="benchmarks/peers/run.sh", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="hourly pod rows of the rollups (default: 10 million)")
    parser.add_argument("--days", type=int, default=5, help="days over which they are spread (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="counted rounds, at least 3 (default: 3)")
    parser.add_argument("--threads", type=int, default=cores, help="threads of every engine (default: all cores)")
    parser.add_argument("--slow-seconds", type=float, default=60, help="a peer that takes longer is counted once (default: 60)")
    parser.add_argument("--without", action="append", default=[], choices=peers, help="leaves a peer out; may be repeated")
    parser.add_argument("--shape", type=int, choices=range(1, len(SHAPES) + 1), action="append", help=shape_help())
    parser.add_argument("--out", type=Path, default=machine.REPOSITORY / "benchmarks" / "results", help="parent of the results")
    parser.add_argument("--cargo-argument", action="append", default=[], help="passed to cargo build; may be repeated")
    options = parser.parse_args()
    if options.runs < 3 or options.rows < 1 or options.days < 1 or not 1 <= options.threads <= cores:
        parser.error(f"--runs must be at least 3, --rows and --days at least 1, --threads between 1 and {cores}")
    for part in {part for part, _ in chosen_shapes(options).values()}:
        if not set(PEERS[part]) - {*options.without, *REFERENCES}:
            parser.error(f"--without leaves no peer for the comparison of {part}, and without one there is nothing to compare")
    return options


def chosen_shapes(options):
    """The comparisons that are asked for."""
    return {
        name: shape for number, (name, shape) in enumerate(SHAPES.items(), 1) if not options.shape or number in options.shape
    }


def shape_help():
    """What the numbers of `--shape` mean."""
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(SHAPES, 1))
    return f"only this comparison; may be repeated: {listed}"


def run(options, packages):
    """Everything; returns the folder of the results."""
    facts = machine.environment([("peers", ", ".join(packages))])
    parts = {part for part, _ in chosen_shapes(options).values()}
    needs_database = "postgres" not in options.without and any("postgres" in PEERS[part] for part in parts)
    if needs_database:
        require_postgres()
    print("building gristmill and the decode floor", file=sys.stderr)
    programs = machine.build(options.cargo_argument)
    shapes = {}
    with ExitStack() as stack:
        database = None
        if needs_database:
            from postgres_peer import server_settings

            database = stack.enter_context(Database(server_settings(options.threads)))
            facts.append(("PostgreSQL server", database.version()))
        for name, (part, arguments) in chosen_shapes(options).items():
            if part == "convert":
                shapes[name] = compare_conversion(options, programs, name, arguments)
                continue
            shapes[name] = compare_shape(options, programs, database, name, part, arguments)
    facts.append(("load average at the end", " ".join(f"{load:.2f}" for load in os.getloadavg())))
    date = datetime.date.today().isoformat()

    def write(folder):
        write_json(folder / "peers.json", {"date": date, "threads": options.threads, "shapes": shapes})
        (folder / "peers.md").write_text(page(shapes, options.threads, date), encoding="utf-8")
        (folder / "environment.md").write_text(machine.environment_page(facts), encoding="utf-8")

    return machine.record(options.out, f"{date}-{machine.machine_name()}-peers", write)


def compare_shape(options, programs, database, name, part, arguments):
    """One data set: our rows first, then all engines in turns."""
    from compare import Expected

    known = [scale for scale in SCALES if (scale.rows, scale.days, scale.maker) == (options.rows, options.days, "generate")]
    scale = known[0] if known else Scale(f"{options.rows} rows", options.rows, options.days)
    print(f"{name}: data", file=sys.stderr)
    data = obtain(scale, programs["gristmill"], arguments)
    with tempfile.TemporaryDirectory(prefix="gristmill-peers-") as scratch:
        ours = Gristmill(programs["gristmill"], data, options.threads, Path(scratch), part)
        expected = Expected(ours.write_files(), part)
        verification = ours.verify(database) if database else None
        peers = [peer for peer in PEERS[part] if peer not in options.without]
        run_peer = {peer: own_process(peer, data, part, options.threads) for peer in peers if peer != "postgres"}
        if "postgres" in peers:
            from postgres_peer import PostgresPeer

            print(f"{name}: loading PostgreSQL", file=sys.stderr)
            run_peer["postgres"] = PostgresPeer(database, data.folder, part, options.threads, scratch).run
        run_peer["decode floor"] = lambda _: {"seconds": decode_floor(programs, data, 1, options.threads)["floor_seconds"][0]}
        counted = rounds(options, name, ours, run_peer, expected, Path(scratch))
    return {
        "part": part,
        "pod_rows": data.pod_rows,
        "made_by": data.made_by,
        "verification": verification,
        "rows_out": expected.row_counts(),
        "engines": counted,
    }


def compare_conversion(options, programs, name, arguments):
    """One CSV, converted by gristmill and copied by DuckDB in turns."""
    from convert import Converted, Converter, Csv

    print(f"{name}: data", file=sys.stderr)
    csv = Csv(machine.cache_folder(), *arguments)
    expected = Converted(csv)

    def copy(out):
        command = [sys.executable, "-B", HERE / "convert.py", csv.file, options.threads, out]
        return json.loads(require(command).stdout.strip().splitlines()[-1])

    with tempfile.TemporaryDirectory(prefix="gristmill-peers-") as scratch:
        ours = Converter(programs["gristmill"], csv, options.threads)
        counted = rounds(options, name, ours, {"duckdb-copy": copy}, expected, Path(scratch))
    return {
        "part": "convert",
        "pod_rows": csv.rows,
        "made_by": "benchmarks/peers/convert.py",
        "csv_bytes": csv.file.stat().st_size,
        "rows_out": expected.row_counts(),
        "engines": counted,
    }


class Gristmill:
    """Our side: whole processes with the `none` target, checked against one that wrote files."""

    def __init__(self, program, data, threads, scratch, part):
        self.program, self.scratch = program, scratch
        self.settings = {**data.settings(threads), "storage": data.local_storage()}
        if part == "pods":
            # No peer looks at roles there: they are given, as an installation's node table gives them.
            self.settings["reference"] |= {"node_roles": node_roles(data.folder)}
        self.days = None

    def write_files(self):
        """Our rows as Parquet files, for the comparison."""
        folder = self.scratch / "ours"
        folder.mkdir()
        _, facts = self.process({"kind": "file", "file": {"path": str(folder), "format": "parquet"}})
        self.days = day_results(facts)
        return folder

    def verify(self, database):
        """A run into PostgreSQL that the second engine recomputes, and whose days must be those of the run that wrote files."""
        database.drop(SCHEMA)
        database.create(self.program, self.settings, SCHEMA)
        database.empty(SCHEMA)
        target = {"kind": "postgres", "postgres": database.settings(SCHEMA)}
        require_same_days("gristmill into PostgreSQL", day_results(self.process(target)[1]), self.days, WROTE_FILES)
        result = verify(self.program, self.scratch / "config.yaml", self.scratch / "verify.json", "gristmill")
        database.drop(SCHEMA)
        return result

    def run(self, _out):
        """One timed run."""
        result, facts = self.process({"kind": "none"})
        require_same_days("gristmill", day_results(facts), self.days, WROTE_FILES)
        memory = facts["peak_memory_bytes"]
        return {"seconds": result.seconds, "cpu_seconds": result.cpu_seconds, "peak_memory_bytes": memory}

    def process(self, target):
        """A whole process and its report."""
        config, report = self.scratch / "config.yaml", self.scratch / "report.json"
        write_json(config, {**self.settings, "target": target})
        result = require([self.program, "run", "--config", config, "--report", report])
        return result, read_json(report)


def node_roles(folder):
    """The roles of all nodes, in the form of a configuration."""
    import duckdb
    from engine import duckdb_dialect

    usage = duckdb_dialect(folder).source("pod_usage")
    found = duckdb.sql(
        f"select node, resource_id, coalesce(max(node_role), 'worker') from {usage} where node <> '' group by 1, 2 order by 1, 2"
    )
    return [{"node": node, "resource_id": resource_id, "role": role} for node, resource_id, role in found.fetchall()]


def own_process(peer, data, part, threads):
    """A function that runs a peer once, in a process of its own."""

    def run_once(out):
        command = [sys.executable, "-B", HERE / "engine.py", peer, data.folder, part, threads, out]
        return json.loads(require(command).stdout.strip().splitlines()[-1])

    return run_once


def rounds(options, name, ours, run_peer, expected, scratch):
    """A warm-up and the counted rounds; before each peer runs gristmill, so that both see the same machine."""
    counted = {"gristmill": [], **{peer: [] for peer in run_peer}}
    slow = set()
    for number in range(options.runs + 1):
        print(f"{name}: {'warm-up' if number == 0 else f'round {number} of {options.runs}'}", file=sys.stderr)
        for peer, run_once in run_peer.items():
            if peer in slow and number > 1:
                continue
            with tempfile.TemporaryDirectory(prefix="out-", dir=scratch) as out:
                mine, theirs = ours.run(out), run_once(out)
                if peer not in REFERENCES:
                    expected.require_same(peer, out)
            if theirs["seconds"] > options.slow_seconds:
                slow.add(peer)
            if number > 0:
                counted["gristmill"].append(mine)
                counted[peer].append(theirs)
    return counted


def page(shapes, threads, date):
    """The page."""
    parts = [
        f"# gristmill and its peers, {date}",
        f"{threads} threads each, the same local files, in turns (gristmill, peer, gristmill, next peer, …). Medians of the counted"
        " runs, least and greatest in parentheses. gristmill is timed as a whole process, a peer from the idle engine to the end of"
        " its work. What each does not do: [README](../../peers/README.md). Machine and versions: [environment.md](environment.md).",
        "Rollups: gristmill has the `none` target, peers end with tables in memory. Every peer's rows equal gristmill's, which a run"
        " wrote to files: row counts, sums per day, keys, and every row joined on its keys with values within 1e-9. gristmill's timed"
        " runs had that run's row counts and sums of the pod measures per day; their other columns are not looked at.",
    ]
    for name, shape in shapes.items():
        parts += [f"## {name}", shape_text(shape), shape_table(shape)]
    return "\n\n".join(parts) + "\n"


def shape_text(shape):
    """What was computed."""
    rows = ", ".join(f"{count:,} in {table}" for table, count in shape["rows_out"].items())
    if shape["part"] == "convert":
        size = shape["csv_bytes"] / 1_048_576
        return (
            f"{shape['pod_rows']:,} rows of pod usage in {size:.0f} MiB of CSV made by `{shape['made_by']}`; gristmill wrote {rows},"
            " DuckDB the same columns and rows as they are. Compared: row counts of the Parquet on both sides, and the sums of the"
            " pods' measures."
        )
    verified = shape["verification"]
    how = f"verified against `{verified['against']}`" if verified else "not verified against the second engine, only by the peers"
    return f"{shape['pod_rows']:,} hourly pod rows of `{shape['made_by']}`; result rows: {rows}; gristmill's rows were {how}."


def shape_table(shape):
    """Times and ratios."""
    seconds = {engine: [run["seconds"] for run in runs] for engine, runs in shape["engines"].items()}
    ours = statistics.median(seconds["gristmill"])
    lines = ["| engine | runs | s | its time / gristmill | gristmill / its time | CPU s | peak MiB |", "|---|---|---|---|---|---|---|"]
    for engine, values in sorted(seconds.items(), key=lambda item: statistics.median(item[1])):
        middle = statistics.median(values)
        peaks = [run["peak_memory_bytes"] for run in shape["engines"][engine] if run.get("peak_memory_bytes")]
        peak = f"{statistics.median(peaks) / 1_048_576:.0f}" if peaks else "–"
        cpu = [run["cpu_seconds"] for run in shape["engines"][engine] if run.get("cpu_seconds")]
        used = f"{statistics.median(cpu):.2f}" if cpu else "–"
        spread = f"{middle:.3f} ({min(values):.3f}–{max(values):.3f})"
        lines.append(f"| {engine} | {len(values)} | {spread} | {middle / ours:.2f} | {ours / middle:.2f} | {used} | {peak} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

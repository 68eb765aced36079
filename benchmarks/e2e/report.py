"""Figures of all scales -> `report.md` with its plots, and `report.json`. Every figure comes from a run that was checked."""

import statistics

from plots import chart
from process import write_json

MIB = 1_048_576


def write(folder, scales, date):
    """Writes everything but the environment."""
    write_json(folder / "report.json", {"date": date, "scales": scales})
    plots = draw(scales)
    for name, svg in plots.items():
        (folder / name).write_text(svg, encoding="utf-8")
    (folder / "report.md").write_text(page(scales, plots, date), encoding="utf-8")


def page(scales, plots, date):
    """The page."""
    parts = [
        f"# Whole runs, {date}",
        "Medians of the counted runs, least and greatest in parentheses; the warm-up is not counted. All variants of a scale took"
        " turns. The rows of each scale were verified against the second engine before anything was timed. Every counted run had the"
        " verified run's counts and sums of the pod measures per day, those into PostgreSQL also the same content of the table."
        " A wall time is that of the whole process. Machine, versions and commit:"
        " [environment.md](environment.md); every single run: [report.json](report.json).",
    ]
    for name in scales:
        parts += scale_section(name, scales[name])
    if plots:
        parts += ["## Against the number of rows", *(f"![{name}]({name})" for name in plots)]
    return "\n\n".join(parts) + "\n"


def scale_section(name, scale):
    """One scale."""
    compared = scale["verification"]
    first = scale["variants"][0]["runs"][0]
    lines = [
        f"## {name}",
        f"{scale['pod_rows']:,} hourly pod rows; {first['rows_in']:,} rows in, {first['rows_out']:,} rows out;"
        f" made by `{scale['made_by']}`. Verified against `{compared['against']}` in {compared['seconds']:.1f} s.",
        table(
            ["variant", "workers", "wall s", "CPU s", "S3 server CPU s", "peak MiB", "MiB read", "requests", "pod rows/s"],
            [variant_row(variant, scale["pod_rows"]) for variant in scale["variants"]],
        ),
        stage_table(scale["variants"]),
        floor_table(scale),
    ]
    speed_up = speed_up_table(scale["variants"])
    return lines + ([speed_up] if speed_up else [])


def variant_row(variant, pod_rows):
    """Medians of one variant."""
    runs = variant["runs"]
    seconds = [run["seconds"] for run in runs]
    server = [run["server_cpu_seconds"] for run in runs if run["server_cpu_seconds"] is not None]
    return [
        variant["name"],
        str(variant["workers"]),
        spread(seconds),
        f"{median(runs, 'cpu_seconds'):.2f}",
        f"{statistics.median(server):.2f}" if server else "–",
        f"{median(runs, 'peak_memory_bytes') / MIB:.0f}",
        f"{median(runs, 'bytes_read') / MIB:.1f}",
        f"{median(runs, 'requests'):.0f}",
        f"{pod_rows / statistics.median(seconds):,.0f}",
    ]


def stage_table(variants):
    """Seconds per stage as the run's own report gives them."""
    stages = list(dict.fromkeys(stage for variant in variants for stage in variant["runs"][0]["stage_seconds"]))
    rows = []
    for variant in variants:
        of_stage = [[run["stage_seconds"].get(stage, 0.0) for run in variant["runs"]] for stage in stages]
        rows.append([variant["name"], *(f"{statistics.median(seconds):.2f}" for seconds in of_stage)])
    heading = "Seconds per stage; stages overlap, and those that run on several workers are sums over them."
    return heading + "\n\n" + table(["variant", *stages], rows)


def floor_table(scale):
    """What cannot be undercut, and how far the runs are from it."""
    floors = {int(workers): seconds for workers, seconds in scale["decode_floor_seconds"].items()}
    rows = [[f"decode floor, threads: {workers}", spread(seconds), "–"] for workers, seconds in floors.items()]
    for name, seconds in scale["copy_seconds"].items():
        rows.append([f"PostgreSQL alone: `\\copy` of {scale['copy_rows']:,} rows {name}", spread(seconds), "–"])
    copy = statistics.median(scale["copy_seconds"]["with indexes"])
    bare = statistics.median(scale["copy_seconds"]["without indexes"])
    for variant in scale["variants"]:
        seconds = [run["seconds"] for run in variant["runs"]]
        # On as many threads as the variant has workers.
        floor = statistics.median(floors[variant["workers"]])
        limit, what = floor, "decode floor"
        if variant["target"] == "postgres":
            alone = bare if "no indexes" in variant["name"] else copy
            limit, what = max((floor, "decode floor"), (alone, "`\\copy`"))
        rows.append([variant["name"], spread(seconds), f"{statistics.median(seconds) / limit:.2f} × {what}"])
    heading = "Against what bounds it: decoding the needed columns, and for PostgreSQL the longer of that and its own COPY."
    return heading + "\n\n" + table(["what", "s", "ratio"], rows)


def speed_up_table(variants):
    """Parallel against serial, one line per number of workers."""
    rows = []
    for target in ("none", "postgres"):
        local = [variant for variant in variants if is_plain_local(variant, target)]
        local.sort(key=lambda variant: variant["workers"])
        if len(local) < 2:
            continue
        serial = statistics.median(run["seconds"] for run in local[0]["runs"])
        for variant in local:
            seconds = statistics.median(run["seconds"] for run in variant["runs"])
            rows.append([target, str(variant["workers"]), f"{seconds:.3f}", f"{serial / seconds:.2f}"])
    if not rows:
        return ""
    return "Parallel against serial, local files.\n\n" + table(["target", "max_workers", "wall s", "speed-up"], rows)


def is_plain_local(variant, target):
    """Whether variants differ in nothing but the workers."""
    name, plain = variant["name"], f"local, {target}"
    return name == plain or (name.startswith(f"{plain}, ") and "worker" in name)


def draw(scales):
    """Plots over the scales; one scale alone gives none."""
    if len(scales) < 2:
        return {}
    measures = {
        "time.svg": ("Wall time", "seconds", lambda run, _: run["seconds"], False),
        "memory.svg": ("Peak memory", "MiB", lambda run, _: run["peak_memory_bytes"] / MIB, True),
        "throughput.svg": ("Throughput", "pod rows per second", lambda run, rows: rows / run["seconds"], True),
    }
    in_all = [variant["name"] for variant in next(iter(scales.values()))["variants"]]
    in_all = [name for name in in_all if name.split(", ")[-1] in ("postgres", "none")]
    plots = {}
    for file, (title, unit, measure, from_zero) in measures.items():
        series = []
        for name in in_all:
            line = []
            for scale in sorted(scales.values(), key=lambda scale: scale["pod_rows"]):
                runs = [variant["runs"] for variant in scale["variants"] if variant["name"] == name]
                if runs:
                    line.append((scale["pod_rows"], statistics.median(measure(run, scale["pod_rows"]) for run in runs[0])))
            series.append((name, line))
        plots[file] = chart(title, "hourly pod rows", unit, series, from_zero)
    return plots


def table(header, rows):
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def spread(seconds):
    """Median with least and greatest."""
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f})"


def median(runs, field):
    """Median of a field."""
    return statistics.median(run[field] for run in runs)

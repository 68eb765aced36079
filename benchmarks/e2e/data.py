"""Scale -> a folder of Parquet objects in the reference's layout: made once, kept in the cache, named after what made it."""

import datetime
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from machine import REPOSITORY, cache_folder
from process import BenchmarkError, read_json, require, write_json

NISE = "koku-nise==5.4.4"
ORG_ID = "org1234567"
SOURCE = "672157e0-0000-4000-8000-000000000001"
CLUSTER = "benchmark-cluster"
START = datetime.date(2025, 10, 1)
# Some of the keys that pods, namespaces, nodes and volumes of generated data carry, so that one overrides another.
ENABLED_KEYS = ["app", "cost_center", "environment", "storage_tier", "team", "tier", "version"]


# What decides the bytes of each maker's objects; a change of any of it makes the data anew.
COMMON_SOURCES = ["src/objects", "src/schema/operator.rs", "src/schema/source.rs"]
MADE_BY = {
    "generate": ["src/generate", *COMMON_SOURCES],
    "nise": ["src/convert", "src/rollups/sum.rs", *COMMON_SOURCES, "benchmarks/e2e/data.py"],
}


@dataclass(frozen=True)
class Scale:
    """How much data, and who makes it."""

    name: str
    rows: int
    days: int
    maker: str = "generate"
    on_demand: bool = False


SCALES = [
    Scale("small", 22_320, 30, "nise"),
    Scale("medium", 100_080, 30, "nise"),
    Scale("large", 250_000, 30),
    Scale("xlarge", 500_000, 30),
    Scale("production-medium", 1_000_000, 30),
    Scale("2m", 2_000_000, 30),
    Scale("10m", 10_000_000, 5),
    # The same pods per day as 10m: what changes is the number of rows and days only.
    Scale("50m", 50_000_000, 25, on_demand=True),
    Scale("100m", 100_000_000, 50, on_demand=True),
]


@dataclass
class DataSet:
    """A folder that holds `data/`, and what a configuration says about it."""

    folder: Path
    pod_rows: int
    rows: int
    start: str
    end: str
    made_by: str

    def settings(self, workers):
        """A configuration without storage and target."""
        return {
            "version": 1,
            "organization": {"org_id": ORG_ID},
            "source": {"uuid": SOURCE, "cluster_id": CLUSTER, "cluster_alias": "Benchmark", "report_period_id": 1},
            "period": {"start_date": self.start, "end_date": self.end},
            "reference": {"from": "inline", "enabled_tag_keys": ENABLED_KEYS, "node_roles": "derive"},
            "performance": {"max_workers": workers},
            "logging": {"level": "warn"},
        }

    def local_storage(self):
        """The `storage` section for the folder itself."""
        return {"url": f"file://{self.folder}"}


def obtain(scale, gristmill, arguments=("--storage",)):
    """The data of a scale, from the cache or made now."""
    maker = generate if scale.maker == "generate" else convert_nise
    key = hashlib.sha256(json.dumps([scale.rows, scale.days, scale.maker, *arguments]).encode())
    for source in MADE_BY[scale.maker]:
        if not (REPOSITORY / source).exists():
            raise BenchmarkError(f"{source}, which decides what the data are, is not there; mend MADE_BY")
        for path in sorted([REPOSITORY / source, *(REPOSITORY / source).rglob("*")]):
            if path.is_file():
                key.update(path.read_bytes())
    folder = cache_folder() / "data" / f"{scale.rows}-{scale.maker}-{key.hexdigest()[:12]}"
    # Written last: a folder without it was interrupted.
    facts = folder / "data-set.json"
    if not facts.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(facts, maker(scale, gristmill, folder, list(arguments)))
    return DataSet(folder=folder, **read_json(facts))


def last_day(scale):
    """The scale's last day."""
    return START + datetime.timedelta(days=scale.days - 1)


def cluster_arguments():
    """Names that the files and the configuration must agree on."""
    return ["--org-id", ORG_ID, "--source-uuid", SOURCE, "--cluster-id", CLUSTER]


def generate(scale, gristmill, folder, arguments):
    """Data of `gristmill generate`; the manifest counts the rows."""
    command = [gristmill, "generate", "--rows", scale.rows, "--days", scale.days, "--start-date", START, "--out", folder]
    require(command + cluster_arguments() + arguments)
    objects = read_json(folder / "manifest.json")["objects"]
    arguments_text = " ".join(["--rows", str(scale.rows), "--days", str(scale.days), *arguments])
    return facts_of(scale, objects, scale.rows, f"gristmill generate {arguments_text}")


def facts_of(scale, objects, pod_rows, made_by):
    """What `data-set.json` holds; the rows are counted from the list of objects."""
    counts = {report: 0 for report in ("pod_usage", "storage_usage", "node_labels", "namespace_labels")}
    for entry in objects:
        # data/parquet/{organisation}/OCP/{report}/…, or data/parquet/daily/… for the daily copies.
        parts = entry["key"].split("/")
        if parts[2] != "daily" and parts[4] in counts:
            counts[parts[4]] += entry["row_count"]
    if counts["pod_usage"] != pod_rows:
        raise BenchmarkError(f"{made_by}: {counts['pod_usage']} pod rows instead of {pod_rows}")
    facts = {"pod_rows": pod_rows, "rows": sum(counts.values()), "made_by": made_by}
    return {**facts, "start": str(START), "end": str(last_day(scale))}


def convert_nise(scale, gristmill, folder, _arguments):
    """CSVs of the reference's generator, turned into Parquet by `gristmill convert`."""
    csv = folder / "csv"
    csv.mkdir()
    cluster = csv.parent / "cluster.yml"
    # JSON is YAML.
    cluster.write_text(json.dumps(nise_cluster(scale)), encoding="utf-8")
    # nise takes the end as the first instant that is not reported.
    end = last_day(scale) + datetime.timedelta(days=1)
    command = [nise_program(), "report", "ocp", "--static-report-file", cluster, "--ocp-cluster-id", CLUSTER]
    require([*command, "-w", "-s", START, "-e", end], folder=csv)
    pod_rows = sum(count_rows(path) for path in csv.glob("*ocp_pod_usage*.csv"))
    if abs(pod_rows - scale.rows) > scale.rows // 20:
        raise BenchmarkError(f"nise made {pod_rows} pod rows, {scale.rows} were asked for; look into {csv}")
    report = folder / "convert.json"
    require([gristmill, "convert", "--in", csv, "--out", folder, "--report", report, *cluster_arguments()])
    shutil.rmtree(csv)
    facts = facts_of(scale, read_json(report)["objects"], pod_rows, f"{NISE}, gristmill convert")
    # The decode floor reads from the manifest whose data it is.
    names = {"org_id": ORG_ID, "source_uuid": SOURCE, "cluster_id": CLUSTER}
    write_json(folder / "manifest.json", {**names, "start_date": facts["start"], "end_date": facts["end"]})
    return facts


def count_rows(path):
    """Lines of a CSV without its header."""
    with open(path, "rb") as file:
        return max(sum(1 for _ in file) - 1, 0)


def nise_cluster(scale):
    """A static cluster: so many pods that each hour of the period adds up to the scale's rows."""
    pod_count = scale.rows // (scale.days * 24)
    nodes = []
    for first in range(0, pod_count, 50):
        namespaces = {}
        number = first // 50
        for slot in range(first, min(first + 50, pod_count)):
            # A namespace of two nodes would only keep the pods of the last one.
            name = f"project-{number}-{slot % 7}"
            namespace = namespaces.setdefault(name, {"labels": "label_product:shop", "pods": [], "volumes": []})
            namespace["pods"].append(nise_pod(slot))
            if slot % 10 == 3:
                namespace["volumes"].append(nise_volume(slot))
        node = {"node": None, "node_name": f"node-{number}", "cpu_cores": 64, "memory_gig": 256, "namespaces": namespaces}
        nodes.append({**node, "resource_id": f"5500{number}", "labels": "label_cost_center:cc-100|label_tier:node"})
    # nise stops before its end date.
    end = last_day(scale) + datetime.timedelta(days=1)
    return {"generators": [{"OCPGenerator": {"start_date": str(START), "end_date": str(end), "nodes": nodes}}]}


def nise_pod(slot):
    """One pod; some use more than they asked for."""
    cpu, memory = 0.1 * (1 + slot % 5), 0.25 * (1 + slot % 4)
    load = 1.3 if slot % 7 == 0 else 0.6
    return {
        "pod": None,
        "pod_name": f"pod-{slot}",
        "cpu_request": cpu,
        "cpu_limit": 2 * cpu,
        "mem_request_gig": memory,
        "mem_limit_gig": 2 * memory,
        "pod_seconds": 3600,
        "cpu_usage": {"full_period": load * cpu},
        "mem_usage_gig": {"full_period": load * memory},
        "labels": f"label_app:app-{slot % 20}|label_environment:prod|label_team:team-{slot % 6}|label_tier:backend",
    }


def nise_volume(slot):
    """A volume with one claim, used by one pod."""
    claim = {
        "volume_claim": None,
        "volume_claim_name": f"data-{slot}",
        "pod_name": f"pod-{slot}",
        "labels": f"label_app:app-{slot % 20}",
        "capacity_gig": 20,
        "volume_claim_usage_gig": {"full_period": 8},
    }
    volume = {"volume": None, "volume_name": f"pv-{slot}", "storage_class": "gp3", "volume_request_gig": 20}
    return {**volume, "labels": "label_storage_tier:hot", "volume_claims": [claim]}


def nise_program():
    """nise in a virtual environment of the benchmark's own, below the cache folder."""
    return virtual_environment("nise", [NISE]) / "bin" / "nise"


def virtual_environment(name, requirements):
    """A virtual environment with exactly these packages; says what it installs."""
    folder = cache_folder() / f"{name}-environment"
    wanted = "\n".join([f"python {sys.version_info.major}.{sys.version_info.minor}", *requirements])
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return folder
    print(f"installing {', '.join(requirements)} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", folder],
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ):
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            last_lines = "\n".join(result.stdout.strip().splitlines()[-5:])
            hint = "Debian and Ubuntu need the package python3-venv, and pip must reach a package index"
            raise BenchmarkError(f"no virtual environment for {name} ({hint}):\n{last_lines}")
    stamp.write_text(wanted, encoding="utf-8")
    return folder

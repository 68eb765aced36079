"""The chart's test: see scripts/test_chart.sh. Prints what was checked; ends with 1 and a list if anything is wrong."""

import argparse
import copy
import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubernetes_validate
import yaml

import laws
import pages
import program
import texts
from tools import AWAITED, CHART, HERE, REPOSITORY, documents, helm, job_spec, template

# The oldest that the chart takes, the one before and after fields became stable, the newest whose schemas are at hand.
KUBE_VERSIONS = ["1.27.0", "1.29.0", "1.30.0", "1.31.0", "1.33.0", "1.37.0"]
SNAPSHOT_VERSION = "1.33.0"
MODES = ["job", "cronjob", "indexedJob"]
CUSTOM_KINDS = {"PodMonitor", "PrometheusRule"}
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
BASE = CHART / "ci/job-values.yaml"


def main():
    """Runs every part."""
    parser = argparse.ArgumentParser(prog="scripts/test_chart.sh")
    what = "rewrite values.schema.json, the README's table, awaited.yaml and the snapshots"
    parser.add_argument("--update", action="store_true", help=what)
    options = parser.parse_args()
    if options.update:
        program.forget_arrived()
    parts = [
        ("pages", lambda: check_pages(options.update)),
        ("lint", check_lint),
        ("manifests", check_manifests),
        ("program", check_program),
        ("texts", check_texts),
        ("notes", check_notes),
        ("refused", check_refused),
        ("metrics", check_metrics),
        ("broken charts", check_broken_charts),
        ("snapshots", lambda: check_snapshots(options.update)),
    ]
    failures = 0
    for name, part in parts:
        said, found = part()
        print(f"{name:14} {said}{'' if found else ': ok'}")
        for text in dict.fromkeys(found):
            print(f"  {text}", file=sys.stderr)
        failures += len(found)
    if failures:
        sys.exit(f"test_chart.sh: {failures} complaints")


def check_pages(update):
    """Schema and README are what they are made from, the schema is closed and described, versions agree."""
    expected = pages.expected()
    if update:
        for path, text in expected.items():
            path.write_text(text, encoding="utf-8")
    found = [
        f"{path.relative_to(REPOSITORY)} is out of date: scripts/test_chart.sh --update"
        for path, text in expected.items()
        if path.read_text(encoding="utf-8") != text
    ]
    schema, values = json.loads(expected[pages.SCHEMA]), chart_values()
    found += [f"values.schema.json: {path} has no description" for path in pages.without_description(schema)]
    found += pages.undeclared(schema, values)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    cargo = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
    if f'\nversion = "{chart["appVersion"]}"\n' not in cargo:
        found.append("Chart.yaml: appVersion is not the version of Cargo.toml")
    return f"{len(list(pages.leaves(schema)))} values in schema, values.yaml and README", found


def check_lint():
    """`helm lint --strict` for the values as shipped and every example."""
    found = []
    for arguments in [[], *(["--values", path] for path in EXAMPLES)]:
        code, out, err = helm("lint", "--strict", CHART, *arguments)
        if code != 0:
            found.append(f"helm lint {arguments}: {out}{err}")
    return f"helm lint --strict, {len(EXAMPLES) + 1} times", found


def check_manifests():
    """Every example in every mode on every version: schemas of Kubernetes, and our own laws."""
    cases = [(path, {"mode": mode}, version) for path in EXAMPLES for mode in MODES for version in KUBE_VERSIONS]
    # Where an operator overrules the version.
    for policy in ("always", "never"):
        cases += [(BASE, {"mode": mode, "podFailurePolicy": policy}, version) for mode in MODES for version in KUBE_VERSIONS]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda case: check_case(*case), cases))
    found = [text for texts, _, _ in results for text in texts]
    validated, custom = sum(result[1] for result in results), sum(result[2] for result in results)
    if validated < 5 * len(cases) or custom == 0:
        found.append(f"only {validated} manifests and {custom} custom resources were rendered")
    versions = ", ".join(version.removesuffix(".0") for version in KUBE_VERSIONS)
    return (
        f"{len(EXAMPLES)} examples x {len(MODES)} modes and more on Kubernetes {versions}: {validated} manifests against their "
        f"schemas, {custom} of {', '.join(sorted(CUSTOM_KINDS))} by assertions",
        found,
    )


def check_case(path, more, version):
    """(complaints, manifests validated, custom resources) of one rendering."""
    where = f"{path.name}, {', '.join(more.values())}, {version}"
    text, error = template(path, version, *(f"--set={key}={value}" for key, value in more.items()))
    if error:
        return [f"{where}: {error}"], 0, 0
    try:
        manifests = documents(text)
    except yaml.YAMLError as problem:
        return [f"{where}: {problem}"], 0, 0
    found = schema_complaints(manifests, version)
    found += laws.complaints(manifests, version, merged(path, more)) + laws.custom_resources(manifests)
    custom = sum(manifest["kind"] in CUSTOM_KINDS for manifest in manifests)
    return [f"{where}: {text}" for text in found], len(manifests) - custom, custom


def schema_complaints(manifests, version):
    """Strict validation; a kind without a schema is an error unless it is one of the Prometheus operator's."""
    found = []
    for manifest in manifests:
        if manifest["kind"] in CUSTOM_KINDS:
            continue
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        try:
            used = kubernetes_validate.validate(manifest, version, strict=True)
            if not version.startswith(f"{used}."):
                found.append(f"{name}: there is no schema of {version}")
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name}: {'.'.join(map(str, error.path))}: {error.message[:300]}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{name}: {error.message}")
    return found


def check_program():
    """The program reads every rendered configuration, knows every option and variable, and no secret is to be seen."""
    cases = [(path, mode) for path in EXAMPLES for mode in MODES]

    def one(case):
        text, error = template(case[0], SNAPSHOT_VERSION, "--set", f"mode={case[1]}", *planting())
        found = [error] if error else program.complaints(documents(text))
        return [f"{case[0].name}, {case[1]}: {text}" for text in found]

    with ThreadPoolExecutor(2) as pool:
        found = [text for texts in pool.map(one, cases) for text in texts]
    arrived = [entry for entries in program.arrived().values() for entry in entries]
    found += [f"tests/chart/awaited.yaml: the program knows {entry} (scripts/test_chart.sh --update)" for entry in arrived]
    return f"{len(cases)} configurations, their options and variables known to the program, no planted secret in sight", found


def check_texts():
    """Texts that look like numbers, truth values or dates stay what they are: in manifests, in the configuration, in the program."""
    path = HERE / "texts.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    found, compared = [], 0
    # Names of releases and namespaces look like numbers as well; BASE first, for everything that the file does not say.
    for release, namespace in [("run", "cost"), ("1e3", "0123"), ("123", "1e10"), ("true", "on")]:
        code, text, error = helm(
            "template", release, CHART, "--namespace", namespace, "--kube-version", SNAPSHOT_VERSION, "--values", BASE, "--values", path
        )
        if code != 0:
            return f"{path.name}", [f"{release}: {error}"]
        manifests = documents(text)
        found += [f"{release} in {namespace}: {complaint}" for complaint in schema_complaints(manifests, SNAPSHOT_VERSION)]
        found += [f"{release}: {text}" for text in texts.not_texts(manifests)]
        for manifest in manifests:
            if manifest["metadata"]["namespace"] != namespace:
                found.append(f"{manifest['kind']}: namespace {manifest['metadata']['namespace']!r}, not {namespace!r}")
        config = next(manifest["data"]["config.yaml"] for manifest in manifests if "config.yaml" in manifest.get("data", {}))
        expected = texts.leaves(values["config"])
        compared += len(expected)
        found += texts.changed(expected, yaml.safe_load(config), "rendered")
        found += texts.changed(expected, program.effective(config), "taken by the program")
    return f"{compared} texts that look like numbers, in 4 releases", found


def check_notes():
    """The notes are for people inside of a cluster: the filter in them makes a Job that verifies out of the Job of a run."""
    found = []
    for mode in MODES:
        values = ("--values", BASE, "--set", f"mode={mode}")
        code, out, error = helm("install", "run", CHART, "--dry-run=client", "--namespace", "cost", *values)
        notes = out.rpartition("\nNOTES:\n")[2]
        filters = re.findall(r"jq '(.*)' \\$", notes, re.MULTILINE)
        if code != 0 or len(filters) != 1:
            found.append(f"{mode}: {error or 'the notes have no filter for jq'}")
            continue
        if re.search(r"^ *gristmill ", notes, re.MULTILINE):
            found.append(f"{mode}: the notes run the program outside of the cluster")
        text, error = template(BASE, SNAPSHOT_VERSION, "--set", f"mode={mode}")
        spec = copy.deepcopy(job_spec(documents(text))) if text else {}
        # What the cluster adds to the Job of a run, and refuses in another one.
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}}
        spec["template"]["metadata"]["labels"] |= {"batch.kubernetes.io/controller-uid": "1", "controller-uid": "1", "job-name": "x"}
        made = subprocess.run(
            ["jq", filters[0]], input=json.dumps({"items": [{}, {"spec": spec}]}), capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            found.append(f"{mode}: jq: {made.stderr.strip()}")
            continue
        found += [f"{mode}: {complaint}" for complaint in verification_complaints(json.loads(made.stdout), spec)]
    return f"{len(MODES)} modes: a Job that verifies inside of the cluster", found


def verification_complaints(job, run):
    """What is wrong with the Job that verifies, made from the specification of a run."""
    found = schema_complaints([job], SNAPSHOT_VERSION)
    pod, labels = job["spec"]["template"]["spec"], job["spec"]["template"]["metadata"]["labels"]
    found += laws.pod_security(pod) + laws.labels(job["spec"]["template"]["metadata"])
    container, of_run = pod["containers"][0], run["template"]["spec"]["containers"][0]
    if container["args"] != ["verify", "--config", "/etc/gristmill/config/config.yaml", "--against", "recompute"]:
        found.append(f"arguments {container['args']}")
    if container["env"] != of_run["env"] or container["volumeMounts"] != of_run["volumeMounts"]:
        found.append("other variables or mounts than those of a run")
    if "livenessProbe" in container or "readinessProbe" in container:
        found.append("a probe asks a port that nothing opens")
    if labels["app.kubernetes.io/component"] != "verify" or any("uid" in name or "job-name" in name for name in labels):
        found.append(f"labels {labels}")
    return found


def planting():
    """A secret where the values allow one: a variable of the user's own, which must not travel further."""
    return ["--set", f"extraEnv[0].name=SITE_SETTING,extraEnv[0].value={program.PLANTED}"]


def check_refused():
    """Bad values are refused by the schema, contradicting ones by the templates, each for the reason it names."""
    found, counts = [], []
    for folder, by_schema in [("bad", True), ("contradicting", False)]:
        files = sorted(path for path in (HERE / folder).glob("*.yaml") if path.stem not in AWAITED["refused"])
        counts.append(len(files))
        for path in files:
            reason = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# refused: ")
            text, error = template(BASE, SNAPSHOT_VERSION, "--values", path)
            if text is not None:
                found.append(f"{folder}/{path.name}: was accepted")
            elif reason not in error or ("meet the specifications of the schema" in error) != by_schema:
                found.append(f"{folder}/{path.name}: not refused for `{reason}` but: {error.strip()}")
    if counts[0] < 20:
        found.append(f"only {counts[0]} bad values files")
    return f"{counts[0]} bad values files by the schema, {counts[1]} contradictions by the templates", found


def check_metrics():
    """Dashboard and alerts query metrics that the program has."""
    text = (CHART / "files/dashboard.json").read_text(encoding="utf-8")
    found = laws.dashboard(text)
    rules = (CHART / "templates/prometheusrule.yaml").read_text(encoding="utf-8")
    used, known = laws.metrics_used(text) | laws.metrics_used(rules), laws.known_metrics()
    if not AWAITED["metrics"]:
        found += [f"{name} is no metric of the program" for name in sorted(used - known)]
    return f"{len(used)} metrics in dashboard and alerts", found


def check_broken_charts():
    """The laws notice a broken chart: each line of broken.yaml breaks a copy of the chart in one place."""
    found = []
    breakages = yaml.safe_load((HERE / "broken.yaml").read_text(encoding="utf-8"))
    for breakage in breakages:
        with tempfile.TemporaryDirectory() as folder:
            chart = Path(folder, "gristmill")
            shutil.copytree(CHART, chart)
            file = chart / breakage["file"]
            before = file.read_text(encoding="utf-8")
            if breakage["replace"] not in before:
                found.append(f"broken.yaml: `{breakage['replace']}` is not in {breakage['file']}")
                continue
            file.write_text(before.replace(breakage["replace"], breakage["with"]), encoding="utf-8")
            noticed = broken_chart_complaints(chart, breakage)
            if not any(breakage["noticed"] in text for text in noticed):
                found.append(f"`{breakage['replace']}` -> `{breakage['with']}` goes unnoticed: {noticed}")
    return f"{len(breakages)} broken copies of the chart noticed", found


def broken_chart_complaints(chart, breakage):
    """What all checks of manifests say about a broken copy."""
    if breakage["values"] == "texts":
        text, error = template(BASE, SNAPSHOT_VERSION, "--values", HERE / "texts.yaml", chart=chart)
        return [error] if error else texts.not_texts(documents(text))
    path = CHART / f"ci/{breakage['values']}-values.yaml"
    text, error = template(path, SNAPSHOT_VERSION, *planting(), chart=chart)
    if error:
        return [error]
    try:
        manifests = documents(text)
    except yaml.YAMLError as problem:
        return [str(problem)]
    found = schema_complaints(manifests, SNAPSHOT_VERSION) + laws.complaints(manifests, SNAPSHOT_VERSION, merged(path))
    return found + laws.custom_resources(manifests) + program.complaints(manifests)


def check_snapshots(update):
    """What the examples render to, as reviewed text."""
    found = []
    for path in EXAMPLES:
        snapshot = HERE / "snapshots" / path.name.replace("-values", "")
        text, error = template(path, SNAPSHOT_VERSION)
        if error:
            found.append(f"{path.name}: {error}")
            continue
        if update:
            snapshot.parent.mkdir(exist_ok=True)
            snapshot.write_text(text, encoding="utf-8")
        old = snapshot.read_text(encoding="utf-8") if snapshot.exists() else ""
        if old != text:
            lines = difflib.unified_diff(old.splitlines(), text.splitlines(), "snapshot", "rendered", lineterm="", n=1)
            found.append(f"{path.name} renders otherwise (scripts/test_chart.sh --update):\n" + "\n".join(list(lines)[:40]))
    return f"{len(EXAMPLES)} rendered examples as reviewed", found


def chart_values():
    """The chart's own values."""
    return yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def merged(path, more=None):
    """The values of a release, as far as the laws look at them."""
    values = copy.deepcopy(chart_values())
    for layer in (yaml.safe_load(path.read_text(encoding="utf-8")), more or {}):
        for key, value in layer.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) and isinstance(values.get(key), dict) else value
    return values


if __name__ == "__main__":
    main()

"""Where things lie, and Helm as a function: chart and values -> manifests."""

import os
import subprocess
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts/gristmill"
HERE = Path(__file__).resolve().parent
AWAITED = yaml.safe_load((HERE / "awaited.yaml").read_text(encoding="utf-8"))
HELM = os.environ.get("HELM", "helm")
# Helm looks for plugins and credentials in the home folder; a test reads neither.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "HELM_CACHE_HOME": "/nonexistent"}


def helm(*arguments):
    """Runs helm; returns (exit code, standard output, standard error)."""
    command = [HELM, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120)
    return result.returncode, result.stdout, result.stderr


def template(values, kube_version, *arguments, chart=CHART, release="run"):
    """The text that Helm renders, for a release `run` in namespace `cost`."""
    code, out, err = helm(
        "template", release, chart, "--namespace", "cost", "--kube-version", kube_version, "--values", values, *arguments
    )
    return (out, None) if code == 0 else (None, err)


class StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key that is there twice, as the cluster's own parser does in strict mode."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{sorted(twice)} twice, at {node.start_mark}")
        return super().construct_mapping(node, deep)


def documents(text):
    """The manifests of a rendered text."""
    return [document for document in yaml.load_all(text, StrictLoader) if document]


def pod_templates(manifest):
    """(metadata, spec) of the pods that a manifest makes."""
    match manifest["kind"]:
        case "Pod":
            return [(manifest["metadata"], manifest["spec"])]
        case "Job":
            template_ = manifest["spec"]["template"]
        case "CronJob":
            template_ = manifest["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            return []
    return [(template_["metadata"], template_["spec"])]


def job_spec(manifests):
    """The specification of the Job or CronJob that does the work."""
    for manifest in manifests:
        if manifest["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "run":
            if manifest["kind"] == "Job":
                return manifest["spec"]
            if manifest["kind"] == "CronJob":
                return manifest["spec"]["jobTemplate"]["spec"]
    raise AssertionError("no Job or CronJob was rendered")

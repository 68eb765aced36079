"""Rendered manifests -> complaints: what must hold for every values file, on every version of Kubernetes."""

import json
import re

from tools import REPOSITORY, job_spec, pod_templates

# What the restricted level of pod security allows as volumes.
RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}
FIXED_IDS = ["runAsUser", "runAsGroup", "fsGroup"]
# Read by Kubernetes or by the program's libraries, not by its configuration.
STANDARD_VARIABLES = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}


def complaints(manifests, kube_version, values):
    """Everything that is wrong with the manifests of one release."""
    found = []
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["metadata"].get("namespace") != "cost":
            found.append(f"{name}: not in the release's namespace")
        if manifest["kind"] == "Job" and "ttlSecondsAfterFinished" not in manifest["spec"]:
            found.append(f"{name}: stays when the release is gone")
        for metadata, pod in pod_templates(manifest):
            found += [f"{name}: {text}" for text in pod_security(pod) + pod_life(pod, values) + labels(metadata)]
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    found += [f"{kind} {name} twice" for kind, name in sorted({pair for pair in names if names.count(pair) > 1})]
    found += references(manifests)
    found += job(job_spec(manifests), kube_version, values)
    return found


def pod_security(pod):
    """The restricted level of pod security, and what OpenShift needs: no fixed uid, gid or fsGroup."""
    found = []
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        found.append("the pod may run as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("the pod has no seccomp profile")
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            found.append(f"{field} is set")
    if pod.get("automountServiceAccountToken") is not False:
        found.append("a token for the cluster's API is mounted")
    # Fields of containers do nothing on the pod.
    for field in ("readOnlyRootFilesystem", "allowPrivilegeEscalation", "capabilities", "privileged"):
        if field in context:
            found.append(f"{field} stands on the pod")
    containers = pod["containers"] + pod.get("initContainers", [])
    for container in containers:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("privileges may be escalated")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("the root file system can be written")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("capabilities are not all dropped")
        if own.get("runAsNonRoot") is False or own.get("privileged"):
            found.append("the container weakens the pod's security")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append("a port of the host is used")
    for section in [context, *(container.get("securityContext", {}) for container in containers)]:
        found += [f"{field} is fixed" for field in FIXED_IDS if field in section]
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= RESTRICTED_VOLUMES:
            found.append(f"volume {volume['name']}: {', '.join(kinds)} is not allowed at the restricted level")
    return found


def pod_life(pod, values):
    """One image, mounts that exist, a way to report the end."""
    found = []
    if pod.get("restartPolicy") != "Never":
        found.append("restartPolicy must be Never: podFailurePolicy needs it")
    if pod.get("terminationGracePeriodSeconds") != values["terminationGracePeriodSeconds"]:
        found.append("terminationGracePeriodSeconds is not the value's")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        if mounted != volumes:
            found.append(f"volumes {sorted(volumes)}, mounted {sorted(mounted)}")
        if container.get("terminationMessagePolicy") != "File" or "terminationMessagePath" in container:
            found.append("the report is read from /dev/termination-log only")
        if "command" in container:
            found.append("command replaces the image's entry point")
        if container.get("readinessProbe", {"initialDelaySeconds": 1}).get("initialDelaySeconds", 0) < 1:
            found.append("readiness is asked for before the port can be open")
        names = [variable["name"] for variable in container.get("env", [])]
        if len(set(names)) != len(names):
            found.append(f"a variable is set twice: {names}")
    return found


def labels(metadata):
    """Labels that selectors rely on."""
    wanted = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"]
    return [f"label {name} is missing" for name in wanted if name not in metadata.get("labels", {})]


def references(manifests):
    """ConfigMaps and service accounts that the chart names itself exist in time; selectors find the pods."""
    found = []
    made = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    hooks = {
        (manifest["kind"], manifest["metadata"]["name"])
        for manifest in manifests
        if "pre-install" in manifest["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    }
    ours = {name for kind, name in made if kind in ("ConfigMap", "ServiceAccount")}
    for manifest in manifests:
        for metadata, pod in pod_templates(manifest):
            component = metadata["labels"]["app.kubernetes.io/component"]
            needed = [("ConfigMap", volume["configMap"]["name"]) for volume in pod["volumes"] if "configMap" in volume]
            needed.append(("ServiceAccount", pod["serviceAccountName"]))
            for reference in needed:
                if component == "init-db" and reference in made - hooks:
                    found.append(f"init-db runs before {reference} exists")
                if reference[1].startswith("run-") and reference not in made:
                    found.append(f"{component}: {reference} is never made; there are {sorted(ours)}")
        if manifest["kind"] in ("NetworkPolicy", "PodMonitor"):
            selector = manifest["spec"].get("podSelector") or manifest["spec"].get("selector")
            selected = [
                pod
                for other in manifests
                for pod, _ in pod_templates(other)
                if selector["matchLabels"].items() <= pod["labels"].items()
            ]
            if not selected:
                found.append(f"{manifest['kind']} selects no pod")
    return found


def job(spec, kube_version, values):
    """Retries follow the exit codes; fields appear only where the cluster knows them."""
    found = []
    minor = int(kube_version.split(".")[1])
    asked = values["podFailurePolicy"]
    has_policy = {"always": minor >= 29, "never": False}.get(asked, minor >= 31)
    has_indexes = {"always": minor >= 29, "never": False}.get(asked, minor >= 33) and values["mode"] == "indexedJob"
    if ("podFailurePolicy" in spec) != has_policy:
        found.append(f"podFailurePolicy on {kube_version}: {'podFailurePolicy' in spec}")
    if ("backoffLimitPerIndex" in spec) != has_indexes or ("backoffLimit" in spec) == has_indexes:
        found.append(f"back-off limits on {kube_version}: {sorted(key for key in spec if 'backoff' in key)}")
    if (spec.get("completionMode") == "Indexed") != (values["mode"] == "indexedJob"):
        found.append("completionMode does not fit the mode")
    if has_policy:
        actions = {}
        for position, rule in enumerate(spec["podFailurePolicy"]["rules"]):
            conditions = rule.get("onPodConditions", [])
            if conditions and (rule["action"], position) != ("Ignore", 0):
                found.append("disruptions must be the first rule, and ignored")
            for code in rule.get("onExitCodes", {}).get("values", []):
                actions[code] = rule["action"]
        bad_data = "FailIndex" if has_indexes else "FailJob"
        if actions != {64: "FailJob", 65: bad_data, 70: "FailJob", 75: "Count", 78: "FailJob"}:
            found.append(f"exit codes: {actions}")
        if not any("onPodConditions" in rule for rule in spec["podFailurePolicy"]["rules"]):
            found.append("a drained node counts as a failure")
    container = spec["template"]["spec"]["containers"][0]
    counts = [variable.get("value") for variable in container.get("env", []) if variable["name"] == "JOB_COMPLETION_COUNT"]
    if counts != ([str(values["completions"])] if values["mode"] == "indexedJob" else []):
        found.append(f"JOB_COMPLETION_COUNT: {counts}")
    has_port = any(port["name"] == "metrics" for port in container.get("ports", []))
    if has_port != values["metrics"]["enabled"] or ("livenessProbe" in container and not has_port):
        found.append("the metrics port and the probes do not fit metrics.enabled")
    return found


def custom_resources(manifests):
    """What no schema at hand checks: the resources of the Prometheus operator."""
    found = []
    for manifest in manifests:
        if manifest["kind"] == "PodMonitor":
            endpoints = manifest["spec"]["podMetricsEndpoints"]
            if [endpoint["port"] for endpoint in endpoints] != ["metrics"] or endpoints[0]["path"] != "/metrics":
                found.append("PodMonitor: not the metrics port")
            if manifest["spec"].keys() - {"selector", "podMetricsEndpoints"}:
                found.append("PodMonitor: unknown fields")
        if manifest["kind"] == "PrometheusRule":
            for group in manifest["spec"]["groups"]:
                found += [text for rule in group["rules"] for text in alert(rule)]
    return found


def alert(rule):
    """An alert has an expression whose brackets close, a severity and something to read."""
    found = []
    name = rule.get("alert", "no name")
    if not balanced(rule["expr"]):
        found.append(f"{name}: brackets of {rule['expr']}")
    if not rule.get("labels", {}).get("severity") or set(rule["annotations"]) != {"summary", "description"}:
        found.append(f"{name}: severity, summary and description are needed")
    if rule.keys() - {"alert", "expr", "for", "labels", "annotations"}:
        found.append(f"{name}: unknown fields")
    return found


def balanced(expression):
    """Whether brackets close in order, outside of texts."""
    closing, open_ = {")": "(", "]": "[", "}": "{"}, []
    for mark in re.sub(r'"(\\.|[^"\\])*"', "", expression):
        if mark in closing.values():
            open_.append(mark)
        elif mark in closing and (not open_ or open_.pop() != closing[mark]):
            return False
    return not open_ and '"' not in re.sub(r'"(\\.|[^"\\])*"', "", expression)


def known_metrics():
    """Names of the program's metrics, as its source declares them; a histogram or counter is queried by that name."""
    source = REPOSITORY / "src/telemetry/metrics.rs"
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    return set(re.findall(r'"(gristmill_[a-z_]+)"', text))


def metrics_used(text):
    """Names of metrics in queries."""
    return set(re.findall(r"gristmill_[a-z_]+(?=[{\[ ])", text))


def known_variables():
    """Environment variables that the shipped configuration refers to or the program reads itself."""
    names = set(re.findall(r"\$\{([A-Z0-9_]+)", (REPOSITORY / "config/config.yaml").read_text(encoding="utf-8")))
    for folder in ("src/config", "src/runtime"):
        for file in (REPOSITORY / folder).rglob("*.rs"):
            if file.name != "tests.rs" and "tests" not in file.parts:
                names |= set(re.findall(r'"([A-Z][A-Z0-9]*_[A-Z0-9_]+)"', file.read_text(encoding="utf-8")))
    return names | STANDARD_VARIABLES


def dashboard(text):
    """The dashboard is JSON with queries whose brackets close and panels that do not overlap."""
    found, taken = [], set()
    for panel in json.loads(text)["panels"]:
        for target in panel["targets"]:
            if not balanced(target["expr"]):
                found.append(f"dashboard: brackets of {target['expr']}")
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        if cells & taken or grid["x"] + grid["w"] > 24:
            found.append(f"dashboard: panel {panel['title']} overlaps")
        taken |= cells
    return found

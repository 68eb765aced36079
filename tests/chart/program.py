"""Rendered pods -> the program: does it know every key, option and variable, and does nothing hold a secret?"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

from laws import known_metrics, known_variables
from tools import AWAITED, HERE, REPOSITORY, pod_templates

PLANTED = "planted-secret-7"
PROGRAM = os.environ.get("GRISTMILL", "")
MOUNTS = "/etc/gristmill/"


def complaints(manifests):
    """What the program says about the configuration, arguments and environment of each pod."""
    found = []
    texts = {
        manifest["metadata"]["name"]: manifest["data"]
        for manifest in manifests
        if manifest["kind"] == "ConfigMap"
    }
    for manifest in manifests:
        for metadata, pod in pod_templates(manifest):
            component = metadata["labels"]["app.kubernetes.io/component"]
            found += [f"{component}: {text}" for text in pod_complaints(pod, texts)]
        if manifest["kind"] == "ConfigMap" and PLANTED in yaml.safe_dump(manifest):
            found.append(f"ConfigMap {manifest['metadata']['name']} holds a secret")
    return found


def pod_complaints(pod, texts):
    """The same for one pod."""
    container = pod["containers"][0]
    found = [
        f"{variable['name']} is no variable of the program"
        for variable in container.get("env", [])
        if variable["name"] not in known_variables() | set(AWAITED["variables"])
        and not variable["name"].startswith("SITE_")
    ]
    arguments = container["args"]
    if any(PLANTED in argument for argument in arguments):
        found.append("an argument holds a secret")
    help_text = run([arguments[0], "--help"], {}).stdout
    for argument in arguments[1:]:
        if argument.startswith("--") and not re.search(rf"{re.escape(argument.split('=')[0])}\b", help_text):
            found.append(f"{arguments[0]} has no option {argument}")
    with tempfile.TemporaryDirectory() as folder:
        mounted = mount(pod, container, texts, folder)
        if mounted is None:
            return found
        config, expected = mounted
        overrides = [arguments[at : at + 2] for at, argument in enumerate(arguments) if argument == "--set"]
        ended = run(["config", "--config", config, *sum(overrides, [])], environment(container))
        if ended.returncode != 0:
            found.append(f"gristmill config ended with {ended.returncode}: {ended.stderr.strip()}")
        elif PLANTED in ended.stdout + ended.stderr:
            found.append("gristmill config shows a secret")
        else:
            found += lost(expected, yaml.safe_load(ended.stdout))
    return found


def mount(pod, container, texts, folder):
    """Writes what the pod would have mounted below `folder`; returns path and content of the configuration."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    config = None
    for entry in container["volumeMounts"]:
        volume = volumes.get(entry["name"], {})
        source = volume.get("configMap") or volume.get("secret")
        if source is None:
            continue
        for item in source["items"]:
            path = Path(folder, entry["mountPath"].removeprefix(MOUNTS), item["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            content = texts.get(source.get("name", ""), {}).get(item["key"], PLANTED)
            if entry["name"] == "config" and content != PLANTED:
                content = without_awaited(content)
            path.write_text(content.replace(MOUNTS, f"{folder}/"), encoding="utf-8")
            if entry["name"] == "config":
                config = path
    if config.read_text(encoding="utf-8") == PLANTED:
        return None  # somebody else's ConfigMap
    return config, yaml.safe_load(config.read_text(encoding="utf-8"))


def effective(text):
    """A configuration as the program takes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        # Files of secrets and authorities are somewhere else here.
        secrets = Path(folder, "secret")
        secrets.write_text(PLANTED, encoding="utf-8")
        path.write_text(re.sub(rf"{MOUNTS}secrets/\S+", str(secrets), text), encoding="utf-8")
        ended = run(["config", "--config", path], {})
    if ended.returncode != 0:
        raise AssertionError(f"gristmill config ended with {ended.returncode}: {ended.stderr.strip()}")
    return yaml.safe_load(ended.stdout)


def without_awaited(text):
    """The configuration without the sections that the program does not have yet."""
    config = yaml.safe_load(text)
    return yaml.safe_dump({key: value for key, value in config.items() if key not in AWAITED["sections"]})


def arrived():
    """Entries of awaited.yaml that the program knows by now, by list."""
    schema = json.loads((REPOSITORY / "config/config.schema.json").read_text(encoding="utf-8"))
    known = {
        "sections": schema["properties"].keys(),
        "variables": known_variables(),
        "metrics": {"all"} if known_metrics() else set(),
        # Refused by the schema for the unknown section, not yet for its own reason.
        "refused": {"grace-longer-than-the-pod"} if "stopping" in schema["properties"] else set(),
    }
    return {name: sorted(set(entries) & known[name]) for name, entries in AWAITED.items()}


def forget_arrived():
    """Removes them from awaited.yaml."""
    for name, entries in arrived().items():
        AWAITED[name] = [entry for entry in AWAITED[name] if entry not in entries]
    file = HERE / "awaited.yaml"
    comment = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    lists = [f"{name}: [{', '.join(entries)}]" for name, entries in AWAITED.items()]
    file.write_text("\n".join(comment + lists) + "\n", encoding="utf-8")


def environment(container):
    """The container's environment; what comes from a Secret is the planted one."""
    from_secrets = {}
    for variable in container.get("env", []):
        # The role's name comes from the Secret as well, but is none.
        from_secrets[variable["name"]] = "role" if variable["name"] == "POSTGRES_USER" else variable.get("value", PLANTED)
    return from_secrets


def lost(expected, effective, path=""):
    """Keys of the rendered configuration that the program does not take as they stand; a period becomes dates."""
    found = []
    for key, value in expected.items():
        here = f"{path}{key}"
        if key not in effective:
            found.append(f"{here} is lost")
        elif isinstance(value, dict):
            found += lost(value, effective[key] or {}, f"{here}.")
        elif not same(value, effective[key]) and not here.startswith("period."):
            found.append(f"{here}: rendered {value!r}, taken as {effective[key]!r}")
    return found


def same(rendered, taken):
    """Equal, or a reference, a secret, or a size in other units."""
    if isinstance(rendered, str) and (rendered.startswith("${") or taken == "<redacted>"):
        return True
    if isinstance(rendered, int) and isinstance(taken, str) and taken.endswith("iB"):
        number, unit = re.fullmatch(r"(\d+)([KMGT])iB", taken).groups()
        return rendered == int(number) << (10 * ("KMGT".index(unit) + 1))
    return rendered == taken or str(rendered) == str(taken)


def run(arguments, variables):
    """The program with this environment and no other."""
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False, timeout=60)

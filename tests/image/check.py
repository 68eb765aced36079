"""The image's test: see scripts/test_image.sh. The folder of the image, the pods of the chart, real servers -> the same rows.

What runs in the folder is what the rendered chart says: its arguments, environment, configuration and mounts.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

import yaml

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / "benchmarks/e2e"), str(REPOSITORY / "tests/chart")]

import files  # noqa: E402

# The benchmark's servers and the chart test's Helm.
from database import Database  # noqa: E402
from process import BenchmarkError, measure, require, stop_on_signals, write_json  # noqa: E402
from program import without_awaited  # noqa: E402
from storage import own_bucket  # noqa: E402
from tools import CHART, documents, pod_templates, template  # noqa: E402

GRISTMILL, S3_SERVER = os.environ["GRISTMILL"], os.environ["S3_SERVER"]
ASSEMBLE = REPOSITORY / "scripts/assemble_image.sh"
STORAGE_NAME = "storage.gristmill.test"
NAME_SERVER = "127.0.0.77"
KUBE_VERSION = "1.34.0"
ORG, SOURCE, CLUSTER = "org1234567", "00000000-0000-4000-8000-000000000001", "image-test"
START, DAYS, END, ROWS = "2025-10-30", 4, "2025-11-02", 20_000
# What an image may hold; everything else needs a reason and a line here.
EXPECTED_FILES = {"etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/bin/gristmill"}


def main():
    """Everything; a failed expectation stops it."""
    stop_on_signals()
    isolate = isolation()
    found = files.complaints()
    expect(not found, "\n".join(found))
    say("Dockerfile and docker-compose.yml: as hadolint and the compose specification want them; no engine has run them")
    with tempfile.TemporaryDirectory(prefix="gristmill-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        image = folder / "image"
        try:
            require([ASSEMBLE, GRISTMILL, image])
            check_content(image)
            check_refusals(image, folder)
            check_main_job(Root(image, folder, isolate), folder)
        finally:
            # Nothing in the image may be written, folders included.
            subprocess.run(["chmod", "-R", "u+w", image], check=False)


def isolation():
    """How to get mounts of our own: as root, or in a user namespace. Without either the test fails."""
    if os.geteuid() == 0:
        command = ["unshare", "--mount"]
    else:
        command = ["unshare", "--mount", "--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        raise BenchmarkError(
            "neither root nor user namespaces: the image cannot be tried. Run it as root, or allow unprivileged user namespaces"
        )
    return command


def check_content(image):
    """Only known files, no shell, nothing that can be written, everything readable."""
    content = {path.relative_to(image).as_posix(): path for path in image.rglob("*") if path.is_file()}
    libraries = {name for name in content if ".so" in name}
    expect(EXPECTED_FILES <= content.keys(), f"missing in the image: {sorted(EXPECTED_FILES - content.keys())}")
    unknown = content.keys() - EXPECTED_FILES - libraries
    expect(not unknown, f"unknown files in the image: {sorted(unknown)}")
    for path in [image, *image.rglob("*")]:
        mode = path.stat().st_mode
        expect(not mode & 0o222, f"{path} has a bit for writing")
        expect(mode & 0o044 == 0o044, f"{path} is not readable for all")
        expect(not path.is_symlink() and not mode & 0o7000, f"{path} is a link or has special bits")
    size = sum(path.stat().st_size for path in content.values())
    program = content["usr/bin/gristmill"].stat().st_size
    say(f"image: {len(content)} files, {len(libraries)} of them shared objects; {mebibytes(size - program)} besides the program")


def check_refusals(image, folder):
    """What cannot become an image is refused: a folder in use, a script, a program that is not there."""
    script = folder / "script"
    script.write_text("#!/bin/true\n", encoding="ascii")
    script.chmod(0o755)
    refused = {(GRISTMILL, image): "is not empty", (script, folder / "a"): "ldd cannot read", (folder / "none", folder / "b"): "no program"}
    for arguments, reason in refused.items():
        ended = measure([ASSEMBLE, *arguments])
        expect(ended.exit_code == 1 and reason in ended.stderr, f"not refused because {reason}: {ended}")


def check_main_job(root, folder):
    """The main job by the chart's pods in the image, and outside of it: the same rows."""
    usage = folder / "usage"
    generate = [GRISTMILL, "generate", "--rows", ROWS, "--days", DAYS, "--start-date", START, "--storage", "--out", usage]
    require([*generate, "--org-id", ORG, "--source-uuid", SOURCE, "--cluster-id", CLUSTER])
    with Database() as database, own_bucket(S3_SERVER, usage) as bucket, NameServer() as names:
        storage_name = STORAGE_NAME if names.is_up else "localhost"
        say(f"user {root.uid}, group 0; storage by the name {storage_name}, database by the name localhost, verify-full")
        expected = rows_outside(database, bucket, folder)
        release = Release(database, bucket, storage_name, folder)

        look = json.loads(root.run(release.pod("run", "env", "look"), look_around=True).stdout)
        expect((look["uid"], look["gid"], look["groups"]) in [(root.uid, 0, []), (root.uid, 0, [0])], f"who runs: {look}")
        expect(look["written"] == [], f"can be written: {look['written']}")
        expect(look["termination_log"], "/dev/termination-log cannot be written")
        expect(look["unreadable"] == [], f"cannot be read: {look['unreadable']}")
        others = [path for path in look["executable"] if path != "/usr/bin/gristmill" and ".so" not in path]
        expect(look["executable"] and not others, f"programs: {look['executable']}")
        say("nothing but /dev/termination-log can be written, everything can be read, there is no shell")

        pod = release.pod("run", "env", "look")
        version = root.run(pod, ["--version"]).stdout
        expect(version.startswith("gristmill "), version)
        effective = root.run(pod, ["config", *pod.arguments[1:]]).stdout
        expect("password: <redacted>" in effective and database.facts["password"] not in effective, "gristmill config")
        root.run(pod, ["run", *pod.arguments[1:], "--report", "/report.json"], code=78)
        root.run(pod, ["generate", "--rows", "10", "--out", "/tmp/usage"], code=78)

        for secrets in ("env", "files"):
            schema = f"inside_{secrets}"
            for component in ("init-db", "check", "run"):
                root.run(release.pod(component, secrets, schema))
            found = database.fingerprint(schema)
            expect(found == expected, f"secrets as {secrets}: rows and checksum {found}, outside {expected}")
            check_report(root)
            say(f"init-db, check and run with secrets as {secrets}: {found.split()[0]} rows, the same as outside")

        check_compose(database, folder)

        # The image's own bundle is what certificates are checked with if no file is named.
        pod = release.pod("check", "env", "inside_env", authority="")
        root.run(pod, code=78, says="signed by an authority that is not trusted here")
        bundle = {"/etc/ssl/certs/ca-certificates.crt": database.facts["ca_file"]}
        root.run(pod, overlaid=bundle)
        say("certificates are checked with /etc/ssl/certs/ca-certificates.crt where no file is named")


def rows_outside(database, bucket, folder):
    """Runs the program as it is, against the same data; returns row count and checksum."""
    settings = {
        "version": 1,
        "organization": {"org_id": ORG},
        "source": {"uuid": SOURCE, "cluster_id": CLUSTER, "report_period_id": 1},
        "period": {"start_date": START, "end_date": END},
        "storage": bucket.settings(),
        "target": {"kind": "postgres", "postgres": database.settings("outside")},
        "reference": {"from": "inline", "enabled_tag_keys": ["app", "team"], "node_roles": "derive"},
    }
    config = folder / "outside.yaml"
    write_json(config, settings)
    for command in ("init-db", "run"):
        require([GRISTMILL, command, "--config", config])
    expected = database.fingerprint("outside")
    expect(int(expected.split()[0]) > 100, f"only {expected} rows outside: the test would compare nothing")
    return expected


def check_report(root):
    """What the run left for the pod's status, if the program leaves anything."""
    schema = json.loads((REPOSITORY / "config/config.schema.json").read_text(encoding="utf-8"))
    if "termination_log" in schema["properties"]["logging"]["properties"]:
        text = root.termination_log.read_text(encoding="utf-8")
        expect(0 < len(text) <= 4096 and json.loads(text)["exit_code"] == 0, f"/dev/termination-log holds: {text}")


def check_compose(database, folder):
    """The commands of docker-compose.yml with their environment, against an empty bucket; not in containers."""
    objects = folder / "objects"
    objects.mkdir()
    with own_bucket(S3_SERVER, objects) as bucket:
        for name, command, variables in files.compose_commands(database, bucket):
            ended = require([GRISTMILL, *command], variables)
    rows = database.sql(f"select count(*) from {variables['ORG_ID']}.reporting_ocpusagelineitem_daily_summary")[0]
    expect(int(rows) > 1000, f"docker-compose.yml: {name} wrote {rows} rows\n{ended.stdout}")
    say(f"the commands of docker-compose.yml in their order: {rows} rows")


class Release:
    """The chart, rendered for the servers at hand."""

    def __init__(self, database, bucket, storage_name, folder):
        self.database, self.bucket, self.folder = database, bucket, folder
        port = urlsplit(bucket.endpoint).port
        self.values = {
            "mode": "job",
            "config": {
                "organization": {"org_id": ORG},
                "source": {"uuid": SOURCE, "cluster_id": CLUSTER, "report_period_id": 1},
                "period": {"start_date": START, "end_date": END},
                "reference": {"from": "inline", "enabled_tag_keys": ["app", "team"], "node_roles": "derive"},
            },
            "s3": {
                "endpoint": f"http://{storage_name}:{port}",
                "allowHttp": True,
                "bucket": bucket.name,
                "existingSecret": "storage",
            },
            "postgres": {
                "host": "localhost",
                "port": int(database.facts["port"]),
                "database": database.facts["database"],
                "existingSecret": "database",
            },
            "initDb": {"enabled": True},
        }
        self.contents = {
            ("storage", "access_key"): bucket.access_key,
            ("storage", "secret_key"): bucket.secret_key,
            ("database", "user"): database.facts["user"],
            ("database", "password"): database.facts["password"],
            ("authority", "ca.crt"): Path(database.facts["ca_file"]).read_text(encoding="ascii"),
        }

    def pod(self, component, secrets, schema, authority="authority"):
        """The pod of a component."""
        postgres = {**self.values["postgres"], "schema": schema, "ca": {"existingSecret": authority}}
        values = self.folder / "values.yaml"
        write_json(values, {**self.values, "secretsAs": secrets, "postgres": postgres})
        text, error = template(values, KUBE_VERSION)
        expect(error is None, f"helm: {error}")
        manifests = documents(text)
        contents = dict(self.contents)
        for manifest in manifests:
            if manifest["kind"] == "ConfigMap":
                for key, content in manifest["data"].items():
                    contents[(manifest["metadata"]["name"], key)] = without_awaited(content)
        for manifest in manifests:
            for metadata, pod in pod_templates(manifest):
                if metadata["labels"]["app.kubernetes.io/component"] == component:
                    return Pod(pod, contents, self.folder)
        raise BenchmarkError(f"the chart renders no pod of {component}")


class Pod:
    """One container: arguments, environment, mounted folders."""

    def __init__(self, pod, contents, folder):
        container = pod["containers"][0]
        self.arguments = container["args"]
        self.variables = {entry["name"]: value_of(entry, container, contents) for entry in container["env"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        self.folders = {}
        for mount in container["volumeMounts"]:
            source = volumes[mount["name"]].get("configMap") or volumes[mount["name"]]["secret"]
            outside = Path(tempfile.mkdtemp(prefix="volume-", dir=folder))
            outside.chmod(0o755)
            for item in source["items"]:
                file = outside / item["path"]
                file.write_text(contents[(source.get("name") or source["secretName"], item["key"])], encoding="utf-8")
                file.chmod(source.get("defaultMode", 0o644))
            self.folders[mount["mountPath"]] = str(outside)


def value_of(entry, container, contents):
    """The value of a variable, as the kubelet finds it."""
    source = entry.get("valueFrom")
    if source is None:
        return entry["value"]
    if "secretKeyRef" in source:
        return contents[(source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])]
    field = source["resourceFieldRef"]
    section, name = field["resource"].split(".")
    amount = units(container["resources"][section][name]) / units(field["divisor"])
    return str(int(amount))


def units(quantity):
    """A quantity of Kubernetes as a number."""
    for suffix, factor in {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}.items():
        if quantity.endswith(suffix):
            return float(quantity.removesuffix(suffix)) * factor
    return float(quantity)


class Root:
    """The assembled folder, and a user for it."""

    def __init__(self, image, folder, isolate):
        self.image, self.folder, self.isolate = image, folder, isolate
        self.termination_log = folder / "termination-log"
        # As OpenShift takes one from a range of the namespace.
        self.uid = random.randrange(1_000_000_000, 1_999_999_999)

    def run(self, pod, arguments=None, code=0, says="", look_around=False, overlaid=None):
        """Runs the program with a pod's mounts and environment; it must end with `code`."""
        self.termination_log.write_text("", encoding="ascii")
        self.termination_log.chmod(0o666)
        hosts, resolver = self.folder / "hosts", self.folder / "resolv.conf"
        hosts.write_text("127.0.0.1 localhost\n", encoding="ascii")
        resolver.write_text(f"nameserver {NAME_SERVER}\noptions timeout:2 attempts:2\n", encoding="ascii")
        specification = self.folder / "specification.json"
        mounted = {"/dev/termination-log": self.termination_log, "/etc/hosts": hosts, "/etc/resolv.conf": resolver, **(overlaid or {})}
        write_json(
            specification,
            {
                "root": str(self.image),
                "folders": pod.folders,
                "files": {path: str(outside) for path, outside in mounted.items()},
                "writable": ["/dev/termination-log"],
                "uid": self.uid,
                "arguments": None if look_around else ["/usr/bin/gristmill", *(arguments or pod.arguments)],
                "variables": pod.variables,
            },
        )
        command = [*self.isolate, sys.executable, "-B", HERE / "in_root.py", specification]
        ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
        what = "look around" if look_around else " ".join(arguments or pod.arguments)
        expect(
            ended.returncode == code and says in ended.stdout + ended.stderr,
            f"{what}: ended with {ended.returncode}, expected {code} {says}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}",
        )
        return ended


class NameServer:
    """Answers for one name on port 53 of a loopback address; needs root, so without it `is_up` is false."""

    def __enter__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind((NAME_SERVER, 53))
            self.is_up = True
            threading.Thread(target=self.serve, daemon=True).start()
        except PermissionError:
            self.is_up = False
            say("names by /etc/hosts only: without root no name server can be started, so DNS was not tried")
        return self

    def serve(self):
        """One answer per question: 127.0.0.1 for an address, nothing for what else is asked."""
        wanted = b"".join(bytes([len(part)]) + part.encode() for part in STORAGE_NAME.split(".")) + b"\0"
        while True:
            try:
                question, asker = self.socket.recvfrom(512)
            except OSError:
                return
            end = question.index(b"\0", 12) + 5
            is_known = question[12 : end - 4] == wanted
            is_address = question[end - 4 : end - 2] == b"\0\1"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if is_known and is_address else b""
            flags = b"\x84\0" if is_known else b"\x84\3"
            counts = b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0"
            self.socket.sendto(question[:2] + flags + counts + question[12:end] + answer, asker)

    def __exit__(self, *_):
        self.socket.close()


def expect(holds, otherwise):
    """Stops the test unless something holds."""
    if not holds:
        raise BenchmarkError(otherwise)


def say(text):
    """One line about what was seen."""
    print(text, flush=True)


def mebibytes(count):
    """Bytes as text."""
    return f"{count / 2**20:.1f} MiB"


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"test_image.sh: {error}")

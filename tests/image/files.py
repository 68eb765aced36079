"""Dockerfile and docker-compose.yml -> complaints, as far as they can be checked without a container engine."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import compose_spec
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def complaints():
    """What is wrong with both files."""
    return dockerfile() + compose()


def dockerfile():
    """hadolint has nothing to say; versions, sources and stand-ins are those of the project."""
    path = REPOSITORY / "Dockerfile"
    linter = Path(sys.prefix, "bin/hadolint")
    ended = subprocess.run([linter, "--no-color", path], capture_output=True, text=True, check=False)
    found = (ended.stdout + ended.stderr).splitlines()
    if ended.returncode != 0 and not found:
        found.append(f"hadolint ended with {ended.returncode}")
    text = path.read_text(encoding="utf-8")
    cargo = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))
    for name, value in {"VERSION": cargo["package"]["version"], "RUST_VERSION": cargo["package"]["rust-version"]}.items():
        if f"ARG {name}={value}\n" not in text:
            found.append(f"Dockerfile: {name} is not {value}, as in Cargo.toml")
    for target in cargo["bench"]:
        if target["path"] not in text:
            found.append(f"Dockerfile: no stand-in for {target['path']}, which Cargo.toml names")
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if "*" not in ignored:
        found.append(".dockerignore: does not begin with nothing")
    for arguments in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in shlex.split(arguments)[:-1]:
            if not (REPOSITORY / source).exists() or f"!{source}" not in ignored:
                found.append(f"Dockerfile: {source} does not exist, or .dockerignore hides it")
    last = text.rpartition("\nFROM ")[2]
    if not last.startswith("scratch\n") or "\nUSER 65532:0\n" not in last or "\nRUN" in last:
        found.append("Dockerfile: the final stage must be what was assembled, on nothing, for a numeric user with group 0")
    if re.search(r"^#\s*(syntax|check|escape)\s*=", text, re.MULTILINE):
        found.append("Dockerfile: a directive for the parser, which may need a registry, and nothing needs it")
    if "TARGETARCH" in text or "TARGETPLATFORM" in text:
        found.append("Dockerfile: classic builders leave variables of the platform empty; ask uname")
    found += page_complaints(text)
    # A label is worth something if it says something without any argument.
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE))
    for name, value in re.findall(r"org\.opencontainers\.image\.(\w+)=\"([^\"]*)\"", text):
        filled = re.sub(r"\$\{(\w+)\}", lambda argument: defaults.get(argument[1], ""), value)
        if not filled.strip():
            found.append(f"Dockerfile: the label {name} is empty unless somebody fills it")
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        if image != "scratch" and (":" not in image or image.endswith(":latest")):
            found.append(f"Dockerfile: {image} has no version")
    return found


def page_complaints(text):
    """The step that chooses the allocator's page size, run with the names that machines have."""
    step = re.search(r"^RUN (case .*) > /page$", text, re.MULTILINE)
    if step is None:
        return ["Dockerfile: no step chooses the allocator's page size"]
    found = []
    for machine, expected in {"aarch64": "16", "arm64": "16", "x86_64": "12"}.items():
        script = f"uname() {{ echo {machine}; }}\n{step[1]}"
        ended = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        if ended.stdout.strip() != expected:
            found.append(f"Dockerfile: pages of 2^{ended.stdout.strip()} bytes on {machine}, expected 2^{expected}")
    return found


def compose():
    """The specification's own reader takes it; images have versions; what is used is declared."""
    settings = read_compose()
    try:
        compose_spec.PyCompose.from_json(json.dumps(settings))
    except ValueError as error:
        return [f"docker-compose.yml: {error}"]
    found = []
    services = settings["services"]
    for name, service in services.items():
        if not re.search(r":[^/]*\d[^/]*$", service["image"]):
            found.append(f"docker-compose.yml: {name}: {service['image']} has no version")
        for other in service.get("depends_on", {}):
            if other not in services:
                found.append(f"docker-compose.yml: {name} waits for {other}, which is not there")
            elif service["depends_on"][other]["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                found.append(f"docker-compose.yml: {other} has no health check")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not (source in settings["volumes"] or (REPOSITORY / source).exists()):
                found.append(f"docker-compose.yml: {name}: {source} does not exist")
        ours = service["image"].startswith("gristmill:")
        if ours and (not service.get("read_only") or service.get("cap_drop") != ["ALL"] or not service["user"].endswith(":0")):
            found.append(f"docker-compose.yml: {name} does not run as in a cluster")
    return found


def read_compose():
    """The content of docker-compose.yml."""
    return yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))


def compose_commands(database, bucket):
    """(name, command line, environment) of the program's services, in order, with the servers at hand in place of theirs."""
    services = read_compose()["services"]
    known = {
        "S3_ENDPOINT": f"http://localhost:{urlsplit(bucket.endpoint).port}",
        "S3_BUCKET": bucket.name,
        "S3_ACCESS_KEY": bucket.access_key,
        "S3_SECRET_KEY": bucket.secret_key,
        "POSTGRES_HOST": "localhost",
        "POSTGRES_PORT": database.facts["port"],
        "POSTGRES_DB": database.facts["database"],
        "POSTGRES_USER": database.facts["user"],
        "POSTGRES_PASSWORD": database.facts["password"],
    }
    for name in ("generate", "init-db", "run"):
        service = services[name]
        missing = known.keys() - service["environment"].keys() - {"POSTGRES_PORT"}
        if missing:
            raise ValueError(f"docker-compose.yml: {name} lacks {sorted(missing)}")
        command = [str(REPOSITORY / "config/config.yaml") if part.startswith("/etc/") else part for part in service["command"]]
        yield name, command, {**service["environment"], **known}

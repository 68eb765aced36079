"""This machine, the tools and the commit -> `environment.md`; and the programs that are measured, freshly built."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from process import BenchmarkError, require

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_folder():
    """Where data and virtual environments are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "gristmill" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build(cargo_arguments=()):
    """Builds program, decode floor and S3 server in the release profile; returns their paths by name."""
    if shutil.which("cargo") is None:
        raise BenchmarkError("cargo is not installed; scripts/install_prerequisites.sh installs the Rust toolchain")
    # The floor and the server need no second engine, whose link-time optimisation takes minutes for every executable. They come
    # first, because the program is built along with them; the last build of it, with what was asked for, is the one that stays.
    lean = dict.fromkeys(["--no-default-features", *cargo_arguments])
    programs = built(["--bench", "decode", "--bench", "s3_server", *lean])
    programs |= built(["--bin", "gristmill", *cargo_arguments])
    missing = {"gristmill", "decode", "s3_server"} - programs.keys()
    if missing:
        raise BenchmarkError(f"the build gave no {', '.join(sorted(missing))}")
    return programs


def built(arguments):
    """Paths of the executables that one call of the compiler makes, by name."""
    command = ["cargo", "build", "--locked", "--release", *arguments, "--message-format=json-render-diagnostics"]
    result = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise BenchmarkError("the build failed; the compiler's message stands above")
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    return {
        message["target"]["name"]: message["executable"]
        for message in messages
        if message.get("reason") == "compiler-artifact" and message.get("executable")
    }


def digest(path):
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def machine_name():
    """Cores and processor in a few words, without the host's name: results are published."""
    model = re.sub(r"\(.*?\)|CPU|Processor|@.*", "", processor())
    words = re.findall(r"[a-z0-9]+", model.lower())[:3]
    return "-".join([f"{len(os.sched_getaffinity(0))}-cores", *words])


def processor():
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def environment(extra=()):
    """Names and values for `environment.md`, in order."""
    facts = [
        ("processor", processor()),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{memory_bytes() / 2**30:.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("distribution", distribution()),
        ("load average at the start", " ".join(f"{load:.2f}" for load in os.getloadavg())),
        ("Rust", first_line(["rustc", "--version"])),
        ("Python", platform.python_version()),
        ("PostgreSQL client", first_line(["psql", "--version"])),
        ("commit", commit()),
    ]
    return facts + list(extra)


def memory_bytes():
    """Memory of the machine, or what the container may use of it."""
    total = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
    limit = Path("/sys/fs/cgroup/memory.max")
    limits = [int(total.group(1)) * 1024]
    # `max` where there is no limit; the file is absent outside of version 2 of control groups.
    if limit.exists() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        limits.append(int(text))
    return min(limits)


def distribution():
    """Name of the operating system."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def commit():
    """The commit, and whether something differs from it."""
    head = first_line(["git", "-C", REPOSITORY, "rev-parse", "HEAD"])
    changed = subprocess.run(
        ["git", "-C", REPOSITORY, "status", "--porcelain"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()
    return head + (" with uncommitted changes" if changed else "")


def first_line(command):
    """First line of a command's output, or that it is not there."""
    if shutil.which(str(command[0])) is None:
        return "not installed"
    return (require(command).stdout.strip().splitlines() or ["unknown"])[0]


def environment_page(facts):
    """The page."""
    lines = ["# Environment", "", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    return "\n".join(lines) + "\n"


def record(parent, name, write):
    """Lets `write` fill a folder that gets its name only when it is complete; an existing one is never touched."""
    names = [name, *(f"{name}-{number}" for number in range(2, 100))]
    folder = next(parent / name for name in names if not (parent / name).exists())
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    partial.rename(folder)
    return folder

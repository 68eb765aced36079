"""Commands -> what they cost: seconds, CPU seconds, output. Nothing here ignores an exit code."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass


# What a program says about its failure matters here, not where in its code that was.
ENVIRONMENT = {**os.environ, "RUST_BACKTRACE": "0"}


class BenchmarkError(Exception):
    """The benchmark stops: its text says what failed, where, and what to do."""


@dataclass
class Measured:
    """One process from start to end."""

    seconds: float
    cpu_seconds: float
    exit_code: int
    stdout: str
    stderr: str


def measure(command, environment=None, folder=None):
    """Runs a command to its end, whatever that is."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment or ENVIRONMENT,
            cwd=folder,
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        seconds = time.perf_counter() - started
        # wait4 took the status that the object would wait for.
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    cpu_seconds = usage.ru_utime + usage.ru_stime
    # Not usage.ru_maxrss: it begins with what this process had resident when it forked.
    return Measured(seconds, cpu_seconds, child.returncode, *texts)


def require(command, environment=None, folder=None):
    """Runs a command that must succeed."""
    result = measure(command, environment, folder)
    if result.exit_code != 0:
        last_lines = "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-15:])
        raise BenchmarkError(f"`{' '.join(str(part) for part in command)}` ended with {result.exit_code}:\n{last_lines}")
    return result


class Server:
    """A process that prints `ready …`, serves until its standard input ends, and may print a last line."""

    def __init__(self, command, what):
        self.what = what
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        line = self.child.stdout.readline()
        if not line.startswith("ready "):
            self.child.wait()
            self.log.seek(0)
            message = self.log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise BenchmarkError(f"{what} did not start: {' '.join(message) or line.strip() or 'no message'}")
        self.ready = line.removeprefix("ready ").strip()

    def cpu_seconds(self):
        """CPU time of the process so far."""
        with open(f"/proc/{self.child.pid}/stat", encoding="ascii") as file:
            # The name, in parentheses, may hold blanks.
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Ends it by closing its standard input; it stops by itself even if this process dies."""
        self.child.stdin.close()
        try:
            self.child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def stop_on_signals():
    """SIGTERM unwinds like an interrupt from the keyboard, so that servers and folders are cleaned up."""

    def unwind(_number, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, unwind)
    signal.signal(signal.SIGHUP, unwind)


def conclude(work):
    """Does the work of a benchmark, which returns the folder of its results; says how it ended; returns the exit code."""
    stop_on_signals()
    try:
        folder = work()
    except BenchmarkError as error:
        print(f"benchmark stopped, nothing was recorded: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark interrupted, nothing was recorded", file=sys.stderr)
        return 130
    print(f"results: {folder}")
    return 0


def read_json(path):
    """The content of a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(path, value):
    """Writes under a temporary name and renames: an interrupted benchmark leaves no half file."""
    temporary = f"{path}.part"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    os.replace(temporary, path)

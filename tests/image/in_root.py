"""A pod's specification -> one process that lives as in its container: root, mounts, user, environment of its own.

`unshare --mount [--user --map-root-user] python3 in_root.py SPECIFICATION.json`, which holds
    root       folder that becomes the root, read-only
    folders    {path in the container: folder outside}, read-only
    files      {path in the container: file outside}; read-only but the log of the end
    writable   paths of `files` that may be written
    uid        the user; the group is 0
    arguments  the command line; without it the process looks around: what can be written, what cannot be read
    variables  the whole environment
As a container runtime does, it makes the places to mount on before the root becomes read-only.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
CLONE_NEWUSER = 0x10000000
PR_SET_NO_NEW_PRIVS = 38
DEVICES = ["null", "zero", "full", "random", "urandom"]

libc = ctypes.CDLL(None, use_errno=True)


def main():
    """Becomes the pod."""
    specification = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    mount_all(specification)
    become(specification["uid"], specification["root"])
    if specification["arguments"] is None:
        print(json.dumps(look_around()))
    else:
        os.execve(specification["arguments"][0], specification["arguments"], specification["variables"])


def mount_all(specification):
    """Everything in its place, the root read-only."""
    root = Path(specification["root"])
    places = {"/proc": "/proc", "/sys/fs/cgroup": "/sys/fs/cgroup", **specification["folders"]}
    files = {**{f"/dev/{name}": f"/dev/{name}" for name in DEVICES}, **specification["files"]}
    for path in places:
        (root / path[1:]).mkdir(parents=True, exist_ok=True)
    for path in files:
        place = root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.touch()
    bind(root, root)
    read_only(root)
    for path, outside in places.items():
        bind(outside, root / path[1:])
        # The kernel's own file systems stay as they are: a remount could lift what protects them.
        if path in specification["folders"]:
            read_only(root / path[1:])
    for path, outside in files.items():
        bind(outside, root / path[1:])
        if path in specification["files"] and path not in specification["writable"]:
            read_only(root / path[1:])


def bind(outside, place):
    """The same tree at another place."""
    mount(outside, place, MS_BIND | MS_REC)


def read_only(place):
    """What is mounted there can be read only."""
    mount("none", place, MS_BIND | MS_REMOUNT | MS_RDONLY)


def mount(what, place, flags):
    """mount(2)."""
    if libc.mount(os.fsencode(what), os.fsencode(place), None, ctypes.c_ulong(flags), None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount {what} on {place}: {os.strerror(error)}")


def become(uid, root):
    """Another root, user and group; no further groups, no capabilities, no way to get any."""
    if own_namespace():
        # Only our own user is mapped, so a second namespace renames it.
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare: user namespaces cannot be nested here")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
        os.chroot(root)
        os.chdir("/")
    else:
        os.chroot(root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(0)
        os.setuid(uid)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Version 3 of the structure, this process; no effective, permitted or inheritable capability in both halves.
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def own_namespace():
    """Whether this is a user namespace in which other users do not exist."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split()[2] != "4294967295"


def look_around():
    """Who this is, what it could write, what it cannot read, and what it could execute."""
    facts = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}
    facts |= {"written": [], "unreadable": [], "executable": []}
    facts["termination_log"] = can_be_written("/dev/termination-log")
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
        try:
            with open(os.path.join(folder, "written-by-the-test"), "x", encoding="ascii"):
                facts["written"].append(folder)
        except OSError:
            pass
        for name in files:
            path = os.path.join(folder, name)
            try:
                with open(path, "rb") as file:
                    is_program = file.read(4) == b"\x7fELF"
                if (is_program and os.access(path, os.X_OK)) or begins_as_script(path):
                    facts["executable"].append(path)
            except OSError:
                facts["unreadable"].append(path)
            if can_be_written(path):
                facts["written"].append(path)
    return facts


def can_be_written(path):
    """Whether the file opens for writing."""
    try:
        with open(path, "r+b"):
            return True
    except OSError:
        return False


def begins_as_script(path):
    """Whether a shell or another interpreter would be asked for."""
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


if __name__ == "__main__":
    main()

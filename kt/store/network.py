"""A network file system is no place for SQLite's write-ahead log: it needs memory that its processes share."""

import os
import re
from pathlib import Path

from kt.errors import Refused

REMOTE = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip
MOUNTS = Path("/proc/self/mountinfo")


def refuse(path: Path) -> None:
    """Raises Refused where the file lies, or would lie, on a file system of another machine."""
    try:
        mounts = MOUNTS.read_text()
    except OSError:  # no Linux: nobody says
        return
    kind = file_system(path.parent.resolve() / path.name, mounts)
    if kind in REMOTE:
        raise Refused(
            f"the tables would lie on a network file system ({kind}), which SQLite cannot share",
            where=str(path),
            do="set store.url in kt.toml to a file on this machine's own disk (sqlite:////var/lib/kt/kt.db),"
            " or to a PostgreSQL server (postgresql://HOST/DATABASE)",
        )


def file_system(path: Path, mounts: str) -> str:
    """The kind of the file system that holds an absolute path, as /proc/self/mountinfo tells it."""
    found = {
        unescaped(line.split()[4]): line.partition(" - ")[2].split()[0]
        for line in mounts.splitlines()
    }  # of two mounts on one point the later one is seen
    for folder in (path, *path.parents):
        if os.fspath(folder) in found:
            return found[os.fspath(folder)]
    return ""


def unescaped(point: str) -> str:
    """A space is \\040 there."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)

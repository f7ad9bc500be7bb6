"""What a power cut can do to a git repository, put right: git syncs what it writes, but not the names of it.

So a branch may name a commit that never came to be, the index files that nobody has, and a lock outlive
the machine's last run. kt's own files are sound: what git lacks is committed anew from them (`kt doctor --fix`).
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kt import git
from kt.errors import Unavailable
from kt.workspace import ROOMS

NAME = r"(?!0+$)[0-9a-f]{40,64}"  # of a commit


def found(root: Path, booted: float) -> list[str]:
    """What is wrong. booted: when the machine started, seconds since the epoch."""
    folder = git.folder_of(root)
    if folder is None:
        return []
    out = [f"{lock} is from before this machine started" for lock in stale_locks(root, booted)]
    if not index_is_sound(root, folder):
        out.append(f"{folder / 'index'} is damaged")
    if git.head(root) and not is_whole(root, "HEAD"):
        out.append("the last commit lacks what it names")
    return out


def mend(root: Path, booted: float) -> list[str]:
    """Put it right; nothing that can still be read is lost. Under the workspace's lock. Returns what was done."""
    folder, top = git.folder_of(root), git.top_of(root)
    if folder is None or top is None:
        return []
    done = []
    for lock in stale_locks(root, booted):
        with suppress(OSError):
            lock.unlink()
            done.append(f"removed {lock}, from before this machine started")
    if git.head(root) and not is_whole(root, "HEAD"):
        broken = git.head(root)
        whole = next((commit for commit in earlier(folder) if is_whole(root, commit)), "")
        if not whole:
            raise Unavailable(
                f"git's commit {broken[:7]} is broken, and so is each before it that git remembers",
                do="take the branch from another clone: git fetch, git reset",
            )
        git.ask(top, "update-ref", "-m", "kt doctor", "HEAD", whole)
        done.append(f"took the branch back from {broken[:7]}, which is broken, to {whole[:7]}")
    if not index_is_sound(root, folder) or (done and not index_follows(root)):
        (folder / "index").unlink(missing_ok=True)
        git.ask(top, "read-tree", "HEAD")
        done.append("made git's index anew")
    return done


def unrecorded(root: Path) -> list[str]:
    """The files in kt's rooms that are not as git has them, by their path in the workspace."""
    if not git.head(root):
        return []
    changed = git.ask(root, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *ROOMS)
    new = git.ask(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *ROOMS)
    return sorted({os.fsdecode(path) for path in (changed + new).split(b"\0") if path})


def stale_locks(root: Path, booted: float) -> list[Path]:
    """Git's locks that no process of this machine can hold: it has started since."""
    folder, top = git.folder_of(root), git.top_of(root)
    if folder is None or top is None or git.git_lives(top):
        return []
    return [path for path in git.lock_files(folder) if path.stat().st_mtime < booted]


def index_is_sound(root: Path, folder: Path) -> bool:
    """Whether git reads it, and it ends with its own checksum, which git itself does not look at."""
    try:
        data = (folder / "index").read_bytes()
    except OSError:
        return not git.head(root)
    sums = (hashlib.sha1(data[:-20], usedforsecurity=False), hashlib.sha256(data[:-32]))
    sealed = any(data.endswith(one.digest()) for one in sums) or data.endswith(bytes(20))
    return sealed and git.holds(root, "ls-files", "--cached")  # zeros: index.skipHash


def index_follows(root: Path) -> bool:
    """Whether the index, in kt's rooms, could be set back to the branch: the files that it names may be gone."""
    rooms = [room for room in ROOMS if (root / room).exists()]
    return not git.head(root) or git.holds(root, "reset", "--quiet", "--", *rooms)


def is_whole(root: Path, commit: str) -> bool:
    """Whether a commit's files are all there."""
    return git.holds(root, "rev-list", "--objects", "--no-walk", "--quiet", commit)


def earlier(folder: Path) -> Iterator[str]:
    """Where the branch was, as git remembers it, the last first."""
    with suppress(OSError):
        for line in reversed((folder / "logs" / "HEAD").read_text(errors="replace").splitlines()):
            before, after, *_ = [*line.split(" "), "", ""]
            yield from (commit for commit in (after, before) if re.fullmatch(NAME, commit))

"""Commits as data: what they hold, how the files here compare with one, and moving to it."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kt.errors import KtError
from kt.git import Committed, ask, descends, folder_of, head, holds, nobody, text, top_of, wait_for


@dataclass(frozen=True)
class Entry:
    """A file in a commit. mode: "100644" of a plain one. size: bytes."""

    mode: str
    blob: str
    size: int


def tree(root: Path, commit: str, *paths: str) -> dict[str, Entry]:
    """The files of a commit under some of the workspace's paths, by their path in it."""
    out = {}
    for line in ask(root, "ls-tree", "-r", "-z", "-l", commit, "--", *paths).split(b"\0"):
        if line:
            about, _, path = line.partition(b"\t")
            mode, _, blob, size = about.decode().split()
            out[os.fsdecode(path)] = Entry(mode, blob, int(size) if size != "-" else 0)
    return out


def contents(root: Path, entries: Sequence[Entry]) -> list[bytes]:
    """The bytes of files in a commit, all by one command."""
    asked = "".join(f"{entry.blob}\n" for entry in entries).encode()
    said = ask(root, "cat-file", "--batch", stdin=asked)
    out = []
    for _ in entries:
        line, _, said = said.partition(b"\n")
        size = int(line.split()[2])
        out.append(said[:size])
        said = said[size + 1 :]
    return out


def differing(root: Path, commit: str) -> dict[str, str]:
    """What moving to `commit` would overwrite: the files that it changes and that are changed here.

    Each by its path in the repository's folder (which may be above the workspace's), and how it stands:
    "there" as in that commit already, "begun" as a beginning of it, or "other".
    """
    top = top_of(root)
    assert top is not None
    listed = ask(top, "diff", "--name-only", "--no-renames", "-z", "HEAD", commit).split(b"\0")
    moving = {os.fsdecode(path) for path in listed if path}
    status = ask(top, "status", "--porcelain", "--no-renames", "-z", "--untracked-files=all")
    dirty = sorted(moving & {os.fsdecode(line[3:]) for line in status.split(b"\0") if line})
    there = tree(top, commit, *dirty) if dirty else {}
    return {path: standing(top, path, there.get(path)) for path in dirty}


def standing(top: Path, path: str, entry: Entry | None) -> str:
    """How a file here compares with one in a commit, None where the commit lacks it."""
    file = top / path
    if entry is None or not file.is_file() or file.is_symlink():
        return "there" if entry is None and not os.path.lexists(file) else "other"
    if text(top, "hash-object", "--", path) == entry.blob:
        return "there"
    return "begun" if contents(top, [entry])[0].startswith(file.read_bytes()) else "other"


def arrived(root: Path, commit: str, paths: Sequence[str]) -> bool:
    """Whether these files of the workspace stand as in a commit."""
    try:
        there = tree(root, commit, *paths)
        return all(standing(root, path, there.get(path)) == "there" for path in paths)
    except (KtError, OSError):
        return False


def only_here(root: Path, here: str, there: str) -> set[str]:
    """The files, by their path in the repository, that commits here have changed and that differ there."""
    related = holds(root, "merge-base", here, there)
    since = text(root, "merge-base", here, there) if related else text(root, "mktree")
    names = [
        ask(root, "diff", "--name-only", "--no-renames", "-z", *two)
        for two in ((since, here), (here, there))
    ]
    changed, differ = ({os.fsdecode(path) for path in said.split(b"\0") if path} for said in names)
    return changed & differ


def joined(root: Path, there: str, here: str, keep: Sequence[str], message: str) -> str:
    """A commit after both, with the files of `there` and besides these paths as they are `here`.

    No branch moves, and no file.
    """
    top = top_of(root)
    assert top is not None
    kept = tree(root, here, *keep) if keep else {}
    lines = [
        f"{entry.mode} {entry.blob}\t{(root / path).relative_to(top)}\n"
        for path, entry in kept.items()
    ]
    who = () if holds(root, "var", "GIT_COMMITTER_IDENT") else nobody()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        ask(top, "read-tree", there, index=index)
        ask(top, "update-index", "--index-info", stdin="".join(lines).encode(), index=index)
        whole = ask(top, "write-tree", index=index).decode().strip()
    return text(top, *who, "commit-tree", whole, "-p", there, "-p", here, "-m", message)


def fast_forward(root: Path, commit: str, lock: int | None = None) -> Committed:
    """Move to a later commit. Never raises; what fails is tried again by the next command.

    Files that are written already are taken as they are; one that a killed git had begun is written anew.
    """
    folder, top = folder_of(root), top_of(root)
    if folder is None or top is None or not wait_for(folder / "index.lock"):
        return Committed(
            problem="another git command runs, or one was killed: index.lock exists", began=False
        )
    try:
        found = differing(root, commit)
        if written := [path for path, how in found.items() if how == "there"]:
            ask(top, "add", "--force", "--all", "--", *written, lock=lock)
        for path in (path for path, how in found.items() if how == "begun"):
            (top / path).unlink()
        before = head(root)
        if not descends(root, commit, before):
            return Committed(problem=f"this branch has gone on since {commit[:7]} was fetched")
        ask(top, "read-tree", "-m", "-u", before, commit, lock=lock)
        ask(top, "update-ref", "-m", "kt pull", "HEAD", commit, before, lock=lock)
    except (KtError, OSError) as error:
        return Committed(problem=getattr(error, "what", "") or str(error))
    return Committed(commit)

"""A branch of a remote, which machines share."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kt.errors import Invalid, Refused, Unavailable
from kt.git import PROTOCOLS, ask, descends, git_lives, head, holds, lock_files, text

STALE = 1.0  # seconds that no living git holds a lock of a branch


@dataclass(frozen=True)
class Upstream:
    """A branch that machines share. remote: its name here, as in `git remote`."""

    remote: str
    branch: str
    url: str

    def __str__(self) -> str:
        return f"{self.remote}/{self.branch}"


def named(root: Path, remote: str) -> Upstream:
    """The branch on `remote` that has the name of the one here. Raises Invalid or Refused."""
    known = text(root, "remote").split()
    if remote not in known or not re.fullmatch(r"[A-Za-z0-9_][\w./-]*", remote):
        raise Invalid(
            f"there is no git remote {remote[:64]!r}",
            do=f"there are: {', '.join(known)}"
            if known
            else f"add it: git remote add {remote} URL",
        )
    url = text(root, "remote", "get-url", "--push", remote)
    if re.match(r"[\w+.-]*::", url) or url.startswith("-"):
        raise Refused(
            f"the git remote {remote} is {url[:64]!r}, which runs a command",
            do=f"use a URL of one of: {', '.join(PROTOCOLS.split(':'))}, or a folder",
        )
    try:
        branch = text(root, "symbolic-ref", "--short", "HEAD")
    except Unavailable:
        raise Refused(
            "this repository is on no branch (detached HEAD)",
            do="go back to one: git checkout BRANCH",
        ) from None
    return Upstream(remote, branch, url)


def tip(root: Path, of: Upstream) -> str:
    """The commit that the remote's branch is at; empty where it has no such branch."""
    ref = f"refs/heads/{of.branch}"
    said = text(root, "ls-remote", "--heads", "--", of.remote, ref)
    found = [line.split("\t") for line in said.splitlines()]
    return next(
        (
            commit
            for commit, name in found
            if name == ref and re.fullmatch(r"[0-9a-f]{40,64}", commit)
        ),
        "",
    )


def fetch(root: Path, of: Upstream, commit: str) -> None:
    """Have a commit of the remote's branch here. No ref moves, so that a kill leaves no lock of one."""
    if not holds(root, "cat-file", "-e", f"{commit}^{{commit}}"):
        ask(
            root, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            "--refmap=", "--", of.remote, f"refs/heads/{of.branch}",
        )  # fmt: skip
    if not holds(root, "cat-file", "-e", f"{commit}^{{commit}}"):
        raise Unavailable(f"{of} moved while it was fetched", do="run the command again")


def track(root: Path, of: Upstream, commit: str) -> None:
    """Let `git status` know where the remote's branch is, as `git fetch` would. No harm where it cannot."""
    holds(root, "update-ref", f"refs/remotes/{of}", commit)


def taken_back(root: Path, of: Upstream, there: str) -> str:
    """The commit, here too, that the remote's branch was at when it was last seen, where it is now at an
    earlier one; else empty."""
    ref = f"refs/remotes/{of}"
    if not holds(root, "rev-parse", "--verify", "--quiet", ref):
        return ""
    seen = text(root, "rev-parse", ref)
    later = seen != there and descends(root, seen, there) and descends(root, head(root), seen)
    return seen if later else ""


def push(root: Path, to: Upstream, commit: str, there: str) -> None:
    """Give the remote's branch, which is at `there`, a commit that comes after it. Raises Refused, Unavailable.

    Into a folder git would run that repository's hooks as this user: they are off.
    """
    quiet = (
        ["--receive-pack=git -c core.hooksPath=/dev/null receive-pack"] if is_folder(to.url) else []
    )
    options = ["--quiet", "--no-verify", "--recurse-submodules=no", *quiet]
    try:
        ask(root, "push", *options, "--", to.remote, f"{commit}:refs/heads/{to.branch}")
    except Unavailable as error:
        if tip(root, to) == there:
            raise
        raise Refused(
            f"{to} has moved: another machine has pushed", do="kt pull, then kt push again"
        ) from error


def clear_locks_there(root: Path, to: Upstream, since: float) -> None:
    """Remove the locks that a push, killed since then, left in a folder that is the remote.

    A living git holds them for a moment, also one of another machine: what stays a second is left over.
    """
    if not is_folder(to.url):
        return
    where = (root / to.url.removeprefix("file://")).resolve()
    folder = where / ".git" if (where / ".git").is_dir() else where
    names = [f"refs/heads/{to.branch}.lock", "packed-refs.lock"]
    with suppress(OSError):
        found = {*lock_files(folder), *(folder / name for name in names)}
        left = {path: path.stat() for path in found if path.exists()}
        if not any(stat.st_mtime >= since - 1 for stat in left.values()):
            return
        time.sleep(STALE)
        for path, stat in left.items():
            if stat.st_mtime >= since - 1 and path.stat() == stat and not git_lives(folder):
                path.unlink()


def is_folder(url: str) -> bool:
    """Whether git reaches this URL through the file system."""
    return url.startswith("file://") or ("://" not in url and ":" not in url.partition("/")[0])

"""The one door to git: it records what has already happened, and can never undo or fail it.

The git command is run through GitPython. `git commit --only -- PATHS` leaves alone what a developer
has staged; `repo.index.commit()` does not. Hooks are off: a hook that lints source must not veto
the record of a fact (what may veto comes before: the gates).
"""

import os
import re
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.errors import Invalid, KtError, Refused, Unavailable

if TYPE_CHECKING:
    from git import Repo

LOCK_WAIT = 10.0  # seconds for another git command to finish
BUSY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
}
# core.fsync: the record survives a power cut as the files do. No gc and no monitor: they would outlive
# the command, and with it hold the workspace's lock.
OPTIONS = (
    "-c",
    "core.fsync=all",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
)


@dataclass(frozen=True)
class Committed:
    """commit: the new commit's id, empty where nothing was to be committed. problem: why it is pending."""

    commit: str = ""
    problem: str = ""


def open_repository(root: Path) -> "Repo | None":
    """The repository that `root` lies in; None without one, and without the git command."""
    if top_of(root) is None:
        return None
    try:
        from git import Repo
        from git.exc import GitError
    except ImportError:  # GitPython raises it where there is no git command
        return None
    try:
        return Repo(root, search_parent_directories=True)
    except GitError:
        return None


def refuse_if_busy(root: Path) -> None:
    """Raises Refused while a merge, a rebase or the like waits for a person. Reads only files."""
    folder = folder_of(root)
    for name, what in BUSY.items():
        if folder is not None and (folder / name).exists():
            raise Refused(
                f"{what} is in progress in this repository",
                do="finish or abort it first: git status",
            )


def folder_of(root: Path) -> Path | None:
    """The .git folder, also of a worktree, whose .git is a file that names it."""
    top = top_of(root)
    if top is None:
        return None
    found = top / ".git"
    if found.is_dir():
        return found
    named = re.match(r"gitdir: (.+)", found.read_text())
    return top / named[1].strip() if named else None


def top_of(root: Path) -> Path | None:
    """The folder that git works in: the nearest one with a .git, which may be a file."""
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)


def commit(root: Path, paths: Sequence[str], message: str, lock: int | None = None) -> Committed:
    """Commit exactly these paths of the workspace. Never raises: what fails is left to the next command.

    lock: a descriptor that git inherits, so that the workspace stays locked while git lives, also
    when kt was killed meanwhile.
    """
    repo = open_repository(root)
    if repo is None:
        return Committed(problem="there is no git repository or no git command")
    from git.exc import GitError

    folder = Path(repo.git_dir)
    if not wait_for(folder / "index.lock"):
        return Committed(
            problem=f"{folder / 'index.lock'} exists: another git command runs, or one was killed"
        )
    git = Runner(repo, root, lock)
    try:
        git.run("add", "--force", "--", *paths)
        if not git.run("status", "--porcelain", "--untracked-files=no", "--", *paths):
            return Committed()
        try:
            git.run("commit", "--quiet", "--only", "--no-verify", "-m", message, "--", *paths)
        except GitError as error:
            if "ident" not in str(error) and "tell me who you are" not in str(error):
                raise
            git.run(
                "commit",
                "--quiet",
                "--only",
                "--no-verify",
                "-m",
                message,
                "--",
                *paths,
                options=nobody(),
            )
        return Committed(commit=git.run("rev-parse", "HEAD"))
    except (GitError, OSError) as error:
        return Committed(problem=reason(error))


def nobody() -> tuple[str, ...]:
    """An identity where none is set: cron has none."""
    host = socket.gethostname() or "localhost"
    return "-c", "user.name=kt", "-c", f"user.email=kt@{host}"


class Runner:
    """The git command in the workspace's folder."""

    def __init__(self, repo: "Repo", root: Path, lock: int | None) -> None:
        self.repo = repo
        self.root = root
        self.inherit: dict[str, Any] = {} if lock is None else {"pass_fds": (lock,)}

    def run(self, *arguments: str, options: Sequence[str] = ()) -> str:
        command = ["git", *OPTIONS, *options, "-C", str(self.root), *arguments]
        environment = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
        out = self.repo.git.execute(command, env=environment, **self.inherit)
        return str(out)


def wait_for(lock: Path) -> bool:
    """Wait until git's own lock is gone; False if it stays."""
    deadline = time.monotonic() + LOCK_WAIT
    while lock.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def reason(error: Exception) -> str:
    """Git's own words, in one line."""
    text = getattr(error, "stderr", "") or str(error)
    lines = [
        line.strip() for line in str(text).replace("stderr:", "").strip().strip("'").splitlines()
    ]
    said = [line for line in lines if line]
    return (said[0] if said else type(error).__name__)[:300]


def clear_own_locks(root: Path, since: float) -> bool:
    """Remove the lock files that a killed git of kt's left. True if there were any.

    since: when that git was started, seconds since the epoch. The caller holds the workspace's lock,
    which kt's git inherits, so none of kt's lives. What may be another's is left alone: older files,
    and all of them while a git command works in this repository.
    """
    folder, top = folder_of(root), top_of(root)
    if folder is None or top is None:
        return False
    try:
        left = [path for path in lock_files(folder) if path.stat().st_mtime >= since - 1]
        if not left or git_lives(top):
            return False
        for path in left:
            path.unlink()
    except OSError:
        return False
    return True


def lock_files(folder: Path) -> list[Path]:
    """The files that keep a commit from beginning, those that are there."""
    common = folder / "commondir"  # in a worktree's folder: where its branches are
    branches = folder / common.read_text().strip() if common.exists() else folder
    head = (folder / "HEAD").read_text().strip()
    found = [folder / "index.lock", folder / "HEAD.lock", *folder.glob("next-index-*.lock")]
    if head.startswith("ref: refs/heads/"):
        found.append(branches / f"{head.removeprefix('ref: ')}.lock")
        branch = head.removeprefix("ref: refs/heads/")
        found += [path / f"{branch}.lock" for path in branches.glob("refs/remotes/*")]
    return [path for path in found if path.exists()]


def git_lives(folder: Path) -> bool:
    """Whether a git command works in `folder`, as far as /proc tells; elsewhere assume so."""
    processes = Path("/proc")
    if not (processes / "self").exists():
        return True
    for process in processes.iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = (process / "comm").read_text().strip()
            if name.startswith("git") and (process / "cwd").resolve().is_relative_to(folder):
                return True
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return False


def start(root: Path) -> str:
    """Make a repository where the workspace lies in none. Returns what went wrong, or nothing."""
    if folder_of(root) is not None:
        return ""
    try:
        from git import Repo
        from git.exc import GitError
    except ImportError:
        return "there is no git command"
    try:
        Repo.init(root)
    except (GitError, OSError) as error:
        return reason(error)
    return ""


def committed(root: Path, path: str) -> bytes | None:
    """A file's bytes as last committed; None where git does not know it."""
    repo = open_repository(root)
    if repo is None:
        return None
    from git.exc import GitError

    try:
        out = repo.git.execute(
            ["git", "-C", str(root), "show", f"HEAD:./{path}"],
            stdout_as_string=False,
            strip_newline_in_stdout=False,
        )
        return bytes(out)  # with stdout_as_string=False
    except GitError:
        return None


def identity() -> str:
    """Who runs this command: the system's user name, as `by` in an event."""
    for name in ("KT_USER", "LOGNAME", "USER"):
        if os.environ.get(name):
            return os.environ[name][:64]
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


# What other machines share: a branch of a remote

PROTOCOLS = "file:git:https:ssh"  # not ext, which runs a command
# What comes is checked object by object, a connection that stands still is given up, nothing recurses.
OUTSIDE = (
    "-c", "transfer.fsckObjects=true",
    "-c", "http.lowSpeedLimit=1000",
    "-c", "http.lowSpeedTime=60",
    "-c", "submodule.recurse=false",
    "-c", "push.followTags=false",
)  # fmt: skip
STALE = 1.0  # seconds that no living git holds a lock of a branch
SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4"


@dataclass(frozen=True)
class Upstream:
    """A branch that machines share. remote: its name here, as in `git remote`."""

    remote: str
    branch: str
    url: str

    def __str__(self) -> str:
        return f"{self.remote}/{self.branch}"


@dataclass(frozen=True)
class Entry:
    """A file in a commit. mode: "100644" of a plain one. size: bytes."""

    mode: str
    blob: str
    size: int


def ask(
    root: Path,
    *arguments: str,
    stdin: bytes | None = None,
    lock: int | None = None,
    index: Path | None = None,
) -> bytes:
    """What git answers, in the workspace's folder. Raises Unavailable with its own words.

    index: another one than the repository's.
    """
    repo = open_repository(root)
    if repo is None:
        raise Unavailable(
            "there is no git repository or no git command",
            do='make one: git init, or do without: git = "off" in kt.toml',
        )
    from git.exc import GitError

    environment = {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "GIT_OPTIONAL_LOCKS": "0",  # a killed `git status` would leave index.lock behind
    }
    if not {"GIT_SSH", "GIT_SSH_COMMAND"} & set(os.environ) and not repo.config_reader().has_option(
        "core", "sshcommand"
    ):
        environment["GIT_SSH_COMMAND"] = SSH
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    command = ["git", *OPTIONS, *OUTSIDE, "-C", str(root), *arguments]
    inherit: dict[str, Any] = {} if lock is None else {"pass_fds": (lock,)}
    try:
        with tempfile.TemporaryFile() as given:
            given.write(stdin or b"")
            given.seek(0)
            out = repo.git.execute(
                command,
                istream=given,
                env=environment,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                **inherit,
            )
    except (GitError, OSError) as error:
        raise Unavailable(f"git {arguments[0]}: {reason(error)}") from error
    return bytes(out)  # with stdout_as_string=False


def holds(root: Path, *arguments: str) -> bool:
    """Whether git says yes: its exit status."""
    try:
        ask(root, *arguments)
    except Unavailable:
        return False
    return True


def text(root: Path, *arguments: str) -> str:
    return ask(root, *arguments).decode(errors="replace").strip()


def head(root: Path) -> str:
    """The commit that the workspace stands at; empty before the first."""
    return text(root, "rev-parse", "HEAD") if holds(root, "rev-parse", "--verify", "HEAD") else ""


def upstream(root: Path, remote: str) -> Upstream:
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


def descends(root: Path, commit: str, ancestor: str) -> bool:
    """Whether `commit` is `ancestor` or comes after it; all comes after nothing."""
    return not ancestor or holds(root, "merge-base", "--is-ancestor", ancestor, commit)


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
        return Committed(problem="another git command runs, or one was killed: index.lock exists")
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

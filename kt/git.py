"""The one door to git: it records what has already happened, and can never undo or fail it.

What is in commits: commits.py. What machines share: upstream.py.

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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.errors import Refused, Unavailable

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
PROTOCOLS = "file:git:https:ssh"  # not ext, which runs a command
# What comes is checked object by object, a connection that stands still is given up, nothing recurses.
OUTSIDE = (
    "-c", "transfer.fsckObjects=true",
    "-c", "http.lowSpeedLimit=1000",
    "-c", "http.lowSpeedTime=60",
    "-c", "submodule.recurse=false",
    "-c", "push.followTags=false",
)  # fmt: skip
SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4"


@dataclass(frozen=True)
class Committed:
    """commit: the new commit's id, empty where nothing was to be committed. problem: why it is pending.

    began: whether git was run, so that a lock that is left may be its.
    """

    commit: str = ""
    problem: str = ""
    began: bool = True


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
    """The folder that git works in: the nearest one with a .git, which may be a file.

    A folder without a HEAD is none to git either: a full disk ended `git init` half way.
    """
    return next(
        (
            folder
            for folder in (root, *root.parents)
            if (folder / ".git").is_file() or os.path.lexists(folder / ".git" / "HEAD")
        ),
        None,
    )


def commit(root: Path, paths: Sequence[str], message: str, lock: int | None = None) -> Committed:
    """Commit exactly these paths of the workspace. Never raises: what fails is left to the next command.

    lock: a descriptor that git inherits, so that the workspace stays locked while git lives, also
    when kt was killed meanwhile.
    """
    if not paths:  # weights alone, which git does not know
        return Committed()
    repo = open_repository(root)
    if repo is None:
        return Committed(problem="there is no git repository or no git command", began=False)
    from git.exc import GitError

    folder = Path(repo.git_dir)
    if not wait_for(folder / "index.lock"):
        return Committed(
            problem=f"{folder / 'index.lock'} exists: another git command runs, or one was killed",
            began=False,
        )
    git = Runner(repo, root, lock)
    try:
        git.run("add", "--force", "--", *paths)
        if not git.run("status", "--porcelain", "--untracked-files=no", "--", *paths):
            return Committed()
        commit_as_somebody(git, paths, message)
        return Committed(commit=git.run("rev-parse", "HEAD"))
    except (GitError, OSError) as error:
        return Committed(problem=reason(error))


def commit_as_somebody(git: "Runner", paths: Sequence[str], message: str) -> None:
    """As whom git is configured for; as kt where nobody is."""
    from git.exc import GitError

    command = ("commit", "--quiet", "--only", "--no-verify", "-m", message, "--", *paths)
    try:
        git.run(*command)
    except GitError as error:
        if "ident" not in str(error) and "tell me who you are" not in str(error):
            raise
        git.run(*command, options=nobody())


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
        raise Unavailable(
            f"git {arguments[0]}: {reason(error)}",
            do="see that the remote is there: git remote -v; then run the command again"
            if arguments[0] in ("ls-remote", "fetch", "push")
            else 'see what git says: git status; or do without: git = "off" in kt.toml',
        ) from error
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


def descends(root: Path, commit: str, ancestor: str) -> bool:
    """Whether `commit` is `ancestor` or comes after it; all comes after nothing."""
    return not ancestor or holds(root, "merge-base", "--is-ancestor", ancestor, commit)

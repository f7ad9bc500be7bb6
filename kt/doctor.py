"""Is this machine set up? One line for each thing that kt rests on, and what to do where it does not hold.

It looks across the rooms, so it stands in front of all of them. Each check is a function from a
workspace to what it found; one that fails in a way nobody foresaw is a finding, not an end.
"""

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from kt import change, clock, files, git, journal, locks, powercut
from kt.deployments import audit, deploy, gc, theirs
from kt.deployments.events import HISTORY
from kt.errors import KtError
from kt.jobs.looks import LAST_CHECK
from kt.predictor import presence
from kt.registry import confine, onnx, record, remote, signing
from kt.store import connect
from kt.workspace import ROOMS, Workspace

Health = Literal["ok", "warning", "problem"]
LITTLE, TIGHT = 5 << 30, 500 << 20  # bytes free
SKEW = timedelta(seconds=5)  # between this machine's clock and its disk's
WIDEST = timedelta(minutes=5)  # that the last event may lie in the future


@dataclass(frozen=True)
class Finding:
    """what: one line. do: the way out, empty where all is well."""

    check: str
    health: Health
    what: str
    do: str = ""


Found = Iterator[Finding]


def examine(workspace: Workspace | None, now: datetime) -> list[Finding]:
    """Every check, in the order in which one rests on another. None: there is no workspace here."""
    out = list(machine())
    if workspace is None:
        return [
            *out,
            Finding(
                "workspace", "problem", "there is no kt.toml here or above", "make one: kt init"
            ),
        ]
    try:
        _ = workspace.settings
    except KtError as error:
        return [*out, Finding("settings", "problem", str(error), error.do)]
    out.append(Finding("settings", "ok", f"{workspace.root / 'kt.toml'}"))
    for check in (
        disk,
        lock,
        leftovers,
        repository,
        weights,
        signatures,
        pending,
        shared,
        predictors,
    ):
        out += guarded(check, workspace)
    out += guarded(lambda where: tables(where, now), workspace, "tables")
    return [*out, *guarded(lambda where: times(where, now), workspace, "clock")]


def guarded(
    check: Callable[[Workspace], Found], workspace: Workspace, name: str = ""
) -> list[Finding]:
    """What a check found up to where it failed, and that it failed."""
    out: list[Finding] = []
    try:
        out.extend(check(workspace))
    except (KtError, OSError) as error:
        out.append(
            Finding(
                name or check.__name__,
                "problem",
                str(error),
                getattr(error, "do", "") or "see: kt verify",
            )
        )
    return out


def machine() -> Found:
    """What is installed."""
    yield Finding("python", "ok", platform.python_version())
    try:
        yield Finding("torch", "ok", importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("torch", "problem", "is not installed", "see README, Install")
    yield from training()
    yield serving()
    abi = confine.landlock_abi()
    if abi >= 4:
        yield Finding("sandbox", "ok", f"Landlock ABI {abi}: model files are opened shut in")
    else:
        what = f"Landlock ABI {abi}" if abi else "this kernel has no Landlock"
        yield Finding(
            "sandbox",
            "warning",
            f"{what}: the process that opens model files has limits, but may write and connect",
            "open only files that you trust, or use Linux 6.7 or later",
        )


def training() -> Found:
    """Which form of the memory networks' recurrence is used. Torch is imported only where there are two."""
    if importlib.util.find_spec("numba") is None:
        do = "pip install 'kt[fast]': memory networks (gpcm) train several times as fast"
        yield Finding("training", "ok", "by torch alone", do)
        return
    from kt.models.recurrence import tier

    chosen = tier()
    if chosen.why:
        do = (
            "memory networks (gpcm) would train several times as fast: see https://numba.pydata.org"
        )
        yield Finding("training", "warning", f"by torch alone: {chosen.why}", do)
    else:
        yield Finding("training", "ok", f"compiled by {chosen.name}")


def serving() -> Finding:
    """What predictors run versions with. Nothing is wrong where that is torch."""
    if lacks := onnx.missing():
        do = "pip install 'kt[onnx]': a predictor without torch starts sooner, in half the memory"
        return Finding("serving", "ok", f"by torch alone: {', '.join(lacks)} not installed", do)
    return Finding(
        "serving", "ok", f"by ONNX Runtime {importlib.metadata.version('onnxruntime')} or torch"
    )


def disk(workspace: Workspace) -> Found:
    """Whether kt may write where it must, rename between its folders, and has room."""
    folders = [workspace.local, *(workspace.root / name for name in ROOMS)]
    for folder in folders:
        if folder.is_symlink():
            yield Finding(
                "folders", "problem", f"{folder} is a symbolic link", "put a real folder there"
            )
            return
        try:
            files.discard(files.stage(folder / "doctor", b""))
        except KtError as error:
            yield Finding("folders", "problem", str(error), "let the user who runs kt write there")
            return
    yield Finding("folders", "ok", "can be written")
    systems = {folder.stat().st_dev for folder in folders}
    if len(systems) > 1:
        yield Finding(
            "rename",
            "problem",
            ".kt/ and the folders beside it lie on different file systems: a version cannot appear whole",
            "put them on one",
        )
    free = shutil.disk_usage(workspace.root).free
    largest = max((one.size for one in gc.stored(workspace)), default=0)
    health: Health = (
        "problem" if free < TIGHT else "warning" if free < max(LITTLE, 3 * largest) else "ok"
    )
    do = "" if health == "ok" else "make room: kt gc"
    yield Finding("space", health, f"{free / 1e9:.1f} GB free", do)


def signatures(workspace: Workspace) -> Found:
    """What signatures rest on, where kt.toml asks for them."""
    settings = workspace.settings.signing
    if not (settings.require_signature or settings.key):
        return
    if not shutil.which("ssh-keygen"):
        yield Finding(
            "signatures", "problem", "ssh-keygen is not installed", "install OpenSSH 8.9 or later"
        )
    elif settings.require_signature and not (workspace.root / settings.allowed).is_file():
        what = f"{settings.allowed} is not there: nobody's signature counts"
        yield Finding("signatures", "problem", what, signing.NAME_THEM)
    else:
        yield Finding("signatures", "ok", f"checked by ssh-keygen against {settings.allowed}")


def lock(workspace: Workspace) -> Found:
    holder = locks.holder(workspace)
    yield Finding("lock", "ok", f"held by {holder}" if holder else "free")


def leftovers(workspace: Workspace) -> Found:
    left = gc.leftovers(workspace)
    if left:
        size = gc.weigh(left) / 1e6
        yield Finding(
            "leftovers",
            "warning",
            f"{len(left)} of killed commands, {size:.1f} MB",
            "kt doctor --fix",
        )
    else:
        yield Finding("leftovers", "ok", "none")


def repository(workspace: Workspace) -> Found:
    """Whether git can record what happens."""
    if workspace.settings.git == "off":
        yield Finding("git", "ok", "off in kt.toml")
        return
    if shutil.which("git") is None:
        yield Finding(
            "git", "problem", "there is no git command", 'install it, or set git = "off" in kt.toml'
        )
        return
    folder = git.folder_of(workspace.root)
    if folder is None:
        yield Finding(
            "git",
            "problem",
            "the workspace is in no repository",
            'git init, or git = "off" in kt.toml',
        )
        return
    root = workspace.root
    yield Finding("git", "ok", git.text(root, "--version").removeprefix("git version "))
    if busy := next((what for name, what in git.BUSY.items() if (folder / name).exists()), ""):
        yield Finding(
            "branch", "problem", f"{busy} is in progress", "finish or abort it: git status"
        )
        return
    yield branch(root)
    yield from damage(root, folder)
    yield identity(root)


def branch(root: Path) -> Finding:
    if git.holds(root, "symbolic-ref", "-q", "HEAD"):
        return Finding("branch", "ok", git.text(root, "symbolic-ref", "--short", "HEAD"))
    return Finding(
        "branch", "warning", "none (detached HEAD)", "go back to one: git checkout BRANCH"
    )


def damage(root: Path, folder: Path) -> Found:
    """What a power cut broke in git's folder; where nothing is, the locks that somebody left."""
    broken = powercut.found(root, clock.booted())
    for what in broken:
        yield Finding("git", "problem", f"{what}: a power cut?", "kt doctor --fix")
    for path in () if broken else git.lock_files(folder):
        yield Finding(
            "git lock",
            "problem",
            f"{path} exists: a git command runs, or one was killed",
            f"if none runs: rm {path}",
        )


def identity(root: Path) -> Finding:
    """As whom git commits."""
    if git.holds(root, "var", "GIT_COMMITTER_IDENT"):
        who = git.text(root, "var", "GIT_COMMITTER_IDENT").rsplit(" ", 2)[0]
        return Finding("identity", "ok", who)
    return Finding(
        "identity",
        "warning",
        "git knows no user here: kt commits as kt",
        "git config user.name NAME, git config user.email ADDRESS",
    )


def weights(workspace: Workspace) -> Found:
    """Weights do not belong into git."""
    if workspace.settings.git == "off" or git.folder_of(workspace.root) is None:
        return
    path = record.weights(Path(), "model", "v1")
    tracked = git.text(workspace.root, "ls-files", "--", f"{record.FOLDER}/*/{path.name}")
    if tracked:
        first = tracked.splitlines()[0]
        yield Finding("weights", "problem", f"{first} is in git", f"git rm --cached {first}")
    elif git.holds(workspace.root, "check-ignore", "-q", "--", str(path)):
        yield Finding("weights", "ok", "ignored by git")
    else:
        yield Finding(
            "weights",
            "problem",
            "git does not ignore registry/**/model.*",
            "kt doctor --fix writes .gitignore",
        )


def pending(workspace: Workspace) -> Found:
    if left := change.pending(workspace):
        yield Finding(
            "commit",
            "warning",
            f"not in git yet: {str(left.get('message', ''))[:100]}",
            "kt doctor --fix",
        )
    else:
        yield Finding("commit", "ok", "nothing is pending")


def shared(workspace: Workspace) -> Found:
    """Whether what kt.toml names can be opened. Nothing is asked over the network."""
    if workspace.settings.remote.url:
        store = remote.open_store(workspace)
        where = store.folder.parent if store.folder else None
        if where is not None and not where.is_dir():
            yield Finding(
                "store", "warning", f"{where} is not there", "mount or make it; kt push makes it"
            )
        else:
            yield Finding("store", "ok", store.url)


def predictors(workspace: Workspace) -> Found:
    _, state = audit.read(workspace)
    running = presence.alive(workspace)
    for one in running:
        if one.state != "ok":
            yield Finding(
                "predictor", "warning", f"{one.pid} is degraded: {one.reason}", "see: kt status"
            )
        elif one.seq != state.seq:
            what = f"{one.pid} serves event {one.seq}, the history stands at {state.seq}"
            yield Finding("predictor", "warning", what, "see: kt status")
    if all(one.state == "ok" and one.seq == state.seq for one in running):
        addresses = ", ".join(sorted({one.address for one in running}))
        many = "1 worker" if len(running) == 1 else f"{len(running)} workers"
        what = f"{many} on {addresses}" if running else "none is running"
        yield Finding("predictor", "ok", what)


def tables(workspace: Workspace, now: datetime) -> Found:
    """Whether what is observed can be kept, and is kept small. Tables of an older kt are brought along."""
    settings = workspace.settings
    if not settings.store.url:
        yield Finding("tables", "ok", "off in kt.toml: nothing is recorded")
        return
    store = connect.peek(workspace.root, settings)
    if store is None:
        yield Finding("tables", "ok", "none yet: the first recorded answer makes them")
        return
    from kt.store.health import health

    minute = int(now.timestamp()) // 60
    found = health(store, minute)
    size = "" if found.size is None else f", {found.size / 1e6:.1f} MB"
    last = "never" if found.written is None else f"{max(0, minute - found.written)} minutes ago"
    what = f"{store.where}{size}, last written {last}"
    if found.unrolled:
        old = f"; minutes of {found.unrolled // (24 * 60)} days ago are no hours yet"
        yield Finding(
            "tables", "warning", what + old, "run: kt monitor, from cron or beside kt serve"
        )
    else:
        yield Finding("tables", "ok", what)


def times(workspace: Workspace, now: datetime) -> Found:
    """The clock is shown and compared, never used for order; but people read it."""
    book = journal.read(workspace.root / HISTORY)
    last = str(book.events[-1].get("at", "")) if book.events else ""
    aside = files.stage(workspace.local / "doctor", b"")
    # Not `now`: the checks before this one may have taken longer than SKEW.
    skew = timedelta(seconds=abs(aside.stat().st_mtime - clock.moment()))
    files.discard(aside)
    if last and datetime.fromisoformat(last) > now + WIDEST:
        yield Finding(
            "clock", "warning", f"the last event is of {last}, later than now", "set the clock"
        )
    elif skew > SKEW:
        yield Finding(
            "clock",
            "warning",
            f"this machine and its disk differ by {skew.seconds} s",
            "set the clocks",
        )
    else:
        yield Finding("clock", "ok", now.strftime("%Y-%m-%dT%H:%M:%SZ"))


IGNORED = (  # by git
    ".kt/",
    f"{files.ASIDE}*",
    "kt.db*",
    "keys.json",
    "secret.json",
    LAST_CHECK,
    f"{record.FOLDER}/**/model.*",
)


def mend(workspace: Workspace) -> list[str]:
    """What can be put right without losing anything: left-overs, the pending commit, .gitignore; and
    versions in quarantine get another try."""
    from kt.predictor import quarantine  # it loads numpy

    left = gc.leftovers(workspace)
    notes = []
    with change.locked(workspace, "doctor") as held:
        if workspace.settings.git == "on":
            notes += powercut.mend(workspace.root, clock.booted())
        deploy.recover(held)
        for path in left:
            files.discard(path)  # the lock has swept the rest
        notes += [*held.notes, *record_rest(held)]
    if left:
        notes.append(f"removed {len(left)} left-overs of killed commands")
    if quarantine.release(workspace.local):
        notes.append("let the versions in quarantine be tried again")
    path = workspace.root / ".gitignore"
    lines = path.read_text().splitlines() if path.exists() else []
    if missing := [line for line in IGNORED if line not in lines]:
        files.write_whole(path, "\n".join([*lines, *missing, ""]).encode())
        notes.append(f"wrote to .gitignore: {', '.join(missing)}")
    return notes


def record_rest(held: change.Lock) -> list[str]:
    """Commit what of kt's files git lacks, whatever the reason. Returns what was done."""
    workspace = held.workspace
    if workspace.settings.git == "off" or git.folder_of(workspace.root) is None:
        return []
    rest = [path for path in powercut.unrecorded(workspace.root) if theirs.written_by_kt(path)]
    if not rest:
        return []
    done = change.record(held, rest, "recover: what git had not recorded")
    said = ", ".join(rest[:3]) + (", …" if len(rest) > 3 else "")
    return [f"committed what git had not recorded: {said}"] if done.commit else []

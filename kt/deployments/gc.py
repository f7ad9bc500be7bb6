"""kt gc: removes the weights of versions that nothing needs. Their records stay: they are history.

What is needed is decided in `need.py`, afresh under the lock. Each version's weights go on their own,
the mark that says so first: a kill leaves each of them either there or removed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kt import change, files, reserve, staging
from kt.deployments import audit, need
from kt.deployments.deploy import recover
from kt.deployments.need import Key, Stored
from kt.deployments.plan import Stamp
from kt.errors import KtError, Unavailable, Unconfirmed
from kt.registry import absence, record, remote
from kt.registry.absence import Absence
from kt.workspace import Workspace

Served = Callable[[], Collection[Key]]  # what this machine's predictors serve, or would


@dataclass(frozen=True)
class Plan:
    """remove: what nothing needs. kept: why each other one stays. leftovers: of killed commands, in bytes."""

    remove: Sequence[Stored]
    kept: Mapping[Key, str]
    leftovers: int


@dataclass(frozen=True)
class Collected:
    """removed: whose weights are gone now. freed: bytes, left-overs included. failed: what would not go."""

    removed: Sequence[Stored]
    freed: int
    failed: Sequence[KtError] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def look(workspace: Workspace, served: Served, keep: int) -> Plan:
    """What would be removed. Reads only."""
    _, state = audit.read(workspace)
    found = stored(workspace)
    reasons = need.needed(state, found, served(), keep)
    return Plan(need.unneeded(found, reasons), reasons, weigh(leftovers(workspace)))


def collect(
    workspace: Workspace, served: Served, keep: int, agreed: Collection[Key], stamp: Stamp
) -> Collected:
    """Remove what was agreed to, and is still not needed. Raises Unavailable where a command needs more."""
    left = leftovers(workspace)
    weight = weigh(left)
    with change.locked(workspace, "gc") as lock:
        recover(lock)
        if staging.preparing(workspace):
            raise Unavailable(
                "another command is preparing a version",
                do="nothing was removed; run it again when that has ended",
            )
        plan = look(workspace, served, keep)
        removed, failed = [], []
        for one in plan.remove:
            if one.key in agreed:
                try:
                    remove(workspace, one, Absence("pruned", stamp.at, stamp.by))
                    removed.append(one)
                except KtError as error:
                    failed.append(error)
        for one in stored(workspace):
            if one.size:
                absence.clear(workspace, *one.key)  # of weights that have come back
        for path in left:
            files.discard(path)  # the lock has swept the rest
    return Collected(removed, sum(one.size for one in removed) + weight, failed, lock.notes)


def leftovers(workspace: Workspace) -> list[Path]:
    """Of killed commands: what they left half written, and what a pull had fetched and not used."""
    return [*change.leftovers(workspace), *remote.partial(workspace)]


def remove(workspace: Workspace, one: Stored, why: Absence) -> None:
    path = record.weights(workspace.root, *one.key)
    reserve.spend(workspace.local, lambda: absence.mark(workspace, *one.key, why))
    record.discard_exports(workspace.root, *one.key)  # first
    with files.named("remove", path):
        path.unlink()
    try:
        files.sync_folder(path.parent)
    except Unconfirmed:
        return  # after a power cut the weights may be back: the next gc removes them


def stored(workspace: Workspace) -> list[Stored]:
    """Every version whose record can be read; the others are left alone, and `kt verify` reports them."""
    out = []
    for model in record.models(workspace):
        for version in record.versions(workspace, model):
            try:
                known = record.read(workspace, model, version)
            except KtError:
                continue
            path = record.weights(workspace.root, model, version)
            size = path.stat().st_size if path.is_file() and not path.is_symlink() else 0
            out.append(Stored(model, version, known.created_at, size))
    return out


def weigh(paths: Collection[Path]) -> int:
    """Bytes of files, and of what lies in folders."""
    total = 0
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            try:
                total += file.lstat().st_size if not file.is_dir() else 0
            except OSError:
                continue  # its command has just ended and removed it
    return total

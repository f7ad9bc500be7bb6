"""kt push: what is here, for other machines. Weights first and git second, so that whoever has a manifest
can have what it names.

The store gets the weights that it lacks, by digest; then the branch moves, if it comes after what is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kt import change, git, upstream
from kt.deployments import manifest, need
from kt.deployments.blobs import SERVED, Blob, Tell, Watch, all_blobs
from kt.deployments.deploy import recover
from kt.deployments.history import State
from kt.deployments.need import Key
from kt.deployments.sides import ahead, moving, settle, standing
from kt.errors import Refused
from kt.registry import remote
from kt.registry.remote import Store
from kt.workspace import Workspace


@dataclass(frozen=True)
class Pushed:
    """sent: what the store lacked. absent: versions whose weights are neither here nor there."""

    sent: Sequence[Blob]
    absent: Sequence[Key]
    branch: str  # remote/branch, empty with git off
    commit: str  # that the branch is at now
    moved: bool  # the branch has moved
    notes: Sequence[str] = field(default_factory=tuple)


def push(workspace: Workspace, name: str, *, dry_run: bool, tell: Tell, watch: Watch) -> Pushed:
    """Give other machines what is here. Raises Refused where they have deployed meanwhile."""
    store = remote.open_store(workspace)
    with change.locked(workspace, "push") as lock:
        _, state = recover(lock)
        notes = tuple(lock.notes)
    to, here = None, ""
    if workspace.settings.git == "on":
        to = upstream.named(workspace.root, name or workspace.settings.remote.git)
        here = standing(workspace)
        there = upstream.tip(workspace.root, to)
        if there:
            upstream.fetch(workspace.root, to, there)
        if not git.descends(workspace.root, here, there):
            raise ahead(workspace, to, here, there)
        if was := upstream.taken_back(workspace.root, to, there):
            said = f"{to} had been taken back from {was[:7]} to {there[:7]}"
            notes = (*notes, f"{said}: it is given again what it lost")
    sent, absent = send(workspace, store, state, dry_run=dry_run, tell=tell, watch=watch)
    if to is None:
        return Pushed(sent, absent, "", "", False, notes)
    moved = there != here
    if moved and not dry_run:
        with moving(workspace, to):
            upstream.push(workspace.root, to, here, there)
        tell("pushed", f"{to} {here[:7]}")
    elif not dry_run:
        settle(workspace, to)
    return Pushed(sent, absent, str(to), here, moved, notes)


def send(
    workspace: Workspace, store: Store, state: State, *, dry_run: bool, tell: Tell, watch: Watch
) -> tuple[list[Blob], list[Key]]:
    """Upload what the store lacks, what is served first. A file of another size there is replaced."""
    held = store.held()
    due = need.named(manifest.manifest(state))
    sent, absent = [], []
    for one in sorted(all_blobs(workspace), key=lambda one: one.key not in due):
        if held.get(one.sha256) == one.size:
            continue
        path = one.path(workspace)
        if path.is_file():
            if not dry_run:
                store.put(path, one.sha256, watch(one.name, one.size))
                tell("sent", f"{one.name}  {one.size:,} bytes")
            held[one.sha256] = one.size
            sent.append(one)
        elif not one.is_weights:
            continue  # torch serves the version without
        elif due.get(one.key) in SERVED:
            raise Refused(
                f"{one.name} is served, and its weights are neither here nor in the store",
                do=f"push from the machine that has them, or register the file again: kt register FILE --model {one.key[0]}",
            )
        else:
            absent.append(one.key)
    return sent, absent

"""deploy, ramp, promote, end, rollback: read, plan, write once.

Each verb holds the lock, finishes what a killed command left, folds the history afresh, plans (pure),
and applies one change: history.json, whose rename makes it a fact, then active.json, then one commit.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kt import change, files, git, journal
from kt.change import Adopt, Change, Lock, Write
from kt.deployments import audit, events, manifest, need, plan
from kt.deployments.events import HISTORY, AnyEvent
from kt.deployments.history import State, fold
from kt.deployments.manifest import MANIFEST, Manifest
from kt.deployments.plan import Candidate, Stamp
from kt.errors import Refused
from kt.registry import absence, record
from kt.registry.register import Prepared
from kt.workspace import Workspace

Planner = Callable[[State], list[AnyEvent]]


@dataclass(frozen=True)
class Done:
    """What a command did, or with --dry-run would do.

    event: as appended, None where there was nothing to do. before, after: the manifests around it.
    record: the event's digest. commit: git's, empty where it is pending or git is off.
    """

    event: dict[str, Any] | None
    before: Manifest
    after: Manifest
    record: str = ""
    commit: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    warnings: Sequence[str] = field(default_factory=tuple)


def deploy(
    workspace: Workspace,
    candidate: Candidate | Prepared,
    stamp: Stamp,
    *,
    traffic: float | None,
    experiment: str,
    dry_run: bool,
) -> Done:
    """Give a version traffic: all of it, or a share in an experiment.

    A Prepared version that is new becomes part of the registry in the same change.
    """
    prepared = candidate if isinstance(candidate, Prepared) else None

    def planned(state: State, version: Candidate) -> list[AnyEvent]:
        if traffic is None:
            return plan.deploy(state, version, stamp)
        return plan.experiment(state, version, experiment or version.version, traffic, stamp)

    if prepared is None:
        assert isinstance(candidate, Candidate)
        return act(workspace, "deploy", lambda state: planned(state, candidate), dry_run=dry_run)

    def with_version(state: State) -> list[AnyEvent]:
        active = state.serving(prepared.model).active
        if (active.version if active else None) != prepared.parent:
            raise Refused(
                "the active version changed while the gates ran", do="run the same command again"
            )
        version = prepared.version(workspace)
        return planned(state, Candidate(prepared.model, version, prepared.sha256, prepared.forced))

    return act(workspace, "deploy", with_version, prepared=prepared, dry_run=dry_run)


def ramp(
    workspace: Workspace, name: str, traffic: float, stamp: Stamp, *, dry_run: bool = False
) -> Done:
    return act(
        workspace, "ramp", lambda state: plan.ramp(state, name, traffic, stamp), dry_run=dry_run
    )


def promote(
    workspace: Workspace,
    name: str,
    stamp: Stamp,
    *,
    evidence: dict[str, Any] | None,
    force: bool,
    dry_run: bool = False,
) -> Done:
    return act(
        workspace,
        "promote",
        lambda state: plan.promote(state, name, stamp, evidence=evidence, force=force),
        dry_run=dry_run,
    )


def end(workspace: Workspace, name: str, stamp: Stamp, *, dry_run: bool = False) -> Done:
    return act(workspace, "end", lambda state: plan.end(state, name, stamp), dry_run=dry_run)


def roll_back(
    workspace: Workspace,
    choose: Callable[[State], str],
    stamp: Stamp,
    *,
    version: str = "",
    bad: bool = False,
    dry_run: bool = False,
) -> Done:
    """choose: the model, out of those that are deployed."""
    return act(
        workspace,
        "rollback",
        lambda state: plan.roll_back(state, choose(state), stamp, version=version, bad=bad),
        dry_run=dry_run,
    )


def act(
    workspace: Workspace,
    verb: str,
    planner: Planner,
    *,
    prepared: Prepared | None = None,
    dry_run: bool,
) -> Done:
    """One command: lock, recover, fold, plan, apply. --dry-run holds no lock and writes nothing."""
    if dry_run:
        refuse_taken_back(workspace)
        book, state = audit.read(workspace)
        return decide(workspace, book, state, planner, prepared)[0]
    with change.locked(workspace, verb) as lock:
        book, state = recover(lock)
        done, what = decide(workspace, book, state, planner, prepared)
        if what is None:
            return Done(done.event, done.before, done.after, notes=lock.notes)
        committed = change.apply(what, lock)
        if prepared is not None and prepared.existing:
            absence.clear(workspace, prepared.model, prepared.existing)  # its weights are here
        keep(workspace)
        return Done(
            done.event,
            done.before,
            done.after,
            done.record,
            committed.commit,
            lock.notes,
            pending(committed),
        )


def decide(
    workspace: Workspace,
    book: journal.Journal,
    state: State,
    planner: Planner,
    prepared: Prepared | None,
) -> tuple[Done, Change | None]:
    """What would be done, and the change that does it; no change where there is nothing to do."""
    planned = planner(state)
    before = manifest.manifest(state)
    new = [] if prepared is None else prepared.adopt(workspace)
    if not planned and not new:
        return Done(None, before, before), None
    after = book.append([events.body(event) for event in planned])
    then = manifest.manifest(with_head(fold(planned, state), after.head))
    if prepared is None:
        refuse_absent(workspace, before, then)
    written: list[Write | Adopt] = [*new]
    if planned:
        written += [Write(HISTORY, after.text), Write(MANIFEST, manifest.dump(then))]
    event = after.events[-1] if planned else None
    message = (
        f"{event['model']}: {events.describe(event)}" if event else f"register {written[0].path}"
    )
    done = Done(event, before, then, after.head if planned else "")
    return done, Change(message, written)


def refuse_absent(workspace: Workspace, before: Manifest, after: Manifest) -> None:
    """No traffic for a version whose weights are not on this machine."""
    for model, version in need.named(after).keys() - need.named(before).keys():
        if record.weights(workspace.root, model, version).exists():
            continue
        away = absence.of(workspace, model, version)
        raise Refused(
            f"the weights of {model}@{version} are not here: {away.sentence if away else 'they are missing'}",
            do=f"get them: kt pull {model}@{version}, or register the same file again: kt register FILE",
        )


def with_head(state: State, head: str) -> State:
    return State(state.seq, head, state.models)


def register(workspace: Workspace, prepared: Prepared, *, dry_run: bool) -> Done:
    """A version without traffic: known, gated, not served."""
    return act(workspace, "register", lambda state: [], prepared=prepared, dry_run=dry_run)


def recover(lock: Lock) -> tuple[journal.Journal, State]:
    """Finish what a killed command left: the manifest that its event asks for, and its commit."""
    workspace = lock.workspace
    refuse_taken_back(workspace)
    book, state = audit.read(workspace)
    if audit.verify_manifest(workspace, state):
        files.write_whole(workspace.root / MANIFEST, manifest.dump(manifest.manifest(state)))
        lock.notes.append(
            f"recovered event {state.seq}: wrote the manifest that an interrupted command had left"
        )
    keep(workspace)
    change.catch_up(lock)
    return book, state


def refuse_taken_back(workspace: Workspace) -> None:
    """Nothing is built on a history that git or a hand took back: its numbers would be used twice."""
    change.must_be_workspace(workspace.root)
    for finding in audit.taken_back(workspace):
        raise Refused(f"{finding.where} {finding.what}", do=finding.do)


def keep(workspace: Workspace) -> None:
    """Remember the history as written: a link, so that replacing the file leaves the kept one alone."""
    path, kept = workspace.root / HISTORY, workspace.local / audit.KEPT
    if not path.exists() or (kept.exists() and kept.samefile(path)):
        return
    aside = workspace.local / f"{files.ASIDE}{audit.KEPT}"
    try:
        files.discard(aside)
        os.link(path, aside)
        aside.replace(kept)
    except OSError:  # a file system without links: a copy does
        files.write_whole(kept, path.read_bytes())


def pending(committed: git.Committed) -> list[str]:
    if not committed.problem:
        return []
    return [
        f"done, but not committed to git: {committed.problem}; the next kt command will commit it"
    ]


def fix(workspace: Workspace) -> list[str]:
    """Mend what can be mended without losing anything: the history taken back, the manifest, the commit."""
    with change.locked(workspace, "verify") as lock:
        if audit.restore(workspace):
            lock.notes.append(f"took back {HISTORY} as this machine had written it")
        recover(lock)
        return list(lock.notes)


def version_of(workspace: Workspace, model: str, version: str) -> Candidate:
    """A registered version as a candidate."""
    return Candidate(model, version, record.read(workspace, model, version).sha256)

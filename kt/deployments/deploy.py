"""deploy, ramp, promote, end, rollback: read, plan, write once.

Each verb holds the lock, finishes what a killed command left, folds the history afresh, plans (pure),
and applies one change: history.json, whose rename makes it a fact, then active.json, then one commit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kt import change, files, git, journal, reserve
from kt.change import Adopt, Change, Lock, Write
from kt.deployments import audit, events, manifest, plan
from kt.deployments.events import HISTORY, AnyEvent, Canary
from kt.deployments.history import State, fold
from kt.deployments.manifest import MANIFEST, Manifest, Version
from kt.deployments.plan import Candidate, Stamp
from kt.errors import KtError, Refused
from kt.registry import absence, load, record, signing, trusted
from kt.registry.register import Prepared
from kt.workspace import Workspace

Planner = Callable[[State, Prepared | None], list[AnyEvent]]


@dataclass(frozen=True)
class Done:
    """What a command did, or with --dry-run would do.

    event: as appended, None where there was nothing to do. before, after: the manifests around it.
    version: the name of a file's version.
    record: the event's digest. commit: git's, empty where it is pending or git is off.
    """

    event: dict[str, Any] | None
    before: Manifest
    after: Manifest
    record: str = ""
    version: str = ""
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
    canary: Canary | None = None,
    shadow: bool = False,
    dry_run: bool,
) -> Done:
    """Give a version traffic: all of it, a share in an experiment, or the shares of a canary's plan;
    or as a shadow a copy of the requests.

    A Prepared version that is new becomes part of the registry in the same change.
    """

    def planned(state: State, ready: Prepared | None) -> list[AnyEvent]:
        version = candidate if ready is None else named(workspace, state, ready)
        assert isinstance(version, Candidate)
        if version.trusted:
            trusted.refuse_forbidden(
                workspace, f"{version.model}@{version.version} was made by running code"
            )
        name = experiment or version.version
        if shadow:
            return plan.shadow(state, version, name, stamp)
        if canary is not None:
            return plan.canary(state, version, name, canary, stamp)
        if traffic is None:
            return plan.deploy(state, version, stamp)
        return plan.experiment(state, version, name, traffic, stamp)

    prepared = candidate if isinstance(candidate, Prepared) else None
    return act(workspace, "deploy", planned, prepared=prepared, dry_run=dry_run)


def named(workspace: Workspace, state: State, ready: Prepared) -> Candidate:
    """A prepared version as a candidate. Refused where its gates compared with what is no longer active."""
    active = state.serving(ready.model).active
    if not ready.existing and (active.version if active else None) != ready.parent:
        raise Refused(
            "the active version changed while the gates ran", do="run the same command again"
        )
    version = ready.version(workspace)
    return Candidate(ready.model, version, ready.sha256, ready.forced, ready.draft.trusted)


def step(
    workspace: Workspace, name: str, stamp: Stamp, *, early: bool, dry_run: bool = False
) -> Done:
    """The next step of a canary, if it is due."""
    return act(
        workspace,
        "canary step",
        lambda state, _: plan.step(state, name, stamp, early=early),
        lambda event: (
            event["kind"] in ("traffic_changed", "promoted") and event["experiment"] == name
        ),
        dry_run=dry_run,
    )


def undo(workspace: Workspace, done: Done, stamp: Stamp) -> Done:
    """Take a change of traffic back that no predictor could follow. Raises Refused if more has happened."""
    assert done.event is not None
    event, model = done.event, str(done.event["model"])

    def planned(state: State, _: Prepared | None) -> list[AnyEvent]:
        if state.head != done.record:
            raise Refused("something else was deployed meanwhile", do="look: kt status")
        if event["kind"] == "traffic_changed":
            trial = done.before.models[model].experiment
            assert trial is not None
            share = trial.treatments[0].traffic
            return plan.ramp(state, trial.name, share, stamp, shadow=trial.shadow)
        return plan.roll_back(state, model, stamp)

    return act(workspace, "deploy", planned, dry_run=False)


def ramp(
    workspace: Workspace, name: str, traffic: float, stamp: Stamp, *, dry_run: bool = False
) -> Done:
    return act(
        workspace, "ramp", lambda state, _: plan.ramp(state, name, traffic, stamp), dry_run=dry_run
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
        lambda state, _: plan.promote(state, name, stamp, evidence=evidence, force=force),
        dry_run=dry_run,
    )


def end(workspace: Workspace, name: str, stamp: Stamp, *, dry_run: bool = False) -> Done:
    return act(
        workspace,
        "end",
        lambda state, _: plan.end(state, name, stamp),
        dry_run=dry_run,
    )


def abort(
    workspace: Workspace,
    name: str,
    phase: int,
    why: str,
    stamp: Stamp,
    evidence: dict[str, Any],
    *,
    dry_run: bool = False,
) -> Done:
    """End an experiment because a guardrail broke in this phase of it, if it is still in it."""
    return act(
        workspace,
        "abort",
        lambda state, _: plan.abort(state, name, phase, why, stamp, evidence),
        dry_run=dry_run,
    )


def reweight(workspace: Workspace, name: str, phase: int, traffic: float, stamp: Stamp) -> Done:
    """Another share for an experiment, if it is still in this phase."""
    return act(
        workspace,
        "reweight",
        lambda state, _: plan.reweight(state, name, phase, traffic, stamp),
        dry_run=False,
    )


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
        lambda state, _: plan.roll_back(state, choose(state), stamp, version=version, bad=bad),
        lambda event: event["kind"] == "rolled_back" and version in ("", event["version"]),
        dry_run=dry_run,
    )


def act(
    workspace: Workspace,
    verb: str,
    planner: Planner,
    same: Callable[[dict[str, Any]], bool] = lambda _: False,
    *,
    prepared: Prepared | None = None,
    dry_run: bool,
) -> Done:
    """One command: lock, recover, fold, plan, apply. --dry-run holds no lock and writes nothing.

    same: whether an event is this command's, of one that does more each time. Typed again after a kill
    it finishes what it had begun: a second rollback would go back further.
    """
    if dry_run:
        change.refuse_if_busy(workspace)
        refuse_taken_back(workspace)
        book, state = audit.read(workspace)
        return decide(workspace, book, state, planner, prepared)[0]
    with change.locked(workspace, verb) as lock:
        book, state = recover(lock)
        if lock.interrupted and lock.interrupted == book.head and same(book.events[-1]):
            return finished(lock, book, state)
        if prepared is not None:
            prepared = prepared.settled(workspace)
        done, what = decide(workspace, book, state, planner, prepared)
        if what is None:
            return replace(done, notes=lock.notes)

        def after() -> None:
            if prepared is not None and prepared.existing:
                absence.clear(workspace, prepared.model, prepared.existing)  # its weights are here
            keep(workspace)

        committed = change.apply(what, lock, after)
        return replace(done, commit=committed.commit, notes=lock.notes, warnings=pending(committed))


def finished(lock: Lock, book: journal.Journal, state: State) -> Done:
    """The last event, whose command was killed before it could tell of it."""
    before = manifest.manifest(audit.fold(book.head_to(book.seq - 1)))
    notes = [*lock.notes, "this is the command that was interrupted; it is finished"]
    return Done(book.events[-1], before, manifest.manifest(state), book.head, notes=notes)


def decide(
    workspace: Workspace,
    book: journal.Journal,
    state: State,
    planner: Planner,
    prepared: Prepared | None,
) -> tuple[Done, Change | None]:
    """What would be done, and the change that does it; no change where there is nothing to do."""
    planned = planner(state, prepared)
    before = manifest.manifest(state)
    new = [] if prepared is None else prepared.adopt(workspace)
    version = "" if prepared is None else prepared.version(workspace)
    if not planned and not new:
        return Done(None, before, before, version=version), None
    if not planned:
        assert prepared is not None
        return Done(None, before, before, version=version), Change(
            f"{prepared.model}: register {version}", new
        )
    after = book.append([events.body(event) for event in planned])
    then = manifest.manifest(replace(fold(planned, state), head=after.head))
    if not new:
        refuse_unsound(workspace, before, then)
    if workspace.settings.signing.require_signature:
        refuse_unsigned(workspace, before, then, prepared)
    event = after.events[-1]
    message = f"{event['model']}: {events.describe(event)}"
    written: list[Write | Adopt] = [
        *new,
        Write(HISTORY, after.text),
        Write(MANIFEST, manifest.dump(then)),
    ]
    done = Done(event, before, then, after.head, version)
    return done, Change(message, written, fact=after.head)


def refuse_unsound(workspace: Workspace, before: Manifest, after: Manifest) -> None:
    """No traffic for a version whose weights are not on this machine, or not what they were."""
    for model, route in after.models.items():
        served = route.active, *(route.experiment.treatments if route.experiment else ())
        was = before.models.get(model)
        already = {was.active.version} if was else set()
        if was and was.experiment and route.experiment:
            already |= {treatment.version for treatment in was.experiment.treatments}
        for one in served:
            if one.version not in already:
                sound(workspace, model, one.version, one.sha256)


def refuse_unsigned(
    workspace: Workspace, before: Manifest, after: Manifest, prepared: Prepared | None
) -> None:
    """No traffic for a version for whom nobody has signed who may. Raises Refused."""
    settings = workspace.settings.signing
    for model, one in taking_over(before, after):
        new = prepared is not None and not prepared.existing and prepared.model == model
        staged = prepared.staged if prepared is not None and new else None
        try:
            signing.check(workspace, settings, model, one.version, one.sha256, staged)
        except Refused as error:
            raise Refused(
                f"{error.what}, and kt.toml says require_signature",
                do=SIGN_FIRST if new else error.do,
            ) from error


SIGN_FIRST = "name a key in kt.toml, [signing] key, or sign it first: kt register FILE, kt sign MODEL@VERSION"


def taking_over(before: Manifest, after: Manifest) -> Iterator[tuple[str, Version]]:
    """The versions that become active, or a treatment, by model."""
    for model, route in after.models.items():
        was, trial = before.models.get(model), route.experiment
        if was is None or was.active != route.active:
            yield model, route.active
        old = was.experiment if was else None
        if trial is not None and (old is None or old.name != trial.name):
            for treatment in trial.treatments:
                yield model, treatment


def sign(
    workspace: Workspace, model: str, version: str, key: Path, *, dry_run: bool = False
) -> git.Committed | None:
    """Sign a version's record with an ssh key. None where it has this very signature already."""
    record.read(workspace, model, version)
    path = f"{record.FOLDER}/{model}/{version}/{record.SIGNATURE}"
    there = workspace.root / path
    signature = signing.sign((there.parent / record.RECORD).read_bytes(), key)
    if there.is_file() and there.read_bytes() == signature:
        return None
    if dry_run:
        return git.Committed()
    with change.locked(workspace, "sign") as lock:
        recover(lock)
        return change.apply(Change(f"{model}: sign {version}", [Write(path, signature)]), lock)


def sound(workspace: Workspace, model: str, version: str, sha256: str) -> None:
    """Raises Refused where weights are away, Corrupt where their digest is not what was deployed."""
    path = record.weights(workspace.root, model, version)
    if not path.exists():
        away = absence.of(workspace, model, version)
        raise Refused(
            f"the weights of {model}@{version} are not here: {away.sentence if away else 'they are missing'}",
            do=f"get them: kt pull {model}@{version}, or register the same file again: kt register FILE",
        )
    load.check(path, sha256)


def register(workspace: Workspace, prepared: Prepared, *, dry_run: bool) -> Done:
    """A version without traffic: known, gated, not served."""
    return act(workspace, "register", lambda state, _: [], prepared=prepared, dry_run=dry_run)


def recover(lock: Lock) -> tuple[journal.Journal, State]:
    """Finish what a killed command left: the manifest that its event asks for, and its commit."""
    workspace = lock.workspace
    refuse_taken_back(workspace)
    book, state = audit.read(workspace)
    if audit.verify_manifest(workspace, state):
        due = manifest.dump(manifest.manifest(state))
        reserve.spend(workspace.local, lambda: files.write_whole(workspace.root / MANIFEST, due))
        lock.notes.append(
            f"recovered event {state.seq}: wrote the manifest that an interrupted command had left"
        )
    if audit.pulled(workspace):
        with suppress(KtError, OSError):  # of no use, or not there
            audit.let_go(workspace, journal.read(workspace.local / audit.KEPT), book)
    keep(workspace)
    change.catch_up(lock)
    return book, state


def refuse_taken_back(workspace: Workspace) -> None:
    """Nothing is built on a history that git or a hand took back: its numbers would be used twice."""
    change.must_be_workspace(workspace.root)
    audit.refuse_taken_back(workspace)


def keep(workspace: Workspace) -> None:
    """Remember the history as written, in a file of its own: an edit in place changes one of the two.

    A witness, not a promise: not synced, and where it cannot be written the older one goes on.
    """
    path, kept = workspace.root / HISTORY, workspace.local / audit.KEPT
    aside = workspace.local / f"{files.ASIDE}{audit.KEPT}"
    try:
        text = path.read_bytes()
        if not kept.exists() or kept.read_bytes() != text:
            aside.write_bytes(text)
            aside.replace(kept)
    except OSError:
        files.discard(aside)


def pending(committed: git.Committed) -> list[str]:
    if not committed.problem:
        return []
    return [
        f"done, but not committed to git: {committed.problem}; the next kt command will commit it"
    ]


def accept(workspace: Workspace) -> list[str]:
    """What the history on disk says stands, though this machine wrote another: a person has decided so."""
    with change.locked(workspace, "verify") as lock:
        audit.forget(workspace)
        recover(lock)
        return [*lock.notes, f"{HISTORY} stands as it is on disk"]


def fix(workspace: Workspace) -> list[str]:
    """Mend what can be mended without losing anything: the history taken back, the manifest, the commit."""
    with change.locked(workspace, "verify") as lock:
        if audit.restore(workspace):
            lock.notes.append(f"took back {HISTORY} as this machine had written it")
        recover(lock)
        return list(lock.notes)


def version_of(workspace: Workspace, model: str, version: str) -> Candidate:
    """A registered version as a candidate."""
    known = record.read(workspace, model, version)
    forced = any(not verdict.passed for verdict in known.gates)
    return Candidate(model, version, known.sha256, forced, known.trusted)

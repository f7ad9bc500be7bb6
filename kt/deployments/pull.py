"""kt pull: what other machines have pushed. Weights first and git second, so that whoever has a manifest has
what it names.

    fetch; read their history and records as data and check them (theirs.py); fetch the weights that their
    manifest names; then write records, history and manifest as any change is written; then move the branch

Only a fast-forward is followed. Two machines that have both deployed, or a history that was rewritten,
are shown to a person: kt never merges histories. With --force theirs stands, in a commit that says who
decided so and why, and that has both behind it.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from kt import change, commits, files, git, staging, upstream
from kt.change import Adopt, Change, Lock
from kt.deployments import audit, gc, need
from kt.deployments.blobs import SERVED, Blob, Tell, Watch, blobs, lacking
from kt.deployments.deploy import keep as remember
from kt.deployments.deploy import recover, refuse_taken_back
from kt.deployments.history import State
from kt.deployments.need import Key, Stored
from kt.deployments.plan import Stamp
from kt.deployments.sides import MOVING, lacks, moving, parted, settle, shared
from kt.deployments.theirs import Theirs, read_theirs, signature_of
from kt.errors import KtError, Refused
from kt.journal import Journal
from kt.registry import absence, record, remote
from kt.registry.absence import Absence
from kt.registry.remote import Store
from kt.upstream import Upstream
from kt.workspace import Workspace

PUT_BY = "replaced"  # in .kt/: weights of versions that a forced pull made into others


@dataclass(frozen=True)
class Pulled:
    """got: weights that came. absent: wanted ones that the store lacks. events: those that are new here."""

    got: Sequence[Blob]
    absent: Sequence[Key]
    events: Sequence[Mapping[str, object]]
    commit: str  # that the branch is at now, empty with git off
    moved: bool
    notes: Sequence[str] = field(default_factory=tuple)
    problem: str = ""  # why git does not follow yet
    behind: str = ""  # how the remote stands that lacks what is here
    joined: bool = False  # by a commit of its own, which the remote lacks


def pull(
    workspace: Workspace,
    name: str,
    stamp: Stamp,
    *,
    keep: int,
    everything: bool,
    force: bool = False,
    dry_run: bool,
    tell: Tell,
    watch: Watch,
) -> Pulled:
    """Take over what other machines have pushed, and the weights that are needed here.

    keep: as in `need.py`. everything: the weights of all versions. Raises Refused where both sides
    have deployed, Corrupt where theirs does not hold together; nothing is changed then.
    force: their history stands also where it does not go on from the one here.
    """
    store = remote.open_store(workspace)
    change.refuse_if_busy(workspace)
    refuse_taken_back(workspace)
    book, state = audit.read(workspace)
    source, theirs, behind = look(workspace, name, book, stamp if force else None)
    known = {one.key: record.read(workspace, *one.key) for one in gc.stored(workspace)}
    if theirs is not None:
        known, state = {**known, **theirs.known}, theirs.state
    reasons = reasons_for(state, known, keep=keep, everything=everything)
    wanted, absent = choose(workspace, store, known, reasons, theirs.other if theirs else ())
    found = Pulled(
        wanted,
        absent,
        theirs.book.events[shared(book, theirs.book) :] if theirs else [],
        theirs.commit if theirs else git.head(workspace.root) if source else "",
        moved=theirs is not None,
        behind=behind,
    )
    if dry_run or not (wanted or theirs or unexplained(workspace, reasons) or left(workspace)):
        return found
    with remote.incoming(workspace) as folder:
        receive(store, folder, wanted, tell, watch)
        with change.locked(workspace, "pull") as lock:
            if recover(lock)[0].events != book.events:
                raise Refused("another command has deployed meanwhile", do="run this again")
            done = take(lock, folder, wanted, theirs, book, stamp)
            for key in unexplained(workspace, reasons):
                absence.mark(workspace, *key, Absence("not pulled", stamp.at, stamp.by))
            remember(workspace)
        for path in folder.iterdir():  # also what an earlier pull had fetched and not removed
            files.discard(path)
    if source and theirs and not done.problem:
        with suppress(KtError), moving(workspace, source):  # the pull is done
            upstream.track(workspace.root, source, theirs.tip)
    elif source:
        settle(workspace, source)
    joined = theirs is not None and theirs.commit != theirs.tip
    return replace(found, notes=tuple(lock.notes), problem=done.problem, joined=joined)


def reasons_for(
    state: State, known: Mapping[Key, record.VersionRecord], *, keep: int, everything: bool
) -> dict[Key, str]:
    """The versions whose weights are wanted here, and why."""
    stored = [Stored(*key, held.created_at) for key, held in known.items()]
    reasons = need.needed(state, stored, keep=keep)
    return {**dict.fromkeys(known, "asked for"), **reasons} if everything else dict(reasons)


def receive(store: Store, folder: Path, wanted: Sequence[Blob], tell: Tell, watch: Watch) -> None:
    """Fetch files into `folder`, each under its digest."""
    for one in wanted:
        store.fetch(one.sha256, one.size, folder / one.sha256, watch(one.name, one.size))
        tell("got", f"{one.name}  {one.size:,} bytes")


def fetch_one(workspace: Workspace, key: Key, *, watch: Watch) -> list[Blob]:
    """One version's files, as far as they are not here. Raises Invalid for an unknown version."""
    store = remote.open_store(workspace)
    known = record.read(workspace, *key)
    lack = [one for one in blobs(known) if not one.path(workspace).exists()]
    if not lack:
        return []
    held = store.held()
    wanted = [one for one in lack if one.sha256 in held]
    if lost := next((one for one in lack if one.is_weights and one not in wanted), None):
        raise lacking(lost, store)
    with remote.incoming(workspace) as folder:
        receive(store, folder, wanted, lambda *_: None, watch)
        with change.locked(workspace, "pull") as lock:
            recover(lock)
            put_in_place(lock, folder, wanted)
        for one in wanted:
            files.discard(folder / one.sha256)
    return wanted


def look(
    workspace: Workspace, name: str, book: Journal, forced: Stamp | None
) -> tuple[Upstream | None, Theirs | None, str]:
    """The remote's branch, and what is new there: None where it has nothing that is not here; and then
    what it lacks.

    forced: by whom and why theirs stands in place of what is here.
    """
    if workspace.settings.git == "off":
        return None, None, ""
    source = upstream.named(workspace.root, name or workspace.settings.remote.git)
    there, here = upstream.tip(workspace.root, source), git.head(workspace.root)
    if not there:
        raise Refused(f"there is no {source} yet", do="give it what is here: kt push")
    upstream.fetch(workspace.root, source, there)
    if git.descends(workspace.root, here, there):
        return source, None, lacks(workspace.root, source, here, there)
    if forced is None and not git.descends(workspace.root, there, here):
        raise parted(workspace, source, there, book)
    return source, read_theirs(workspace, there, book, forced), ""


def choose(
    workspace: Workspace,
    store: Store,
    known: Mapping[Key, record.VersionRecord],
    reasons: Mapping[Key, str],
    other: Collection[Key],
) -> tuple[list[Blob], list[Key]]:
    """What to fetch, what is served first; and the versions whose weights the store lacks. Raises
    Unavailable where it lacks what is served. other: versions whose files here are not theirs."""
    lack = [
        one
        for key in sorted(reasons, key=lambda key: reasons[key] not in SERVED)
        for one in (blobs(known[key]) if key in known else ())
        if key in other or not one.path(workspace).exists()
    ]
    if not lack:
        return [], []
    held = store.held()
    for one in lack:
        if one.sha256 not in held and one.is_weights and reasons[one.key] in SERVED:
            raise lacking(one, store)
    return (
        [one for one in lack if one.sha256 in held],
        [one.key for one in lack if one.sha256 not in held and one.is_weights],
    )


def take(
    lock: Lock,
    folder: Path,
    wanted: Sequence[Blob],
    theirs: Theirs | None,
    book: Journal,
    stamp: Stamp,
) -> git.Committed:
    """Write what came: versions, then history and manifest, then the branch."""
    if theirs is None:
        put_in_place(lock, folder, wanted)
        return git.Committed()
    workspace = lock.workspace
    if other := [
        path
        for path, how in commits.differing(workspace.root, theirs.commit).items()
        if how != "there"
    ]:
        raise Refused(
            f"a pull would overwrite what is changed here: {', '.join(other[:5])}",
            do="commit it or put it aside first: git status",
        )

    def after() -> None:
        remember(workspace)
        with suppress(KtError):  # a full disk: predictors stay with what they serve, and say so
            audit.let_go(workspace, book, theirs.book)

    with staging.staging(workspace) as staged:
        adopted = [
            adopt_version(staged, folder, key, theirs, wanted, stamp) for key in theirs.fresh
        ]
        for key in theirs.other:
            set_aside(workspace, key)
        said = f"pull {theirs.commit[:7]}: event {theirs.book.seq}"
        done = change.apply(Change(said, [*adopted, *theirs.files], theirs.commit), lock, after)
    for key in theirs.other:
        forget(workspace, key, theirs, stamp)
    put_in_place(lock, folder, [one for one in wanted if one.key not in theirs.fresh])
    return done


def set_aside(workspace: Workspace, key: Key) -> None:
    """The weights of a version that becomes another one stay on this machine, under their digest."""
    path = record.weights(workspace.root, *key)
    kept = workspace.local / PUT_BY / record.read(workspace, *key).sha256
    if path.exists() and not kept.exists():
        with files.named("write", kept):
            kept.parent.mkdir(exist_ok=True)
        link(path, kept)


def forget(workspace: Workspace, key: Key, theirs: Theirs, stamp: Stamp) -> None:
    """Remove the files of the version that has become another one."""
    files.discard(record.weights(workspace.root, *key))
    record.discard_exports(workspace.root, *key)
    absence.mark(workspace, *key, Absence("not pulled", stamp.at, stamp.by))
    if key not in theirs.signatures:
        files.discard(workspace.root / signature_of(key))


def adopt_version(
    staged: Path, folder: Path, key: Key, theirs: Theirs, wanted: Collection[Blob], stamp: Stamp
) -> Adopt:
    """A new version's folder, whole: its record, and its weights or the mark that they are away."""
    place = staged / "@".join(key)
    place.mkdir()
    written = {record.RECORD: theirs.fresh[key]}
    if key in theirs.signatures:
        written[record.SIGNATURE] = theirs.signatures[key]
    with files.unseen():
        for name, text in written.items():
            files.write_whole(place / name, text)
        came = [one for one in wanted if one.key == key]
        for one in came:
            link(folder / one.sha256, place / one.file)
        if not any(one.is_weights for one in came):
            mark = absence.dump(Absence("not pulled", stamp.at, stamp.by))
            files.write_whole(place / absence.MARK, mark)
    path = "/".join((record.FOLDER, *key))
    return Adopt(place, path, tuple(f"{path}/{name}" for name in written))


def put_in_place(lock: Lock, folder: Path, wanted: Sequence[Blob]) -> None:
    """Files of versions whose records are here."""
    for one in wanted:
        # where left-overs are swept
        aside = lock.workspace.local / f"{files.ASIDE}{one.file}"
        files.discard(aside)
        link(folder / one.sha256, aside)
        files.publish(aside, one.path(lock.workspace))
        if one.is_weights:
            absence.clear(lock.workspace, *one.key)


def link(source: Path, to: Path) -> None:
    """The same bytes under a second name: two versions may have the same weights."""
    with files.named("write", to):
        try:
            os.link(source, to)
        except OSError:  # a file system without links
            import shutil

            shutil.copyfile(source, to)
            with to.open("rb") as file:
                os.fsync(file.fileno())


def unexplained(workspace: Workspace, reasons: Collection[Key]) -> list[Key]:
    """Versions whose weights nothing needs and nobody has: they are away on purpose, and do not say so yet."""
    return [
        one.key
        for one in gc.stored(workspace)
        if not one.size and one.key not in reasons and absence.of(workspace, *one.key) is None
    ]


def left(workspace: Workspace) -> bool:
    """Whether a killed command left something to finish or to sweep."""
    note = workspace.local / MOVING
    return bool(change.pending(workspace) or gc.leftovers(workspace) or note.exists())

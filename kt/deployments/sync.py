"""kt push and kt pull: what machines share. Weights first and git second, so that whoever has a manifest
can have what it names.

    push   weights that the store lacks, by digest; then the branch, if it comes after what is there
    pull   fetch; read their history and records as data and check them; fetch the weights that their
           manifest names; then write records, history and manifest as any change is written; then
           move the branch

Only a fast-forward is followed. Two machines that have both deployed, or a history that was rewritten,
are shown to a person: kt never merges histories. With --force theirs stands, in a commit that says who
decided so and why, and that has both behind it. What comes from a remote is believed when it holds
together: their history is a chain that goes on where ours ends, their manifest is what it says,
versions that are here have not changed, and nothing in kt's folders is a link or has a name that kt
would not give.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kt import change, config, files, git, journal
from kt.change import Adopt, Change, Lock, Write
from kt.deployments import audit, gc, manifest, need
from kt.deployments.deploy import keep as remember
from kt.deployments.deploy import recover, refuse_taken_back
from kt.deployments.events import HISTORY, describe
from kt.deployments.history import State
from kt.deployments.manifest import MANIFEST
from kt.deployments.need import Key, Stored
from kt.deployments.plan import Stamp
from kt.errors import Corrupt, KtError, Refused, Unavailable
from kt.git import Entry, Upstream
from kt.journal import Journal
from kt.registry import absence, record, remote
from kt.registry.absence import Absence
from kt.registry.remote import Store
from kt.workspace import ROOMS, Workspace

SERVED = ("active", "experiment", "served")  # the reasons that a predictor cannot do without
MOVING = "moving"  # in .kt/
PUT_BY = "replaced"  # in .kt/: weights of versions that a forced pull made into others
LARGEST = 100 << 20  # bytes of a file of kt's that comes from a remote
Tell = Callable[[str, str], None]  # a step and what came of it
Watch = Callable[[str, int], remote.Moved]  # what moves and its bytes -> told of each part


@dataclass(frozen=True)
class Blob:
    """A file of a version that is not in git, wherever it is: its weights, or what kt made of them."""

    key: Key
    file: str  # in the version's folder
    sha256: str
    size: int  # bytes

    @property
    def name(self) -> str:
        return "@".join(self.key) + ("" if self.is_weights else f" {self.file}")

    @property
    def is_weights(self) -> bool:
        """What a version cannot do without."""
        return self.file == record.WEIGHTS

    def path(self, workspace: Workspace) -> Path:
        return record.folder(workspace, *self.key) / self.file


def blobs(known: record.VersionRecord) -> Iterator[Blob]:
    key = known.model, known.version
    yield Blob(key, record.WEIGHTS, known.sha256, known.size)
    for file, made in known.exports.items():
        yield Blob(key, file, made.sha256, made.size)


@dataclass(frozen=True)
class Pushed:
    """sent: what the store lacked. absent: versions whose weights are neither here nor there."""

    sent: Sequence[Blob]
    absent: Sequence[Key]
    branch: str  # remote/branch, empty with git off
    commit: str  # that the branch is at now
    moved: bool  # the branch has moved
    notes: Sequence[str] = field(default_factory=tuple)


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


@dataclass(frozen=True)
class Theirs:
    """A fetched commit, checked. fresh: the records that are not here, signatures: theirs, of those that
    are signed; files: what kt writes, in order.

    tip: of their branch. commit: what the one here moves to, which is the tip unless forced.
    other: versions that are something else here, and are replaced.
    """

    tip: str
    commit: str
    book: Journal
    state: State
    known: Mapping[Key, record.VersionRecord]
    fresh: Mapping[Key, bytes]
    signatures: Mapping[Key, bytes]
    other: Collection[Key]
    files: Sequence[Write]


def push(workspace: Workspace, name: str, *, dry_run: bool, tell: Tell, watch: Watch) -> Pushed:
    """Give other machines what is here. Raises Refused where they have deployed meanwhile."""
    store = remote.open_store(workspace)
    with change.locked(workspace, "push") as lock:
        _, state = recover(lock)
        notes = tuple(lock.notes)
    to, here = None, ""
    if workspace.settings.git == "on":
        to = git.upstream(workspace.root, name or workspace.settings.remote.git)
        here = standing(workspace)
        there = git.tip(workspace.root, to)
        if there:
            git.fetch(workspace.root, to, there)
        if not git.descends(workspace.root, here, there):
            raise ahead(workspace, to, here, there)
        if was := git.taken_back(workspace.root, to, there):
            said = f"{to} had been taken back from {was[:7]} to {there[:7]}"
            notes = (*notes, f"{said}: it is given again what it lost")
    sent, absent = send(workspace, store, state, dry_run=dry_run, tell=tell, watch=watch)
    if to is None:
        return Pushed(sent, absent, "", "", False, notes)
    moved = there != here
    if moved and not dry_run:
        with moving(workspace, to):
            git.push(workspace.root, to, here, there)
        tell("pushed", f"{to} {here[:7]}")
    elif not dry_run:
        settle(workspace, to)
    return Pushed(sent, absent, str(to), here, moved, notes)


@contextmanager
def moving(workspace: Workspace, of: Upstream) -> Iterator[None]:
    """A note that git is about to move refs which no change notes: the next push or pull, after a
    kill, clears the locks that it left."""
    settle(workspace, of)
    with files.unseen():
        files.write_whole(workspace.local / MOVING, f"{of}\n".encode())
    yield
    files.discard(workspace.local / MOVING)


def settle(workspace: Workspace, of: Upstream) -> None:
    note = workspace.local / MOVING
    if note.exists():
        since = note.stat().st_mtime
        git.clear_own_locks(workspace.root, since)
        git.clear_locks_there(workspace.root, of, since)
        files.discard(note)


def standing(workspace: Workspace) -> str:
    """The commit that holds the history as it stands on disk. Raises Unavailable where none does."""
    text = git.committed(workspace.root, HISTORY)
    path = workspace.root / HISTORY
    if (text or b"") != (path.read_bytes() if path.exists() else b"") or change.pending(workspace):
        raise Unavailable(
            "the last change is not committed to git yet",
            do="see why: kt doctor; then run this again",
        )
    return git.head(workspace.root)


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


def all_blobs(workspace: Workspace) -> Iterator[Blob]:
    for one in gc.stored(workspace):
        yield from blobs(record.read(workspace, *one.key))


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
    reasons = need.needed(
        state, [Stored(*key, held.created_at) for key, held in known.items()], keep=keep
    )
    if everything:
        reasons = {**dict.fromkeys(known, "asked for"), **reasons}
    wanted, absent = choose(workspace, store, known, reasons, theirs.other if theirs else ())
    events = theirs.book.events[shared(book, theirs.book) :] if theirs else []
    here = theirs.commit if theirs else git.head(workspace.root) if source else ""
    if dry_run:
        return Pulled(wanted, absent, events, here, theirs is not None, behind=behind)
    if not (wanted or theirs or unexplained(workspace, reasons) or left(workspace)):
        return Pulled((), absent, (), here, False, behind=behind)
    with remote.incoming(workspace) as folder:
        for one in wanted:
            store.fetch(one.sha256, one.size, folder / one.sha256, watch(one.name, one.size))
            tell("got", f"{one.name}  {one.size:,} bytes")
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
            git.track(workspace.root, source, theirs.tip)
    elif source:
        settle(workspace, source)
    return Pulled(
        wanted,
        absent,
        events,
        here,
        theirs is not None,
        tuple(lock.notes),
        done.problem,
        behind,
        joined=theirs is not None and theirs.commit != theirs.tip,
    )


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
        raise lacking(lost)
    with remote.incoming(workspace) as folder:
        for one in wanted:
            store.fetch(one.sha256, one.size, folder / one.sha256, watch(one.name, one.size))
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
    source = git.upstream(workspace.root, name or workspace.settings.remote.git)
    there, here = git.tip(workspace.root, source), git.head(workspace.root)
    if not there:
        raise Refused(f"there is no {source} yet", do="give it what is here: kt push")
    git.fetch(workspace.root, source, there)
    if git.descends(workspace.root, here, there):
        return source, None, lacks(workspace.root, source, here, there)
    if forced is None and not git.descends(workspace.root, there, here):
        raise parted(workspace, source, there, book)
    return source, read_theirs(workspace, there, book, forced), ""


def read_theirs(
    workspace: Workspace, commit: str, book: Journal, forced: Stamp | None = None
) -> Theirs:
    """A fetched commit as data, checked against itself and against what is here."""
    root = workspace.root
    found = git.tree(root, commit, *ROOMS, "kt.toml", ".kt")
    for path, entry in found.items():
        refuse_entry(path, entry)
    names = [path for path in found if written_by_kt(path)]
    data = dict(zip(names, git.contents(root, [found[name] for name in names]), strict=True))
    if "kt.toml" in data:
        config.parse(data.pop("kt.toml"), Path(f"{commit[:7]}:kt.toml"))
    theirs = read_book(data.get(HISTORY, b""), commit)
    goes_on = theirs.events[: book.seq] == book.events
    if not goes_on and (forced is None or not theirs.events):
        raise Refused(
            f"their history does not go on where ours ends (event {book.seq})",
            where=f"{commit[:7]}:{HISTORY}",
            do=f"somebody rewrote it; see both: git log -p -- deployments; {FORCE}",
        )
    state = audit.fold(theirs)
    due = manifest.manifest(state)
    if state.seq and manifest.parse(data.get(MANIFEST, b"")) != due:
        raise Corrupt("is not what their history says", where=f"{commit[:7]}:{MANIFEST}", do=ASK)
    known = {}
    for path in [name for name in names if name.endswith(f"/{record.RECORD}")]:
        held = record.parse(data[path], Path(path))
        known[held.model, held.version] = held
    fresh, other, gone = compare(workspace, known, data)
    if forced is None:
        refuse_changed(other, gone)
    check_served(state, known, commit)
    signatures = {key: data[path] for key in known if (path := signature_of(key)) in data}
    unsigned = unsigned_there(workspace, known.keys() - other - signatures.keys())
    # records and signatures of new versions come with their folders; what signs no version is left out
    written = {signature_of(key) for key in signatures if key not in fresh}
    written |= {record_of(key) for key in other}
    writes = [
        Write(path, text)
        for path, text in sorted(
            data.items(), key=lambda item: (item[0] in (HISTORY, MANIFEST), item[0] == MANIFEST)
        )
        if (path in written or not of_version(path)) and text != on_disk(root / path)
    ]
    to = commit
    plain = goes_on and not other and not gone and git.descends(root, commit, git.head(root))
    if forced is not None and not plain:
        stays = [record_of(key) for key in gone] + [signature_of(key) for key in (*gone, *unsigned)]
        to = join(workspace, commit, book, theirs, stays, forced)
    elif unsigned:
        what = (
            f"their commit lacks the signature of {'@'.join(unsigned[0])}, and signatures never go"
        )
        raise Refused(what, do=ASK)
    return Theirs(commit, to, theirs, state, known, fresh, signatures, other, writes)


def join(
    workspace: Workspace,
    there: str,
    book: Journal,
    theirs: Journal,
    stays: Sequence[str],
    forced: Stamp,
) -> str:
    """A commit that says that their history stands in place of the one here, and has both behind it.

    stays: paths of what they lack and what is kept. Raises Refused where commits here hold more than kt's own files.
    """
    root = workspace.root
    here = git.head(root)
    top = git.top_of(root)
    assert top is not None
    rooms = tuple(f"{(root / room).relative_to(top)}/" for room in ROOMS)
    if lost := sorted(
        name for name in git.only_here(root, here, there) if not name.startswith(rooms)
    ):
        raise Refused(
            f"commits here have changed what is not kt's: {', '.join(lost[:5])}",
            do="bring them together first: git pull --rebase, then run this again",
        )
    common = shared(book, theirs)
    said = (
        f"pull --force {there[:7]}: event {theirs.seq} in place of {book.seq}, from {common + 1} on\n\n"
        f"by: {forced.by}\nreason: {forced.reason}\nlet go: {told(book, common) or 'nothing'}\n"
    )
    return git.joined(root, there, here, stays, said)


def shared(ours: Journal, theirs: Journal) -> int:
    """How many events two histories begin with in common."""
    both = zip(ours.events, theirs.events, strict=False)
    return next((n for n, (a, b) in enumerate(both) if a != b), min(ours.seq, theirs.seq))


ASK = "ask whoever pushed it; nothing was changed here"
FORCE = "if theirs is to stand: kt pull --force --reason TEXT"


def refuse_entry(path: str, entry: Entry) -> None:
    """Nothing in kt's folders but plain files with names that kt gives."""
    if path.partition("/")[0] == ".kt" or re.search(r"(^|/)model\.[^/]*$", path):
        raise Refused(f"their commit holds {path[:200]}, which is this machine's own", do=ASK)
    if entry.mode not in ("100644", "100755"):
        raise Refused(f"{path[:200]} is a link in their commit", do=ASK)
    if written_by_kt(path) and entry.size > LARGEST:
        raise Refused(f"{path[:200]} has {entry.size:,} bytes in their commit", do=ASK)
    folder, _, rest = path.partition("/")
    parts = rest.split("/")
    if folder == record.FOLDER and parts[-1] in (record.RECORD, record.SIGNATURE):
        if len(parts) != 3:
            raise Refused(f"{path[:200]} is no place for a record", do=ASK)
        config.check_name(parts[0], "a model")
        config.check_name(parts[1], "a version")


def written_by_kt(path: str) -> bool:
    """kt.toml is read too: a pull must not bring one that no command can read."""
    named = path in (HISTORY, MANIFEST, "kt.toml") or path.endswith("/history.json")
    return named or of_version(path)


def of_version(path: str) -> bool:
    """Whether it is a version's record or signature."""
    ends = (f"/{record.RECORD}", f"/{record.SIGNATURE}")
    return path.startswith(f"{record.FOLDER}/") and path.endswith(ends)


def read_book(text: bytes, commit: str) -> Journal:
    path = Path(f"{commit[:7]}:{HISTORY}")
    events = journal.parse(text, path) if text else []
    journal.check(events, path)
    return Journal(path, events, text)


def on_disk(path: Path) -> bytes | None:
    try:
        return files.read(path)
    except FileNotFoundError:
        return None


def record_of(key: Key) -> str:
    return "/".join((record.FOLDER, *key, record.RECORD))


def signature_of(key: Key) -> str:
    return "/".join((record.FOLDER, *key, record.SIGNATURE))


def unsigned_there(workspace: Workspace, keys: Collection[Key]) -> list[Key]:
    """The versions that are signed here, in git, of these that are not signed there."""
    root = workspace.root
    signed = [key for key in sorted(keys) if (root / signature_of(key)).exists()]
    return [key for key in signed if git.committed(root, signature_of(key))]


def compare(
    workspace: Workspace, known: Mapping[Key, record.VersionRecord], data: Mapping[str, bytes]
) -> tuple[dict[Key, bytes], list[Key], list[Key]]:
    """Their versions and those here: the records that are not here, the versions that are something
    else here, and those committed here that they lack."""
    mine = {key: on_disk(workspace.root / record_of(key)) for key in known}
    fresh = {key: data[record_of(key)] for key, held in mine.items() if held is None}
    other = [key for key, held in mine.items() if held not in (None, data[record_of(key)])]
    gone = [
        one.key
        for one in gc.stored(workspace)
        if one.key not in known and git.committed(workspace.root, record_of(one.key))
    ]
    return fresh, other, gone


def refuse_changed(other: Sequence[Key], gone: Sequence[Key]) -> None:
    if other:
        what = f"{'@'.join(other[0])} is another version there, and versions never change"
        raise Refused(what, do=f"{ASK}; {FORCE}")
    if gone:
        what = f"their commit lacks {'@'.join(gone[0])}, and versions never go"
        raise Refused(what, do=f"{ASK}; {FORCE}")


def check_served(state: State, known: Mapping[Key, record.VersionRecord], commit: str) -> None:
    """What their manifest names, their registry has."""
    for model, route in manifest.manifest(state).models.items():
        for one in (route.active, *(route.experiment.treatments if route.experiment else ())):
            held = known.get((model, one.version))
            if held is None or held.sha256 != one.sha256:
                raise Corrupt(
                    f"{model}@{one.version} is deployed, and its record is not there or names other weights",
                    where=f"{commit[:7]}:{record.FOLDER}",
                    do=ASK,
                )


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
            raise lacking(one)
    return (
        [one for one in lack if one.sha256 in held],
        [one.key for one in lack if one.sha256 not in held and one.is_weights],
    )


def lacking(one: Blob) -> Unavailable:
    return Unavailable(
        f"the store does not have the weights of {one.name}",
        do="push them from a machine that has them: kt push",
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
        path for path, how in git.differing(workspace.root, theirs.commit).items() if how != "there"
    ]:
        raise Refused(
            f"a pull would overwrite what is changed here: {', '.join(other[:5])}",
            do="commit it or put it aside first: git status",
        )
    with change.staging(workspace) as staged:
        adopted = [
            adopt_version(staged, folder, key, theirs, wanted, stamp) for key in theirs.fresh
        ]
        said = f"pull {theirs.commit[:7]}: event {theirs.book.seq}"

        def after() -> None:
            remember(workspace)
            with suppress(KtError):  # a full disk: predictors stay with what they serve, and say so
                audit.let_go(workspace, book, theirs.book)

        for key in theirs.other:
            set_aside(workspace, key)
        done = change.apply(Change(said, [*adopted, *theirs.files], theirs.commit), lock, after)
    for key in theirs.other:
        files.discard(record.weights(workspace.root, *key))
        record.discard_exports(workspace.root, *key)
        absence.mark(workspace, *key, Absence("not pulled", stamp.at, stamp.by))
        if key not in theirs.signatures:
            files.discard(workspace.root / signature_of(key))  # it was of the other one
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


def lacks(root: Path, source: Upstream, here: str, there: str) -> str:
    """How a remote stands that has nothing new, if it lacks what is here."""
    if here == there:
        return ""
    if was := git.taken_back(root, source, there):
        return f"{source} has been taken back from {was[:7]} to {there[:7]}"
    count = int(git.text(root, "rev-list", "--count", f"{there}..{here}"))
    return f"{source} lacks {count} commit{'s' if count != 1 else ''} of this machine"


def ahead(workspace: Workspace, to: Upstream, here: str, there: str) -> Refused:
    """Why a push is refused: they are ahead, or both have gone on."""
    if git.descends(workspace.root, there, here):
        return Refused(f"{to} is ahead of this machine", do="take it over first: kt pull")
    return parted(workspace, to, there, audit.read(workspace)[0])


def parted(workspace: Workspace, source: Upstream, there: str, book: Journal) -> Refused:
    """Both sides have commits that the other lacks: what each has deployed since they parted."""
    with moving(workspace, source):
        git.track(workspace.root, source, there)  # the way out names it
    text = git.ask(workspace.root, "show", f"{there}:./{HISTORY}")
    theirs = read_book(text, there)
    common = shared(book, theirs)
    ours, other = told(book, common), told(theirs, common)
    if not ours or not other:
        return Refused(
            f"the branch here and {source} have parted, by commits that are not kt's",
            do="bring them together first: git pull --rebase, then run this again",
        )
    return Refused(
        f"two machines have deployed since event {common}. Here: {ours}. On {source}: {other}",
        do=f"decide which stands; {FORCE}, and deploy yours again",
    )


def told(book: Journal, after: int, most: int = 5) -> str:
    """The events after one, in a few words each."""
    events = book.events[after:]
    said = [f"{e['seq']} {e['model']}: {describe(e)} ({e['by']}, {e['at']})" for e in events[:most]]
    return "; ".join([*said, *(["…"] if len(events) > most else [])])

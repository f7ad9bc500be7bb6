"""A commit of a remote, read as data and believed only where it holds together.

Their history is a chain that goes on where ours ends, their manifest is what it says, versions that are
here have not changed, and nothing in kt's folders is a link or has a name that kt would not give. Where
theirs is forced to stand it need not go on from ours; all else is checked the same.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kt import commits, config, files, git
from kt.change import Write
from kt.commits import Entry
from kt.deployments import audit, gc, manifest
from kt.deployments.events import HISTORY
from kt.deployments.history import State
from kt.deployments.manifest import MANIFEST
from kt.deployments.need import Key
from kt.deployments.plan import Stamp
from kt.deployments.sides import FORCE, read_book, shared, told
from kt.errors import Corrupt, Refused
from kt.journal import Journal
from kt.registry import record
from kt.workspace import ROOMS, Workspace

ASK = "ask whoever pushed it; nothing was changed here"
LARGEST = 100 << 20  # bytes of a file of kt's that comes from a remote


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


def read_theirs(
    workspace: Workspace, commit: str, book: Journal, forced: Stamp | None = None
) -> Theirs:
    """A fetched commit as data, checked against itself and against what is here."""
    root = workspace.root
    data = contents_of(root, commit)
    theirs = read_book(data.get(HISTORY, b""), commit)
    goes_on = theirs.events[: book.seq] == book.events
    if not goes_on and (forced is None or not theirs.events):
        raise Refused(
            f"their history does not go on where ours ends (event {book.seq})",
            where=f"{commit[:7]}:{HISTORY}",
            do=f"somebody rewrote it; see both: git log -p -- deployments; {FORCE}",
        )
    state = audit.fold(theirs)
    check_manifest(state, data, commit)
    known = records_of(data)
    fresh, other, gone = compare(workspace, known, data)
    if forced is None:
        refuse_changed(other, gone)
    check_served(state, known, commit)
    signatures = {key: data[path] for key in known if (path := signature_of(key)) in data}
    unsigned = unsigned_there(workspace, known.keys() - other - signatures.keys())
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
    # records and signatures of new versions come with their folders; what signs no version is left out
    written = {signature_of(key) for key in signatures if key not in fresh}
    written |= {record_of(key) for key in other}
    writes = writes_of(root, {p: d for p, d in data.items() if p in written or not of_version(p)})
    return Theirs(commit, to, theirs, state, known, fresh, signatures, other, writes)


def contents_of(root: Path, commit: str) -> dict[str, bytes]:
    """What kt has written in a commit, by path. Raises Refused for what it would not write, Invalid for a
    kt.toml that no command could read."""
    found = commits.tree(root, commit, *ROOMS, "kt.toml", ".kt")
    for path, entry in found.items():
        refuse_entry(path, entry)
    names = [path for path in found if written_by_kt(path)]
    data = dict(zip(names, commits.contents(root, [found[name] for name in names]), strict=True))
    if "kt.toml" in data:
        config.parse(data.pop("kt.toml"), Path(f"{commit[:7]}:kt.toml"))
    return data


def records_of(data: Mapping[str, bytes]) -> dict[Key, record.VersionRecord]:
    found = [
        record.parse(text, Path(path))
        for path, text in data.items()
        if path.endswith(f"/{record.RECORD}")
    ]
    return {(one.model, one.version): one for one in found}


def check_manifest(state: State, data: Mapping[str, bytes], commit: str) -> None:
    """Their manifest is what their history says."""
    due = manifest.manifest(state)
    if state.seq and manifest.parse(data.get(MANIFEST, b"")) != due:
        raise Corrupt("is not what their history says", where=f"{commit[:7]}:{MANIFEST}", do=ASK)


def writes_of(root: Path, data: Mapping[str, bytes]) -> list[Write]:
    """What differs from what is here, in the order of every change: history and manifest last."""
    order = sorted(data, key=lambda path: (path in (HISTORY, MANIFEST), path == MANIFEST))
    return [Write(path, data[path]) for path in order if data[path] != on_disk(root / path)]


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
        name for name in commits.only_here(root, here, there) if not name.startswith(rooms)
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
    return commits.joined(root, there, here, stays, said)


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

"""Reading back: the state now or at a time, the history, and whether both are as kt wrote them."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kt import change, files, git, journal
from kt.deployments import history, manifest
from kt.deployments.events import HISTORY, one
from kt.deployments.history import State
from kt.errors import Corrupt, Invalid, KtError
from kt.journal import Journal
from kt.workspace import Workspace

KEPT = "history.json"  # in .kt/: the history as this machine last wrote it


def read(workspace: Workspace) -> tuple[Journal, State]:
    """The journal and its fold. Raises Corrupt with file and line."""
    book = journal.read(workspace.root / HISTORY)
    return book, fold(book)


def fold(book: Journal) -> State:
    """The state after a journal's events. Raises Corrupt with file and line."""
    state = journal.fold(
        book, lambda state, raw: history.fold([one.validate_python(raw)], state), history.EMPTY
    )
    return replace(state, head=book.head)


def at_time(book: Journal, when: str) -> Journal:
    """The head of the journal up to a time (ISO 8601, or its beginning: 2026-01-14)."""
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\dZ?)?)?)?)?)?", when):
        raise Invalid(
            f"{when[:40]!r} is no time",
            where="--at",
            do="write it as 2026-01-14 or 2026-01-14T10:30:00Z",
        )
    # a shorter time means its end: a day includes its events
    events = [event for event in book.events if str(event["at"])[: len(when)] <= when]
    return book.head_to(max((event["seq"] for event in events), default=0))


def find_record(book: Journal, reference: str, where: str = "--to-record") -> int:
    """The seq that a number or the beginning of an event's digest stands for."""
    if reference.isdigit() and len(reference) < 7:
        if 1 <= int(reference) <= book.seq:
            return int(reference)
    else:
        found = [
            event["seq"]
            for event in book.events
            if journal.digest(event).startswith(reference.lower())
        ]
        if len(found) == 1:
            return int(found[0])
    raise Invalid(
        f"{reference[:64]!r} names no event",
        where=where,
        do="see their numbers: kt history",
    )


@dataclass(frozen=True)
class Finding:
    """One thing that is not as kt wrote it. fixable: `kt verify --fix` mends it without losing anything."""

    where: str
    what: str
    do: str
    fixable: bool = False


def taken_back(workspace: Workspace) -> list[Finding]:
    """A history that git, or a hand, has replaced by an older or another one."""
    kept = workspace.local / KEPT
    path = workspace.root / HISTORY
    if pulled(workspace):
        return []
    if not kept.is_file():
        return contradicted(workspace)
    try:
        if path.is_file() and not path.is_symlink() and kept.read_bytes() == path.read_bytes():
            return []
        mine = journal.read(kept)
    except (KtError, OSError):
        return contradicted(workspace)  # what was kept is of no use
    try:
        disk = journal.read(path)
    except KtError as error:
        where, what = error.where, error.what
    else:
        if disk.events[: mine.seq] == mine.events:
            return []
        where, what = HISTORY, f"ends at event {disk.seq}, this machine has written {mine.seq}"
        if disk.events != mine.events[: disk.seq]:
            first = 1 + next(
                n for n, event in enumerate(disk.events) if event not in mine.events[n : n + 1]
            )
            where = journal.at(Path(HISTORY), first)
            what = f"event {first} is not the one that this machine has written"
    return [
        Finding(
            where,
            f"{what} (git checkout, stash, reset or merge, or an edit by hand)",
            "take back what this machine wrote: kt verify --fix; or let the file stand: kt verify --accept",
            fixable=True,
        )
    ]


def refuse_taken_back(workspace: Workspace) -> None:
    """Nothing is built on a history that git or a hand took back. Raises Corrupt."""
    for finding in taken_back(workspace):
        raise Corrupt(finding.what, where=finding.where, do=finding.do)


def pulled(workspace: Workspace) -> bool:
    """Whether the history is the one that a pull brought which was killed before it could say so."""
    to = str(change.pending(workspace).get("to", ""))
    if not to:
        return False
    try:
        data = git.ask(workspace.root, "show", f"{to}:./{HISTORY}")
        return data == files.read(workspace.root / HISTORY)
    except (KtError, OSError):
        return False


def contradicted(workspace: Workspace) -> list[Finding]:
    """The manifest bears the digest of the event it was derived from: a witness where none was kept.

    A killed command leaves a manifest that is behind the history, never one that is ahead of it or
    that knows another event of the same number.
    """
    try:
        book = journal.read(workspace.root / HISTORY)
        found = manifest.parse(files.read(workspace.root / manifest.MANIFEST))
    except (KtError, FileNotFoundError):
        return []  # reported by whoever reads them
    if found.seq > book.seq:
        where, what = (
            HISTORY,
            f"ends at event {book.seq}, {manifest.MANIFEST} was made at {found.seq}",
        )
    elif book.head_to(found.seq).head != found.head:
        where = journal.at(Path(HISTORY), found.seq)
        what = f"event {found.seq} is not the one that {manifest.MANIFEST} was made from"
    else:
        return []
    return [
        Finding(
            where,
            what,
            "see which is right: git diff HEAD -- deployments; then, if the history is: kt verify --accept",
        )
    ]


def let_go(workspace: Workspace, before: Journal, after: Journal) -> None:
    """Write down that `after` stands in place of `before`: a predictor that serves what is gone from
    the history follows it, whatever its number. Under the lock."""
    stands = {journal.digest(event) for event in after.events}
    gone = [digest for event in before.events if (digest := journal.digest(event)) not in stands]
    path = workspace.local / manifest.REPLACED
    if gone:
        files.write_whole(path, json.dumps(gone).encode() + b"\n")


def forget(workspace: Workspace) -> None:
    """What speaks against the history on disk: a person has decided that it stands. Under the lock."""
    book, _ = read(workspace)  # it must be sound
    with suppress(KtError, OSError):  # of no use, or not there
        let_go(workspace, journal.read(workspace.local / KEPT), book)
    for path in (workspace.local / KEPT, workspace.root / manifest.MANIFEST):
        with files.named("remove", path):
            path.unlink(missing_ok=True)


def verify_manifest(workspace: Workspace, state: State) -> list[Finding]:
    path = workspace.root / manifest.MANIFEST
    due, data = manifest.manifest(state), b""
    try:
        data = files.read(path)
        if manifest.parse(data) == due:  # a newer kt may have said more
            return []
        what = "is not what the history says"
    except FileNotFoundError:
        if state.seq == 0:
            return []
        what = "is missing"
    except Corrupt as error:
        marked = b"<<<<<<<" in data
        what = "holds git conflict markers" if marked else f"is damaged ({error.what})"
    return [Finding(manifest.MANIFEST, what, "write it anew: kt verify --fix", fixable=True)]


def verify_committed(workspace: Workspace, book: Journal) -> list[Finding]:
    """What git last committed of a journal must be the beginning of what is on disk."""
    if workspace.settings.git == "off":
        return []
    path = book.path.relative_to(workspace.root)
    text = git.committed(workspace.root, path.as_posix())
    if text is None:
        return []
    try:
        events = journal.parse(text, book.path)
    except KtError as error:
        return [Finding(f"HEAD:{path}", error.what, error.do)]
    if book.events[: len(events)] == events:
        return []
    first = next(
        (n for n, (a, b) in enumerate(zip(events, book.events, strict=False), 1) if a != b),
        book.seq + 1,
    )
    return [
        Finding(
            journal.at(path, first),
            "differs from what git has committed",
            f"see how: git diff HEAD -- {path.parent}",
        )
    ]


def restore(workspace: Workspace) -> bool:
    """Put back the history that this machine last wrote. True if it had been taken back. Under the lock."""
    if not any(finding.fixable for finding in taken_back(workspace)):
        return False
    files.write_whole(workspace.root / HISTORY, (workspace.local / KEPT).read_bytes())
    return True

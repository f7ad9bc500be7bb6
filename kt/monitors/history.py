"""monitors/history.json: what has happened to alerts, read back and added to. Kept in git like deployments."""

from collections.abc import Sequence

from pydantic import ValidationError

from kt import change, git, journal
from kt.change import Change, Write
from kt.deployments import deploy
from kt.deployments.audit import Finding
from kt.errors import Corrupt, KtError
from kt.journal import Journal
from kt.monitors import events
from kt.monitors.events import HISTORY, Alerts, AnyEvent, Ended, Impossible, one
from kt.workspace import Workspace


def read(workspace: Workspace) -> tuple[Journal, Alerts]:
    """The journal and what is open. Raises Corrupt with file and line."""
    book = journal.read(workspace.root / HISTORY)
    return book, fold(book)


def fold(book: Journal) -> Alerts:
    alerts = Alerts()
    for number, raw in enumerate(book.events, 1):
        try:
            events.apply(alerts, one.validate_python(raw))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"][1:]) or "kind"
            raise damaged(book, number, f"{key}: {first['msg']}") from error
        except Impossible as error:
            raise damaged(book, number, f"it cannot follow: {error}") from error
    return alerts


def damaged(book: Journal, number: int, what: str) -> Corrupt:
    return Corrupt(f"event {number}: {what}", where=journal.at(book.path, number), do=journal.MEND)


def append(
    workspace: Workspace, verb: str, new: Sequence[AnyEvent], message: str
) -> tuple[Journal, list[str]]:
    """Add events in one commit; the journal then, and what people should know of it.

    An alert that another process has ended meanwhile is not ended twice.
    """
    with change.locked(workspace, verb) as lock:
        deploy.recover(lock)
        book, alerts = read(workspace)
        new = [one for one in new if not isinstance(one, Ended) or one.alert in alerts.open]
        if not new:
            return book, lock.notes
        after = book.append([events.body(event) for event in new])
        fold(after)  # nothing is written that could not be read
        done = change.apply(Change(message, [Write(HISTORY, after.text)], fact=after.head), lock)
        return after, [*lock.notes, *deploy.pending(done)]


def verify(workspace: Workspace) -> list[Finding]:
    """What of it is not as kt wrote it."""
    try:
        book, _ = read(workspace)
    except KtError as error:
        return [Finding(error.where, error.what, error.do)]
    if workspace.settings.git == "off":
        return []
    text = git.committed(workspace.root, HISTORY)
    if text is None:
        return []
    try:
        known = journal.parse(text, book.path)
    except KtError as error:
        return [Finding(f"HEAD:{HISTORY}", error.what, error.do)]
    if book.events[: len(known)] == known:
        return []
    what, do = "differs from what git has committed", "see how: git diff HEAD -- monitors"
    return [Finding(HISTORY, what, do)]

"""monitors/history.json: what has happened to alerts, read back and added to. Kept in git like deployments."""

from collections.abc import Sequence
from typing import Any

from kt import change, journal
from kt.change import Change, Write
from kt.deployments import audit
from kt.deployments.audit import Finding
from kt.errors import KtError
from kt.journal import Journal
from kt.monitors import events
from kt.monitors.events import HISTORY, Alerts, AnyEvent, Ended, one
from kt.workspace import Workspace


def read(workspace: Workspace) -> tuple[Journal, Alerts]:
    """The journal and what is open. Raises Corrupt with file and line."""
    book = journal.read(workspace.root / HISTORY)
    return book, fold(book)


def fold(book: Journal) -> Alerts:
    def step(alerts: Alerts, raw: Any) -> Alerts:
        events.apply(alerts, one.validate_python(raw))
        return alerts

    return journal.fold(book, step, Alerts())


def append(
    workspace: Workspace, verb: str, new: Sequence[AnyEvent], message: str
) -> tuple[Journal, list[str]]:
    """Add events in one commit; the journal then, and what people should know of it.

    An alert that another process has ended meanwhile is not ended twice.
    """
    from kt.deployments import deploy  # it brings the registry, which who only reads need not load

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
    return audit.verify_committed(workspace, book)

"""The journal of runs on disk: read, and added to in a commit of its own."""

from collections.abc import Callable, Sequence

from kt import change, journal
from kt.change import Change, Write
from kt.deployments import audit
from kt.deployments.audit import Finding
from kt.errors import KtError
from kt.jobs import runs
from kt.jobs.runs import HISTORY, AnyEvent, State
from kt.journal import Journal
from kt.workspace import Workspace

Planner = Callable[[Journal, State], Sequence[AnyEvent]]


def read(workspace: Workspace) -> tuple[Journal, State]:
    """The journal and its fold. Raises Corrupt with file and line."""
    book = journal.read(workspace.root / HISTORY)
    return book, journal.fold(
        book, lambda state, raw: runs.fold([runs.one.validate_python(raw)], state), State()
    )


def verify(workspace: Workspace) -> list[Finding]:
    """What of it is not as kt wrote it."""
    try:
        book, _ = read(workspace)
    except KtError as error:
        return [Finding(error.where, error.what, error.do)]
    return audit.verify_committed(workspace, book)


def write(workspace: Workspace, plan: Planner) -> tuple[Journal, State]:
    """Append what the plan makes of the journal as it is under the lock; nothing where it makes nothing."""
    from kt.deployments import deploy  # it brings the registry, which who only reads need not load

    with change.locked(workspace, "retrain") as lock:
        deploy.recover(lock)
        book, state = read(workspace)
        planned = list(plan(book, state))
        if not planned:
            return book, state
        after = book.append([runs.body(event) for event in planned])
        last = after.events[-1]
        message = f"{last['job']}: {runs.describe(last)}"
        change.apply(Change(message, [Write(HISTORY, after.text)]), lock)
        return after, runs.fold(planned, state)

"""The journal of runs on disk: read, and added to in a commit of its own."""

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from kt import change, journal
from kt.change import Change, Write
from kt.deployments import deploy
from kt.errors import Corrupt
from kt.jobs import runs
from kt.jobs.runs import HISTORY, AnyEvent, Impossible, State
from kt.journal import Journal
from kt.workspace import Workspace

Planner = Callable[[Journal, State], Sequence[AnyEvent]]


def read(workspace: Workspace) -> tuple[Journal, State]:
    """The journal and its fold. Raises Corrupt with file and line."""
    book = journal.read(workspace.root / HISTORY)
    state = State()
    for number, raw in enumerate(book.events, 1):
        try:
            state = runs.fold([runs.one.validate_python(raw)], state)
        except (ValidationError, Impossible) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise Corrupt(
                f"event {number}: {said}", where=journal.at(book.path, number), do=journal.MEND
            ) from error
    return book, state


def write(workspace: Workspace, plan: Planner) -> tuple[Journal, State]:
    """Append what the plan makes of the journal as it is under the lock; nothing where it makes nothing."""
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

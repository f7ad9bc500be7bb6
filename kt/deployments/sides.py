"""This machine and a remote: how the two stand, and what keeps a kill between them from harm."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kt import change, files, git, journal, upstream
from kt.deployments import audit
from kt.deployments.events import HISTORY, describe
from kt.errors import Refused, Unavailable
from kt.journal import Journal
from kt.upstream import Upstream
from kt.workspace import Workspace

FORCE = "if theirs is to stand: kt pull --force --reason TEXT"
MOVING = "moving"  # in .kt/


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
        upstream.clear_locks_there(workspace.root, of, since)
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


def shared(ours: Journal, theirs: Journal) -> int:
    """How many events two histories begin with in common."""
    both = zip(ours.events, theirs.events, strict=False)
    return next((n for n, (a, b) in enumerate(both) if a != b), min(ours.seq, theirs.seq))


def read_book(text: bytes, commit: str) -> Journal:
    path = Path(f"{commit[:7]}:{HISTORY}")
    events = journal.parse(text, path) if text else []
    journal.check(events, path)
    return Journal(path, events, text)


def lacks(root: Path, source: Upstream, here: str, there: str) -> str:
    """How a remote stands that has nothing new, if it lacks what is here."""
    if here == there:
        return ""
    if was := upstream.taken_back(root, source, there):
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
        upstream.track(workspace.root, source, there)  # the way out names it
    text = git.ask(workspace.root, "show", f"{there}:./{HISTORY}")
    theirs = read_book(text, there)
    common = shared(book, theirs)
    ours, other = told(book, common), told(theirs, common)
    if not ours or not other:
        return Refused(
            f"the branch here and {source} have parted, by commits that deploy nothing",
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

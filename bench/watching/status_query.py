"""What kt status costs over a month of two variants, after a million answers and after a hundred million.

    python bench/monitoring.py status_query      three minutes

CPU seconds of the whole command in a process of its own, the same without tables, of `import sqlalchemy`
beside them, and of what the command asks of the tables (SQLAlchemy is loaded by then); the least of some runs
each, taken in turns. Python finds all modules compiled, as pip leaves them.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import forge
from filled import fill

from kt import clock
from kt.deployments import audit
from kt.monitors import glance
from kt.monitors.live import Live, live
from kt.store import connect, labels, traffic
from kt.store.database import Store
from kt.workspace import Workspace

TRAFFIC = (1_000_000, 100_000_000)  # answers in 30 days
RUNS = 7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = [prepared(Path(folder) / str(total), total) for total in TRAFFIC]
        bare = prepared(Path(folder) / "bare", 0)
        asked: dict[Path, list[float]] = {place.root: [] for place in places}
        month: dict[Path, list[float]] = {place.root: [] for place in places}
        whole: dict[Path, list[float]] = {place.root: [] for place in [*places, bare]}
        alone: list[float] = []
        for _ in range(RUNS):
            for place in places:
                asked[place.root].append(query(place, glancing))
                month[place.root].append(query(place, of_the_month))
            for place in [*places, bare]:
                whole[place.root].append(run(place, "status"))
            alone.append(used([sys.executable, "-c", "import sqlalchemy"], bare))
        for total, place in zip(TRAFFIC, places, strict=True):
            print(
                f"{total:>12,} answers: the query {min(asked[place.root]):.3f} CPU s,"
                f" all that is kept of the month {min(month[place.root]):.3f},"
                f" kt status {min(whole[place.root]):.3f}"
            )
        print(f"without tables: kt status {min(whole[bare.root]):.3f}")
        print(f"import sqlalchemy {min(alone):.3f}")


def prepared(root: Path, total: int) -> Workspace:
    """A workspace where an experiment has run for a month."""
    place = forge.workspace(root)
    for name in ("v1", "v2"):
        forge.version(place, "m", name)
    for words in (["deploy", "m@v1"], ["deploy", "m@v2", "--traffic", "50", "--ab-test", "x"]):
        run(place, *words)
    if total:
        _, state = audit.read(place)
        streams = [who.stream for who in live(state)]
        store = connect.open(place.root, place.settings)
        fill(store, streams, total, int(clock.now().timestamp()) // 60)
    return place


def query(place: Workspace, ask: Callable[[Store, list[Live]], object]) -> float:
    """CPU seconds of it, with the opening of the tables."""
    _, state = audit.read(place)
    started = time.process_time()
    store = connect.peek(place.root, place.settings)
    assert store is not None
    ask(store, live(state))
    return time.process_time() - started


def glancing(store: Store, lives: list[Live]) -> None:
    """As kt status does."""
    glance.glance(store, lives, int(clock.now().timestamp()) // 60)


def of_the_month(store: Store, lives: list[Live]) -> None:
    """Every count of 30 days, and the latencies of a day."""
    ids, end = [who.stream.id for who in lives], int(clock.now().timestamp()) // 60 + 1
    traffic.total(store, ids, end - 30 * 1440, end, ["counts"])
    traffic.total(store, ids, end - 1440, end, ["latency"])
    labels.total(store, ids, end - 30 * 1440, end, ["counts"])


def run(place: Workspace, *words: str) -> float:
    """CPU seconds of a command of kt."""
    return used([sys.executable, "-m", "kt", "--workspace", str(place.root), *words], place)


def used(command: list[str], place: Workspace) -> float:
    """CPU seconds of a process and its children."""
    named = os.environ | {"PYTHONPYCACHEPREFIX": str(place.root.parent / "compiled")}
    named.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=named)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

"""A bar for what moves, where a person watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kt.cli import output

if TYPE_CHECKING:
    from kt.models.run import Epoch, Progress

Moved = Callable[[int], None]  # so many bytes more
Watch = Callable[[str, int], Moved]  # a bar's name and how many bytes there are


@contextmanager
def watching() -> Iterator[Watch]:
    if not output.interactive() or output.run.quiet:
        yield lambda _name, _size: lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def watch(name: str, size: int) -> Moved:
            task = bars.add_task(name, total=size)
            return lambda more: bars.advance(task, more)

        yield watch


@contextmanager
def counting(what: str, many: int) -> Iterator[Moved]:
    """A bar of things that are counted."""
    if not output.interactive() or output.run.quiet:
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("  {task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=many)
        yield lambda more: bars.advance(task, more)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Something that turns while nothing can be counted."""
    if not output.interactive() or output.run.quiet:
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def epochs(
    metric: str,
) -> "Iterator[tuple[Callable[[Epoch], None], Callable[[Progress], None]]]":
    """What to call after an epoch (a line on stderr) and after a batch (a bar, if a person watches)."""

    def told(epoch: "Epoch") -> None:
        best = "  best" if epoch.best else ""
        norm = "" if epoch.norm is None else f"  gradient {epoch.norm:.2g}"
        values = (
            f"loss {epoch.loss:.4f}{norm}  {metric} {epoch.metric:.4f}  {epoch.seconds:.1f} s{best}"
        )
        output.step(f"epoch {epoch.number}", values)

    if output.run.quiet or not output.interactive():
        yield told, lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("epoch 1", values="", total=None)

        def moved(at: "Progress") -> None:
            best = "" if at.best is None else f"  best {metric} {at.best:.4f}"
            bar.update(
                task,
                description=f"epoch {at.epoch} of {at.epochs} at most",
                completed=at.done,
                total=at.batches,
                values=f"loss {at.loss:.4f}  gradient {at.norm:.2g}{best}",
            )

        def ended(epoch: "Epoch") -> None:
            told(epoch)
            bar.reset(task, description=f"after epoch {epoch.number}", values="")

        yield ended, moved

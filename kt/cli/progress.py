"""A bar for what moves, where a person watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kt.cli import output

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

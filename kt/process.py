"""Another process of kt's own: it finds kt and its packages where this one does."""

import os
import select
import sys
from collections.abc import Callable, Iterator

LOOK = 100  # milliseconds between looks at a process that says nothing


def command(module: str) -> list[str]:
    """What runs a module of kt. The folder that a person is in is no place to import from."""
    return [sys.executable, "-P", "-m", module]


def environment(**more: str) -> dict[str, str]:
    """This process's environment for `command`; in `more` what stands over it."""
    return {**os.environ, **more, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def heard(pipe: int, ended: Callable[[], bool], most: int) -> Iterator[bytes]:
    """What a process says, part by part, at most so many bytes, until it has ended.

    Its pipe may outlive it: something that it has started may hold it open.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while most > 0:
        over = ended()  # asked first, so that what it says last is heard
        if waiting.poll(0 if over else LOOK):
            part = os.read(pipe, 1 << 16)
            if not part:
                return
            most -= len(part)
            yield part
        elif over:
            return

"""What can be told of a command line before anything is imported to read it: its verb, and that it serves."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from kt import process

# What a worker's memory and a fourth of its processor time depend on. glibc's malloc: one heap, since
# one thread answers, which keeps what a batch needs rather than give it back and take it again. And
# tracebacks without carets: they are as large as the code.
LEAN = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": "0",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "PYTHONNODEBUGRANGES": "1",
    # kt has no plugins of pydantic; to look for some it reads the metadata of every package there is
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}


def verb(given: Sequence[str]) -> str:
    """What a command line plainly begins with, but for the workspace. Empty where that is an option."""
    rest = given[2:] if given[:1] in (["-C"], ["--workspace"]) else given
    return rest[0] if rest and not rest[0].startswith("-") else ""


def serve(arguments: Sequence[str]) -> NoReturn:
    """Turn this process into the server that this command line asks for (serving.py)."""
    command = [*process.command("kt.cli.serving"), *arguments]
    sys.stdout.flush()
    os.execve(command[0], command, process.environment(**{**LEAN, **os.environ}))  # noqa: S606  # no shell

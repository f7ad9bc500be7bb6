"""An alert as JSON on the standard input of a command of your own. No shell: a list of arguments."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import orjson
from pydantic import BaseModel, Field

from kt.errors import Invalid, Unavailable
from kt.monitors.message import Message


class Settings(BaseModel, extra="forbid"):
    command: list[str] = Field(min_length=1)
    timeout: float = Field(10.0, gt=0, le=600)  # seconds; then it is killed, and what it started


def send(message: Message, settings: Settings, root: Path) -> None:
    try:
        process = subprocess.Popen(
            settings.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=root,
            start_new_session=True,
        )
    except OSError as error:
        raise Invalid(
            f"cannot run {settings.command[0]}: {error.strerror}",
            do="name a program that this user may run, first of command in kt.toml",
        ) from error
    try:
        _, said = process.communicate(orjson.dumps(message.document()), settings.timeout)
    except subprocess.TimeoutExpired as error:
        kill(process)
        raise Unavailable(
            f"{settings.command[0]} took over {settings.timeout:g} s",
            do="let it end sooner, or raise its timeout in kt.toml",
        ) from error
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise Unavailable(
            f"{settings.command[0]} exited {process.returncode}: {last}",
            do="run it by hand: it gets the message as JSON on stdin",
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """The command and what it started in its session, so that nobody holds its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

"""An alert as a line of JSON at the end of a file. It is on the disk before kt takes it as told."""

import os
import stat
from pathlib import Path

import orjson
from pydantic import BaseModel

from kt import files
from kt.errors import Unavailable
from kt.monitors.message import Message


class Settings(BaseModel, extra="forbid"):
    path: str = "alerts.jsonl"  # relative to the workspace


def send(message: Message, settings: Settings, root: Path) -> None:
    path = root / settings.path
    line = orjson.dumps(message.document(), option=orjson.OPT_APPEND_NEWLINE)
    with files.named("write", path):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if torn(descriptor):
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):  # one write, or lines of two may mix
                raise Unavailable(
                    "was written in part: the disk is full",
                    where=str(path),
                    do="make room; what waits is written again",
                )
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fsync(descriptor)
                files.sync_folder(path.parent)
        finally:
            os.close(descriptor)


def torn(descriptor: int) -> bool:
    """Whether the last line has no end: a disk was full."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"

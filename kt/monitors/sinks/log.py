"""An alert as a line on standard error, where cron, systemd and a container's log find it."""

import sys
from pathlib import Path

from pydantic import BaseModel

from kt.monitors.message import Message


class Settings(BaseModel, extra="forbid"):
    pass


def send(message: Message, settings: Settings, root: Path) -> None:
    sys.stderr.write(f"kt: {message.at} {message.title}\n")
    sys.stderr.flush()

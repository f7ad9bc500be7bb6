"""The only reader of the wall clock. Everywhere else time is an argument."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path


def now() -> datetime:
    """The present, in UTC, to the second: journals carry no fractions, and order is `seq`."""
    return datetime.now(UTC).replace(microsecond=0)


def booted() -> float:
    """When this machine started, seconds since the epoch; 0 where the system does not say."""
    try:
        found = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return float(found[1]) if found else 0.0


def moment() -> float:
    """The present, in seconds since the epoch, with their fractions."""
    return time.time()


def second() -> int:
    """The present, in whole seconds since the epoch."""
    return int(time.time())

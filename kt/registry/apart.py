"""Runs a function in a fork of this process, under limits of its own: a crash there ends nothing else."""

import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from kt import process
from kt.registry import confine

LONGEST = 100_000_000  # bytes of an answer


class Ended(Exception):
    """It raised, or did not come to an end; the message says which.

    errno: of the OSError that it raised; 0 where it was none.
    """

    def __init__(self, why: str, errno: int = 0) -> None:
        super().__init__(why)
        self.errno = errno


def run(work: Callable[[], Any], *, cpu: int) -> Any:
    """What work() returns, which must be JSON. cpu: seconds of processor time. Raises Ended.

    Whatever shuts this process in holds for the fork too. No other thread may be running here.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        answer(work, writer, cpu)
    os.close(writer)
    # the processor's time is limited by the kernel; one that only sleeps is ended by this
    timer = threading.Timer(2 * cpu, os.kill, (child, signal.SIGKILL))
    timer.start()
    try:
        data = b"".join(process.heard(reader, lambda: gone(child), LONGEST))
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        timer.cancel()
    if code:
        raise Ended(how_it_ended(code, cpu))
    found = json.loads(data)
    if "raised" in found:
        raise Ended(found["raised"], found["errno"])
    return found["done"]


def gone(child: int) -> bool:
    """Whether a process has ended; how it did is still to be asked."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def answer(work: Callable[[], Any], writer: int, cpu: int) -> None:
    """The fork: do it, say what came of it, end."""
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(confine.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        confine.limit(resource.RLIMIT_CPU, cpu)
        try:
            found = {"done": work()}
        except Exception as error:  # noqa: BLE001  # told
            found = {"raised": one_line(error), "errno": getattr(origin(error), "errno", 0) or 0}
        with os.fdopen(writer, "wb") as out:
            out.write(json.dumps(found).encode())
        code = 0
    finally:
        os._exit(code)


def origin(error: BaseException) -> BaseException:
    while error.__cause__:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    """What was behind it, without colours."""
    error = origin(error)
    said = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    kept = "".join(letter for letter in said if letter.isprintable())
    return f"{type(error).__name__}: {kept[:200]}".rstrip(": ")


def how_it_ended(code: int, cpu: int) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it took more than {cpu} s, or more memory than there is"
    return f"it crashed ({signal.Signals(-code).name})" if code < 0 else "it ended early"

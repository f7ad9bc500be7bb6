"""kt, with a fault at the n-th call that changes a file.

Every such call of the process is counted: opening a file to write, its sync, a rename, a link, a new
folder, a removal, the start of git. A fault is `kill`, or the name of the error that the call gets.

A server, because starting Python takes longer than the command: it reads orders, one JSON object a
line, forks for each, and answers with the exit code and what was said. `Dying` is its client. The
exit code is 99 where there were fewer than n calls.
"""

import builtins
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

THROUGH = 99
CALLS = ("fsync", "rename", "replace", "link", "mkdir", "rmdir", "unlink", "ftruncate", "pwrite")


class Dying:
    """One server. run(root, n, fault, command) -> exit code, stdout and stderr together."""

    def __enter__(self) -> "Dying":
        command = [sys.executable, __file__]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def run(self, root: Path, at: int, fault: str, command: tuple[str, ...]) -> tuple[int, str]:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps([str(root), at, fault, command]).encode() + b"\n")
        self.server.stdin.flush()
        code, said = json.loads(self.server.stdout.readline())
        return int(code), str(said)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.server.communicate()


class Fault:
    """Counts the calls, and is the fault at one of them."""

    def __init__(self, at: int, fault: str) -> None:
        self.at, self.fault, self.seen = at, fault, 0

    def count(self, call: str) -> None:
        self.seen += 1
        if self.seen != self.at:
            return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code), call)

    def counted(
        self, module: Any, name: str, when: Callable[..., bool] = lambda *_, **__: True
    ) -> None:
        real = getattr(module, name)

        def instead(*arguments: Any, **named: Any) -> Any:
            if when(*arguments, **named):
                self.count(name)
            return real(*arguments, **named)

        setattr(module, name, instead)

    def watch(self) -> None:
        def writes(_: Any, flags: int, *__: Any, **___: Any) -> bool:
            return bool(flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))

        self.counted(os, "open", writes)
        self.counted(builtins, "open", lambda _, mode="r", *__, **___: "w" in mode or "+" in mode)
        for name in CALLS:
            self.counted(os, name)
        if self.fault == "kill":
            self.counted(subprocess.Popen, "__init__")


def child(root: str, at: int, fault: str, command: list[str]) -> None:
    from kt.cli.app import main

    os.chdir(root)
    what = Fault(at, fault)
    what.watch()
    try:
        main(command)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # it is told, as Python would
        import traceback

        traceback.print_exc()
        code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(THROUGH if what.seen < at else code)


def serve() -> None:
    import git  # imported once

    import kt.cli.app
    import kt.deployments.deploy

    assert git
    assert kt
    for line in sys.stdin:
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if not pid:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                child(*json.loads(line))
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said.seek(0)
            answer = json.dumps([status, said.read().decode(errors="replace")])
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve()

"""kt, with a fault at the n-th call that changes a file.

Every such call of the process is counted: opening a file to write, its sync, a rename, a link, a new
folder, a removal, the start of git, a commit of the tables. A fault is `kill`, or the name of the error
that the call gets.

A server, because starting Python takes longer than the command: it reads orders, one JSON object a
line, forks for each, and answers with the exit code and what was said. `Dying` is its client. The
exit code is 99 where there were fewer than n calls.
"""

import builtins
import contextlib
import errno
import importlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

THROUGH = 99
COMMIT = "do_commit"  # SQLAlchemy's name of it
CALLS = ("fsync", "rename", "replace", "link", "mkdir", "rmdir", "unlink", "ftruncate", "pwrite")


class Dying:
    """One server. run(root, n, fault, command) -> exit code, stdout and stderr together.

    modules: what it imports, so that no command has to.
    """

    def __init__(self, *modules: str) -> None:
        self.modules = modules

    def __enter__(self) -> "Dying":
        command = [sys.executable, __file__, *self.modules]
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


def points(
    template: Path,
    tmp_path: Path,
    fault: str,
    command: tuple[str, ...],
    every: int = 1,
    *,
    modules: tuple[str, ...] = (),
    least: int = 10,
) -> Iterator[tuple[Path, int, str]]:
    """A copy of the workspace after each fault in turn, until the command comes through.

    every: 3 for every third call. least: calls that it makes, or nothing was tried.
    """
    with Dying(*modules) as dying:
        for at in range(1, 200, every):
            root = tmp_path / "copy"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(template, root, symlinks=True)
            code, said = dying.run(root, at, fault, command)
            if code == THROUGH:
                assert at > least, said
                return
            yield root, code, said
    raise AssertionError("the command never comes to its end")


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
        if call == COMMIT:  # as SQLite says it, of whatever error
            raise sqlite3.OperationalError("disk I/O error")
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
        if "sqlalchemy" in sys.modules:
            from sqlalchemy.engine.default import DefaultDialect

            self.counted(DefaultDialect, COMMIT)
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


def serve(modules: list[str]) -> None:
    for name in ("git", "kt.cli.app", "kt.deployments.deploy", *modules):
        importlib.import_module(name)
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
    serve(sys.argv[1:])

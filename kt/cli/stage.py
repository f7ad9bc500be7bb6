"""The stage of the demo: runs kt commands in a workspace, and shows each as a person would type it."""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from kt import process
from kt.cli import output, progress
from kt.errors import Refused, Unavailable

PATIENCE = 60.0  # seconds for a predictor to follow
ALERT = 180.0  # seconds for an alert: a minute must end, and three looks follow
END = 20.0  # seconds for what runs beside to end


class Stage:
    """root: of the workspace, which is new or empty. Raises Refused where it is not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise Refused(f"{root} is not empty", do="name a new folder: kt demo DIR")
        self.environment = process.environment()
        self.environment.pop("KT_WORKSPACE", None)

    def title(self, text: str) -> None:
        line(f"\n{text}", bold=True)

    def write(self, name: str, text: str) -> None:
        """Add to a file of the workspace, and show what."""
        with (self.root / name).open("a") as file:
            file.write(text)
        line(f"\n$ cat >> {name}", colour="cyan")
        output.write(text.strip())

    def kt(self, typed: str, expect: int = 0) -> None:
        """Show a command and run it. Raises Unavailable where it ends otherwise than it should."""
        line(f"\n$ kt {typed}", colour="cyan")
        done = subprocess.run(self.command(typed), cwd=self.root, env=self.environment, check=False)
        if done.returncode != expect:
            raise Unavailable(
                f"kt {typed} ended with {done.returncode}", do=f"the workspace is in {self.root}"
            )

    def told(self, act: Callable[[], str]) -> None:
        """Do something once every predictor serves what was decided, and say what came of it."""
        self.settle()
        output.write(f"\n  {act()}")

    def command(self, typed: str) -> list[str]:
        return [*process.command("kt"), *shlex.split(typed)]

    @contextlib.contextmanager
    def beside(self, typed: str) -> Iterator[None]:
        """A command that runs until the block ends."""
        line(f"\n$ kt {typed} &", colour="cyan")
        running = subprocess.Popen(self.command(typed), cwd=self.root, env=self.environment)
        try:
            yield
        finally:
            running.terminate()
            running.wait(END)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """A predictor on a free port. Returns its address."""
        with self.beside("serve --port 0"):
            yield self.settle()

    def watching(self) -> contextlib.AbstractContextManager[None]:
        return self.beside("monitor --watch --quiet")

    def settle(self) -> str:
        """Wait until the predictor serves what the history says. Returns its address."""
        from kt.deployments import audit
        from kt.predictor import presence
        from kt.workspace import Workspace

        workspace = Workspace(self.root)
        _, state = audit.read(workspace)
        if found := presence.found(workspace, state.seq, PATIENCE):
            return found
        raise Unavailable(
            f"no predictor serves event {state.seq}", do="see what holds it up: kt status"
        )

    def until_alert(self) -> None:
        """Wait for an open alert. Raises Unavailable where none comes."""
        from kt.monitors import history
        from kt.workspace import Workspace

        workspace = Workspace(self.root)
        deadline = time.monotonic() + ALERT
        with progress.waiting("until the minute is over, and three looks more"):
            while not history.read(workspace)[1].open:
                if time.monotonic() > deadline:
                    raise Unavailable("no alert has opened", do=f"see: kt -C {self.root} monitor")
                time.sleep(0.2)


def line(text: str, *, bold: bool = False, colour: str | None = None) -> None:
    """With its look where a person sees it."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    print(text if plain else typer.style(text, bold=bold, fg=colour), flush=True)

"""The daemon knows when; the kt command that it starts knows what.

Each task is a process, `kt monitor` or `kt retrain nightly`, as cron would start it: there is one way to run
a job, a crash in it ends nothing else, and its memory comes back. One daemon runs in a workspace. A task
that still runs when it is time again is not started twice; times that passed in sleep are made up for once.

    .kt/daemon.lock   held while it runs
    .kt/daemon.json   since when, what comes next, how each task ended last
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from kt import config, files, locks, process
from kt.config import Settings
from kt.errors import KtError, Refused
from kt.jobs.units import GENTLY
from kt.workspace import Workspace

log = logging.getLogger("kt")

LOCK, CARD = "daemon.lock", "daemon.json"  # in .kt/
LOOK = 0.5  # seconds between two looks at the clock and at what was asked
JUMP = 30.0  # seconds by which the clock must have been set for every time to be made anew
END = 8.0  # seconds that tasks have to end when the daemon is told to
MINUTE, DAY = 60.0, 86_400.0
WELL = (0, 7, 10, 11, 12)  # exit codes that are answers


@dataclass(frozen=True)
class Task:
    """A kt command and how often it is run, in seconds. gentle: whether it gives way to all others."""

    name: str
    arguments: tuple[str, ...]
    every: float
    gentle: bool = False


def tasks(settings: Settings) -> list[Task]:
    """What a workspace asks for. Pure."""
    found = [Task("canary", ("canary", "step", "--quiet"), MINUTE)]
    if settings.store.url:
        found.append(Task("monitor", ("monitor", "--once", "--quiet"), settings.monitor.interval))
    for name, job in settings.jobs.items():
        deploy = () if job.then == "register" else ("--deploy",)
        found.append(
            Task(
                f"retrain {name}",
                ("retrain", name, "--quiet", *deploy),
                settings.daemon.check * MINUTE,
            )
        )
    for name in settings.mastery:
        update = ("mastery", "update", name, "--quiet")
        found.append(Task(f"mastery {name}", update, settings.daemon.check * MINUTE, gentle=True))
    if settings.daemon.gc:
        found.append(Task("gc", ("gc", "--yes", "--quiet"), DAY))
    return found


@dataclass
class Runner:
    """Starts tasks, and remembers how each ended. wanted, ended: by name, the latter for the card."""

    workspace: Workspace
    now: Callable[[], datetime]
    wanted: dict[str, Task] = field(default_factory=dict)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    _running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, task: Task) -> None:
        """Run a task to its end. What it says goes where the daemon's own words go."""
        with self._lock:
            if self._stopping:
                return
            started = subprocess.Popen(
                [
                    *(GENTLY if task.gentle else ()),
                    *process.command("kt"),
                    *("-C", str(self.workspace.root)),
                    *task.arguments,
                ],
                stdin=subprocess.DEVNULL,
                env=process.environment(),
                # a terminal's ctrl-C, or its end, comes to the daemon alone, which tells them
                process_group=0,
            )
            self._running[task.name] = started
        code = started.wait()
        with self._lock:
            del self._running[task.name]
        self.ended[task.name] = {"at": iso(self.now()), "exit": code}
        if code not in WELL and not self._stopping:
            log.warning("kt: %s ended with %d", task.name, code)

    def runs(self, task: Task) -> bool:
        with self._lock:
            return task.name in self._running

    def stop(self, seconds: float) -> None:
        """Let no task begin, and those that run end: by themselves when they are told, else by force."""
        with self._lock:
            self._stopping = True
            left = list(self._running.values())
        until = time.monotonic() + seconds
        for number in (signal.SIGTERM, signal.SIGKILL):
            for one in left:
                with contextlib.suppress(ProcessLookupError):
                    one.send_signal(number)
            while time.monotonic() < until and any(one.poll() is None for one in left):
                time.sleep(0.05)
            left = [one for one in left if one.poll() is None]


def serve(
    workspace: Workspace, now: Callable[[], datetime], said: Callable[[list[str]], None]
) -> None:
    """Run the tasks of a workspace until it is told to end (SIGTERM, SIGINT). SIGHUP reads kt.toml again.

    said: told the names of its tasks, once. Raises Refused where a daemon runs here already.
    """
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    asked = Asked()
    runner = Runner(workspace, now)
    with alone(workspace, now), asked.listening():
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(64)},
            job_defaults={"misfire_grace_time": None},  # late is better than never
            timezone="UTC",
        )
        scheduler.start()
        began = iso(now())
        plan(scheduler, runner, tasks(workspace.settings))
        said(list(runner.wanted))
        offset = now().timestamp() - time.monotonic()
        while not asked.end.wait(LOOK):
            if asked.again.is_set():
                asked.again.clear()
                reread(workspace, scheduler, runner)
            moved = now().timestamp() - time.monotonic() - offset
            if abs(moved) > JUMP:  # a machine that slept, or a clock that was set
                log.warning("kt: the clock moved by %+.0f s: every task is due now", moved)
                offset += moved
                plan(scheduler, runner, [*runner.wanted.values()])
            post(workspace, began, scheduler, runner)
        log.info("kt: the daemon ends")
        scheduler.pause()
        runner.stop(END)
        scheduler.shutdown(wait=False)
        files.discard(workspace.local / CARD)


@dataclass
class Asked:
    """What signals have asked for."""

    end: threading.Event = field(default_factory=threading.Event)
    again: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        def heard(number: int, _: FrameType | None) -> None:
            (self.again if number == signal.SIGHUP else self.end).set()

        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = [(number, signal.signal(number, heard)) for number in wanted]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)


def plan(scheduler: Any, runner: Runner, wanted: list[Task]) -> None:
    """The scheduler's tasks are these, and each is due now. One that runs comes when it has ended."""
    for job in scheduler.get_jobs():
        job.remove()
    runner.wanted = {task.name: task for task in wanted}
    for task in wanted:
        if not runner.runs(task):
            add(scheduler, runner, task, runner.now())


def add(scheduler: Any, runner: Runner, task: Task, at: datetime) -> None:
    """One time rather than an interval: what a machine slept through, or a clock jumped over, is one time."""

    def due() -> None:
        began = runner.now()
        runner.run(task)
        after = runner.wanted.get(task.name)
        if after is not None and scheduler.running:
            wait = timedelta(seconds=after.every)
            following = max(runner.now(), began + wait)
            add(scheduler, runner, after, min(following, runner.now() + wait))

    scheduler.add_job(due, "date", run_date=at, id=task.name, replace_existing=True)


def reread(workspace: Workspace, scheduler: Any, runner: Runner) -> None:
    """kt.toml as it is now; as it was where it is wrong."""
    try:
        settings = config.load(workspace.root / "kt.toml")
    except KtError as error:
        log.warning("kt: kt.toml is not read again: %s", error)
        return
    plan(scheduler, runner, tasks(settings))
    log.info("kt: kt.toml is read again: %s", ", ".join(runner.wanted))


@contextlib.contextmanager
def alone(workspace: Workspace, now: Callable[[], datetime]) -> Iterator[None]:
    """Hold the daemon's lock for the block. Raises Refused, naming who holds it."""
    words = f"process {os.getpid()}, since {iso(now())}"
    with locks.holding(workspace.local / LOCK, words) as holder:
        if holder:
            raise Refused(f"a daemon runs here already: {holder}", do="see what it does: kt status")
        yield


def post(workspace: Workspace, began: str, scheduler: Any, runner: Runner) -> None:
    """The card, where it has changed."""
    following = {
        job.id: iso(job.next_run_time) for job in scheduler.get_jobs() if job.next_run_time
    }
    card = {"pid": os.getpid(), "since": began, "next": following, "last": dict(runner.ended)}
    data = json.dumps(card, indent=1).encode() + b"\n"
    path = workspace.local / CARD
    with contextlib.suppress(OSError, KtError):
        if not path.exists() or path.read_bytes() != data:
            with files.unseen():
                files.write_whole(path, data)


@dataclass(frozen=True)
class Standing:
    """The daemon of a workspace, as others see it. next, last: by task; those of a dead one too."""

    running: bool
    next: dict[str, str]
    last: dict[str, dict[str, Any]]
    since: str = ""


def standing(workspace: Workspace) -> Standing:
    try:
        card = json.loads(files.read(workspace.local / CARD))
        found = Standing(
            is_held(workspace.local / LOCK),
            {str(name): str(at) for name, at in card["next"].items()},
            {str(name): dict(one) for name, one in card["last"].items()},
            str(card["since"]),
        )
    except (OSError, KtError, ValueError, KeyError, TypeError, AttributeError):
        return Standing(is_held(workspace.local / LOCK), {}, {})
    return found


def is_held(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not locks.take(descriptor)
    finally:
        os.close(descriptor)


def line(
    found: Standing, checks: dict[str, Any], now: datetime, ago: Callable[[float], str]
) -> str:
    """How the daemon stands, in a few words; without one, when cron last looked. checks: by job, when
    each was last looked at."""
    if found.running:
        times = sorted(found.next.values())
        following = f", next check {times[0][11:16]} UTC" if times else ""
        return f"running{following}"
    seen = [str(one.get("at", "")) for one in checks.values() if isinstance(one, dict)]
    latest = max((at for at in seen if at), default="")
    if not latest:
        return ""
    with contextlib.suppress(ValueError):
        gone = max(now - datetime.fromisoformat(latest), timedelta())
        return f"not running, last check {ago(gone.total_seconds())} ago"
    return ""


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")

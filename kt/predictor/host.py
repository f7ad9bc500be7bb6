"""Holds the versions that serve, and swaps them when active.json changes.

    loaded = host.current        one attribute read; a request keeps it to its end

A thread looks at active.json every `predictor.poll` seconds. What is new is loaded, checked and
warmed beside what serves, then one assignment swaps all of it or, where anything fails, nothing.

What is served is remembered in .kt/live.json, so that a restart keeps to it. Whatever is not followed
(following.py) is reported: in `state`, in the log once, and on the card of this process (presence.py). A version that has ended too many workers is not loaded (quarantine.py), and a treatment
that does harm gets no traffic (brake.py).
"""

import atexit
import ctypes
import json
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from kt import clock, files
from kt.config import Settings, check_name
from kt.deployments import manifest as manifests
from kt.deployments.manifest import MANIFEST, REPLACED, Manifest, Trial
from kt.errors import KtError, Unavailable
from kt.predictor import brake, quarantine, record
from kt.predictor import engine as engines
from kt.predictor.aside import Aside
from kt.predictor.brake import Brake
from kt.predictor.engine import Incremental, Key
from kt.predictor.following import identity, peek, read, refusal
from kt.predictor.loaded import (
    NOTHING,
    Loaded,
    Ready,
    describe,
    key_of,
    previous,
    serving,
    streams,
    warm,
)
from kt.predictor.presence import LIVE, Place, Presence
from kt.predictor.quarantine import Calls, Noted
from kt.predictor.record import Recorder
from kt.predictor.sampler import Sampler
from kt.predictor.shadow import Answering, Shadow
from kt.predictor.states import Remembering, States
from kt.predictor.writer import Recording, Writer
from kt.registry import signing
from kt.store.tally import Report, Tally, merged, reports
from kt.workspace import Workspace

log = logging.getLogger("kt")

LOCAL = ".kt"
RETRIES = (2.0, 60.0)  # seconds until what did not load is tried again: at first, at most
TELL = 2.0  # seconds between two cards that tell what shadows are found to say, or that replace one that is gone
NICE = 5  # of loading: it gets a third of what serving gets of a core


@dataclass(frozen=True)
class State:
    """reason: why it is degraded. since: when it became so, ISO 8601."""

    status: str  # ok | degraded
    reason: str
    since: str


@dataclass
class Host:
    """root: the workspace, or a copy of its folders. address: where it is reached, for others to know."""

    root: Path
    settings: Settings
    address: str = ""
    calls: Calls = field(default_factory=Calls)
    brake: Brake = field(default_factory=Brake)
    recorder: Recorder = field(default_factory=Recorder)
    writer: Writer | None = None
    current: Loaded = NOTHING
    fallbacks: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    answering: Answering = field(default_factory=Answering)
    state: State = State("ok", "", "")
    _begun: dict[Aside, float] = field(default_factory=dict)
    _follows: bool = False  # one request from the shell leaves no trace in .kt/
    _seen: object = None  # the identity of manifest and quarantine when they were last read
    _retry: tuple[float, float] = (0.0, 0.0)  # when, on the monotonic clock, and after which wait
    _stop: threading.Event = field(default_factory=threading.Event)
    _place: Place | None = None
    # shadows that ended, of which more may be told
    _over: list[Shadow] = field(default_factory=list)
    _told: float = 0.0  # when the card was last written, or tried to be, on the monotonic clock
    _untold: str = ""  # why it could not be
    _card: Recording = field(default_factory=Recording)  # what it says of recording

    # What serves

    def start(self) -> None:
        """Load what there is to serve, and follow active.json from now on. Raises nothing: a
        predictor without a version waits for its first one."""
        self._follows = True
        with suppress(OSError):  # told of by _post
            self._place = Place(self.root / LOCAL)
        self._record()
        self.open()
        self._post()
        threading.Thread(target=self._follow, name="kt-follow", daemon=True).start()
        atexit.register(self.close)

    def _record(self) -> None:
        """Count what is answered from now on, unless kt.toml says otherwise."""
        if self.settings.store.url:
            sampler = Sampler(self.settings)
            self.recorder = Recorder(on=True, sampler=sampler if sampler.on else None)
            self.writer = Writer(self.root, self.settings, self.recorder, self.compared)
            self.writer.start()

    def open(self) -> None:
        """Load what there is to serve: what was served last, or what has been deployed since."""
        self.state = State("ok", "", now())
        live, found = self._live(), peek(self.root / MANIFEST)
        if live is not None and (found is None or refusal(live, found, self._replaced())):
            self._try(live)  # what was served stands; look() says why
        self.look()
        if live is not None and self.current is NOTHING:
            self._try(live)

    def close(self) -> None:
        """Stop following; what was counted is written, and the card is removed."""
        self._stop.set()
        if self.writer:
            self.writer.close()
        if self._place:
            self._post()
            self._place.leave()
            self._place = None
        atexit.unregister(self.close)

    def fell_back(self, model: str, experiment: str, version: str, reason: str) -> None:
        """A treatment failed and the control answered. reason: failed | invalid | slow."""
        self.fallbacks[model, experiment, version, reason] += 1

    # Following the manifest

    def _follow(self) -> None:
        if sys.platform == "linux":  # where that is this thread's alone
            os.nice(NICE)
        while not self._stop.wait(self.settings.predictor.poll):
            try:
                self.brake.look()
                self.brake.write(self.root / LOCAL)
                self.look()
                self._forget()
                gone = self._place is not None and self._place.gone
                if self.recording != self._card or (
                    time.monotonic() - self._told > TELL and (gone or self.reports)
                ):
                    if gone and self.current is not NOTHING:
                        self._remember(self.current.follows)
                    self._post()
            except Exception:  # the thread must outlive whatever a manifest or a family does
                log.exception("kt: looking for a new manifest failed")

    def look(self) -> None:
        """Follow active.json where it has changed, or where it could not be followed before."""
        local = [self.root / LOCAL / name for name in (quarantine.FILE, brake.FILE, REPLACED)]
        seen = (*map(identity, (self.root / MANIFEST, *local)), self.brake.trips)
        at, wait = self._retry
        if seen == self._seen and not (wait and time.monotonic() >= at):
            return
        self._seen, self._retry = seen, (0.0, 0.0)
        try:
            found = read(self.root / MANIFEST)
            reason = refusal(self.current.follows, found, self._replaced())
        except FileNotFoundError:
            reason = f"{MANIFEST} is missing" if self.current is not NOTHING else ""
            found = self.current.follows
        except KtError as error:
            found, reason = self.current.follows, str(error)
        if reason:
            found = self.current.follows
        served = found == self.current.follows and self._spared(found)[0] == self.current.manifest
        if served or self._try(found):
            self._report("; ".join(filter(None, (reason, self.current.why))))
        else:
            wait = min(2 * wait or RETRIES[0], RETRIES[1])
            self._retry = (time.monotonic() + wait, wait)

    def _spared(self, found: Manifest) -> tuple[Manifest, str]:
        """A manifest without what is in quarantine and what does harm, and why."""
        local = self.root / LOCAL
        spared, held = quarantine.without(found, quarantine.read(local))
        spared, out = brake.without(spared, brake.read(local).added(self.brake.trips))
        return spared, "; ".join(filter(None, (held, out)))

    def _try(self, found: Manifest) -> bool:
        """Serve `found`, all of it that is in no quarantine, or nothing. What served before goes on
        where anything fails."""
        before = self.current
        self.calls.seq = found.seq
        try:
            what, why = self._spared(found)
            after = Loaded(what, self._load_all(what, before), found, why)
            after = replace(after, streams=streams(after), shadows=self._shadows(after, before))
        except Exception as error:  # noqa: BLE001  # a family is foreign code: whatever it raises, the old version serves
            self._report(f"seq {found.seq} cannot be served: {str(error) or type(error).__name__}")
            return False
        if self._follows:
            self._remember(found)  # first: whoever was answered by it is so after a restart too
        self.brake.follow([pair for each in after.streams.values() for pair in record.pairs(each)])
        self.current = after
        log.info("serving seq %d: %s", found.seq, describe(what))
        if self._follows:
            self._keep(what, before)
            self._post()
        self.states.only(self.current.ready)
        return True

    def _load_all(self, found: Manifest, before: Loaded) -> dict[Key, Ready]:
        """What serves under `found`, taken over from `before` where it is loaded."""
        return {
            key: before.ready.get(key) or self._load(key) for key in dict.fromkeys(serving(found))
        }

    def _shadows(self, after: Loaded, before: Loaded) -> dict[str, Shadow]:
        """The shadows among what is loaded, taken over where nothing has changed for them."""
        found = {}
        if self._follows:
            for model, route in after.manifest.models.items():
                trial, old = route.experiment, before.shadows.get(model)
                if trial and trial.shadow:
                    found[model] = (
                        old if old and old.trial == trial else self._shadow(after, model, trial)
                    )
        self._over += [one for model, one in before.shadows.items() if found.get(model) is not one]
        self.calls.mark(
            {
                key_of(model, one)
                for model, shadow in found.items()
                for one in shadow.trial.treatments
            }
        )
        return found

    def _shadow(self, loaded: Loaded, model: str, trial: Trial) -> Shadow:
        ready = loaded.of(model, trial.treatments[0])
        form = loaded.of(model, loaded.manifest.models[model].active).engine.form
        timeout = self.settings.predictor.timeout
        return Shadow(model, trial, ready.engine, ready.aside, form, self.answering, timeout)

    @property
    def reports(self) -> list[Report]:
        """What the shadows were found to say, by this process and those that ended before it."""
        routes = self.current.follows.models
        now = {
            (model, route.experiment.phase) for model, route in routes.items() if route.experiment
        }
        left = reports(self._place.left if self._place else ())
        own = [shadow.report for shadow in self.current.shadows.values()]
        return merged([*(one for one in left if (one.model, one.phase) in now), *own])

    def compared(self) -> dict[tuple[str, str, str, int], Tally]:
        """What each shadow was found to say since this was last asked."""
        over, self._over = self._over, []
        found: dict[tuple[str, str, str, int], Tally] = {}
        for one in (*over, *self.current.shadows.values()):
            if (fresh := one.take()) != Tally():
                name = one.report.shadow
                found[name] = found.get(name, Tally()) + fresh
        return found

    def _load(self, key: Key) -> Ready:
        check_name(key.model, "a model")
        check_name(key.version, "a version")
        if self.settings.signing.require_signature:
            signing.check(Workspace(self.root), self.settings.signing, *key)
        note = self.calls.note(key)
        with note:
            engine = engines.load(self.root, key, self.settings.predictor)
            kind = warm(engine, key)
        give_back()
        parts, aside = (engine.form, engine.signature, note), Aside(self._begun)
        if isinstance(engine, Incremental) and self.states.most:
            return Ready(key.version, Remembering(engine, *parts, key, self.states), aside, kind)
        return Ready(key.version, Noted(engine, *parts), aside, kind)

    @property
    def longest_aside(self) -> float:
        """Seconds that a treatment or a shadow has been at its call, also one that serves no more."""
        now = time.monotonic()
        return max((now - since for since in list(self._begun.values())), default=0.0)

    @cached_property
    def states(self) -> States:
        return States(self.settings.predictor.state_cache_mb * 1_000_000)

    def _keep(self, what: Manifest, before: Loaded) -> None:
        """Load what a rollback would need. Not a part of serving: what fails here is left out."""
        for key in previous(what, self.settings.predictor.keep_previous, clock.now()):
            try:
                ready = before.ready.get(key) or self._load(key)
            except Exception as error:  # noqa: BLE001  # as above
                log.warning(
                    "kt: %s %s is not kept for a rollback: %s", key.model, key.version, error
                )
                continue
            self.current = replace(self.current, ready={**self.current.ready, key: ready})

    def _forget(self) -> None:
        """Let go of previous versions whose time is over."""
        loaded = self.current
        keep = {*serving(loaded.manifest)}
        keep.update(previous(loaded.manifest, self.settings.predictor.keep_previous, clock.now()))
        if not keep.issuperset(loaded.ready):
            kept = {key: ready for key, ready in loaded.ready.items() if key in keep}
            self.current = replace(loaded, ready=kept)
            self.states.only(kept)
            self._post()

    # What others are told

    def unserved(self) -> Unavailable:
        """Why no request can be answered while there is nothing that answers."""
        if self.state.reason:
            return Unavailable("what is deployed cannot be served", do="see why: kt status")
        return Unavailable("nothing is deployed yet", do="kt deploy FILE")

    @property
    def recording(self) -> Recording:
        return self.writer.recording if self.writer else Recording()

    def _report(self, reason: str) -> None:
        """Degraded for this reason, or well again where there is none: one line in the log a change."""
        if reason == self.state.reason:
            return
        self.state = State("degraded" if reason else "ok", reason, now())
        if self._follows:
            log.warning("kt: %s", f"degraded: {reason}" if reason else "well again")
            self._post()

    def _post(self) -> None:
        self._told, self._card, untold = time.monotonic(), self.recording, ""
        try:
            self._place = self._place or Place(self.root / LOCAL)
            self._place.tell(self.presence())
        except OSError as error:
            untold = error.strerror or str(error)
        if untold and untold != self._untold:  # once, however often it is tried
            log.warning("kt: others are not told what this process serves: %s", untold)
        self._untold = untold

    def presence(self) -> Presence:
        loaded, state = self.current, self.state
        return Presence(
            pid=os.getpid(),
            host=socket.gethostname(),
            address=self.address,
            seq=loaded.manifest.seq,
            head=loaded.manifest.head,
            versions=[
                {"model": key.model, "version": key.version, "engine": ready.engine.runtime}
                for key, ready in loaded.ready.items()
            ],
            state=state.status,
            reason=state.reason,
            since=state.since,
            shadows=[one.card() for one in self.reports],
            recording=self._card.card(),
        )

    def _replaced(self) -> Collection[str]:
        """The events that a person has let go."""
        try:
            found = json.loads(files.read(self.root / LOCAL / REPLACED))
        except (FileNotFoundError, KtError, ValueError):
            return ()
        return found if isinstance(found, list) else ()

    def _live(self) -> Manifest | None:
        """The manifest that was served last on this machine."""
        return peek(self.root / LOCAL / LIVE)

    def _remember(self, served: Manifest) -> None:
        live = self._live()
        if live is not None and live.seq >= served.seq:
            return
        try:
            files.write_whole(self.root / LOCAL / LIVE, manifests.dump(served))
        except KtError as error:
            log.warning("kt: a restart will not remember seq %d: %s", served.seq, error)


def make_host(root: str | Path, address: str = "") -> Host:
    workspace = Workspace(Path(root).resolve())
    return Host(workspace.root, workspace.settings, address)


def now() -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def give_back() -> None:
    """To the system, what loading and warming took for a moment: the C library would keep it."""
    with suppress(AttributeError, OSError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)

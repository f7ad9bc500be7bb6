"""What bench/crash.py works on: a machine that deploys, or two that share a repository and a store, as
folders beside each other; what is typed there; and what is to be seen of them from outside.

    ours/ theirs/     workspaces      bare/     the repository they share      store/     the weights they share
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forge
import observed

from kt import doctor, git, journal
from kt.deployments import audit, manifest
from kt.deployments.events import HISTORY
from kt.errors import KtError
from kt.registry import absence, load, record
from kt.workspace import Workspace


@dataclass(frozen=True)
class Scene:
    """before: what is typed first, each on a machine. command: what the faults strike, on `at`.

    more: typed twice it does more, though never where the first was killed. again: there too.
    partly: it may stop half way, each part of it old or new. also: what observed.py prepares.
    """

    command: str
    before: tuple[str, ...] = ()
    at: str = "ours"
    shared: bool = False
    more: bool = False
    again: bool = False
    partly: bool = False
    also: str = ""


TRIAL = ("ours deploy m@v1", "ours deploy m@v2 -t 10 --ab-test x")
PUSHED = ("ours deploy m@v5", "ours push")
SCENES = {
    "deploy": Scene("deploy m@v3", ("ours deploy m@v1",)),
    "promote": Scene("promote x --force --reason bench", TRIAL),
    "rollback": Scene(
        "rollback", ("ours deploy m@v1", "ours deploy m@v2", "ours deploy m@v3"), more=True
    ),
    "ramp": Scene("ramp x 20", TRIAL),
    "end": Scene("end x", TRIAL),
    "step": Scene(
        "canary step --now",
        ("ours deploy m@v1", "ours deploy m@v2 --canary 5,25,50,100 --every 1h --ab-test x"),
        more=True,
    ),
    "register": Scene("register ../new.pt --model n", ("ours deploy m@v1",)),
    "file": Scene("deploy ../new.pt --model n", ("ours deploy m@v1",)),
    "gc": Scene("gc --keep 1 --yes", ("ours deploy m@v3",), partly=True),
    "push": Scene("push", ("ours deploy m@v5",), shared=True, partly=True),
    "pull": Scene("pull", PUSHED, at="theirs", shared=True),
    "monitor": Scene("monitor", ("ours deploy m@v1",), again=True, partly=True, also="alert"),
    "abort": Scene("monitor", TRIAL, again=True, partly=True, also="trip"),
    "silence": Scene(
        "alerts silence error_rate --for 2h --reason bench",
        ("ours deploy m@v1",),
        again=True,
        also="alert",
    ),
    "feedback": Scene(
        "feedback --file ../outcomes.jsonl", ("ours deploy m@v1",), partly=True, also="outcomes"
    ),
    "rotate": Scene("key rotate", ("ours deploy m@v1",), again=True, also="key"),
    "retrain": Scene(
        "retrain nightly --deploy --force",
        ("ours deploy m@v1",),
        again=True,
        partly=True,
        also="job",
    ),
}
# Two at once, on one machine where each of them has something to do; `pull` where another has pushed.
BOTH = (
    "ours deploy m@v1", "ours deploy n@v1", "ours deploy m@v2", "ours deploy m@v3 -t 10 --ab-test x",
)  # fmt: skip
RACES = {
    "deploy": "deploy n@v2",
    "promote": "promote x --force --reason bench",
    "rollback": "rollback --model m",
    "register": "register ../new.pt --model k",
    "gc": "gc --keep 1 --yes",
    "push": "push",
    "pull": "pull",
    "monitor": "monitor",  # where the predictors have taken the treatment out
    "retrain": "retrain nightly --deploy --force",
}
ALSO = {"monitor": "trip", "retrain": "job"}


def make(root: Path, scene: Scene) -> None:
    """The world of a scene, ready for its command."""
    place = forge.workspace(root / "ours", git=True)
    (place.root / ".gitignore").write_text("\n".join([*doctor.IGNORED, ""]))
    for name in ("v1", "v2", "v3", "v4"):
        forge.version(place, "m", name)
        forge.version(place, "n", name)
    git.start(place.root)
    typed(place.root, "git", "add", ".")
    typed(place.root, "git", "commit", "--quiet", "-m", "begin")
    save(root / "new.pt")
    if scene.shared:
        import machines  # it loads pytest

        two = machines.two(place, command)
        machines.register(two.ours, "v5")
    for line in scene.before:
        machine, *words = line.split()
        typed(root / machine, sys.executable, "-m", "kt", *words)
    if scene.also:
        observed.PREPARED[scene.also](place, root)
        typed(place.root, "git", "add", ".")
        typed(place.root, "git", "commit", "--quiet", "--allow-empty", "-m", "what is watched")


def command(*words: str, at: Workspace) -> Any:
    """kt as machines.py has it typed."""
    typed(at.root, sys.executable, "-m", "kt", *words)
    return SimpleNamespace(code=0)


def save(path: Path) -> None:
    """A small checkpoint."""
    from kt.models import checkpoint, sakt  # they load torch

    config = sakt.Config(items=5, d_model=8, heads=2, window=10)
    checkpoint.save(
        path,
        family="sakt",
        config=config,
        signature=sakt.signature(config),
        state_dict=sakt.Model(config).state_dict(),
        scores={},
        training={},
    )


def typed(at: Path, *words: str) -> str:
    return subprocess.run(words, cwd=at, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Seen:
    """A world from outside, without what differs from run to run: times, and digests that cover them.

    events: of the machine's history. versions: by their folder, the record and where the weights are.
    branch: the events of the shared history. store: the digests that it has. also: see observed.py.
    """

    events: tuple[str, ...]
    versions: Mapping[str, tuple[str, str]]
    branch: tuple[str, ...] = ()
    store: frozenset[str] = frozenset()
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def look(root: Path, scene: Scene) -> Seen:
    """Raises KtError, OSError or CalledProcessError where a part cannot be read."""
    place = Workspace((root / scene.at).resolve())
    book, _ = audit.read(place)
    found = place.root / manifest.MANIFEST
    if found.exists():
        manifest.parse(found.read_bytes())
    versions = {
        f"{model}/{version}": seen(place, model, version)
        for model in record.models(place)
        for version in record.versions(place, model)
    }
    branch: tuple[str, ...] = ()
    if (root / "bare").exists():
        shared = journal.parse(shown(root / "bare").encode(), Path("bare"))
        journal.check(shared, Path("bare"))
        branch = tuple(map(essence, shared))
    folder = root / "store" / "weights"
    names = [path.name for path in folder.glob("[0-9a-f]*")]
    for name in names:
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != name:
            raise KtError("holds other bytes than its name says", where=f"store/weights/{name}")
    also = observed.seen(place, root) if scene.also else {}
    return Seen(tuple(map(essence, book.events)), versions, branch, frozenset(names), also)


def shown(bare: Path) -> str:
    return typed(bare, "git", "show", f"HEAD:{HISTORY}")


def essence(event: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in event.items() if key not in ("at", "prev")})


def seen(place: Workspace, model: str, version: str) -> tuple[str, str]:
    known = record.read(place, model, version)
    try:
        load.check(record.weights(place.root, model, version), known.sha256)
        where = "here"
    except KtError as error:
        where = "away" if absence.of(place, model, version) else error.what
    same = known.model_copy(update={"created_at": "", "digest": "", "gates": ()})
    return same.model_dump_json(), where


def served(events: tuple[str, ...]) -> set[str]:
    """The digests of all weights that a history names."""
    return {digest for event in map(json.loads, events) if (digest := event.get("sha256"))}

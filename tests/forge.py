"""Workspaces and versions without torch: what a registry holds, written by hand in milliseconds."""

import json
from collections.abc import Iterable
from pathlib import Path

from kt import config, files, journal
from kt.deployments import audit, deploy, events, manifest
from kt.deployments.events import AnyEvent
from kt.deployments.plan import Candidate, Stamp
from kt.registry import record
from kt.registry.record import RECORD, WEIGHTS, Source, Spec, Verdict, VersionRecord
from kt.workspace import ROOMS, Workspace

STAMP = Stamp("ana", "2026-01-12T09:00:00Z")
SPEC = Spec(
    family="sakt",
    config={"items": 10},
    form="kt.models.tracing",
    signature={"items": ["1"], "categories": 2, "window": 20},
)


def workspace(root: Path, *, git: bool = False) -> Workspace:
    """An empty workspace, without a repository unless the test makes one."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "kt.toml").write_text(config.template() if git else 'git = "off"\n')
    for room in ROOMS:
        (root / room).mkdir(exist_ok=True)
    return Workspace(root.resolve())


def version(
    place: Workspace, model: str, name: str, *, failed: bool = False, padding: int = 0
) -> Candidate:
    """A registered version with weights of its own.

    failed: a gate has refused it, past which it was forced. padding: bytes more than it needs.
    """
    folder = record.folder(place, model, name)
    folder.mkdir(parents=True)
    known = draft(folder, model, name, failed=failed, padding=padding)
    (folder / RECORD).write_bytes(record.dump(known))
    return Candidate(model, name, known.sha256, failed)


def draft(
    folder: Path, model: str, name: str, *, failed: bool = False, padding: int = 0
) -> VersionRecord:
    """The record of a version whose weights, unlike any others, are written into `folder`."""
    header = json.dumps({"__metadata__": {"kt": SPEC.model_dump_json(), "name": f"{model} {name}"}})
    text = header.encode() + b" " * (padding + -(len(header) + padding) % 8)
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)
    sha256 = files.digest(folder / WEIGHTS)
    return VersionRecord(
        model=model,
        version=name,
        spec=SPEC,
        sha256=sha256,
        size=(folder / WEIGHTS).stat().st_size,
        parameters=0,
        source=Source(name=f"{name}.pt", format="torch", sha256=sha256, size=1),
        parent=None,
        scores={"metric": "auc", "auc": 0.7},
        training={},
        gates=(Verdict(gate="latency", passed=not failed, sentence="p95 9 ms (bound 100)"),),
        created_at=STAMP.at,
        by=STAMP.by,
        made_with={"kt": "0", "torch": "0"},
    )


def write(place: Workspace, happened: Iterable[AnyEvent]) -> None:
    """A history and its manifest, as if these events had been planned one after the other."""
    book = journal.Journal(place.root / events.HISTORY, [], b"")
    book = book.append([events.body(event) for event in happened])
    files.write_whole(book.path, book.text)
    state = audit.read(place)[1]
    files.write_whole(place.root / manifest.MANIFEST, manifest.dump(manifest.manifest(state)))


def give(
    place: Workspace, candidate: Candidate, traffic: float | None = None, name: str = ""
) -> deploy.Done:
    """kt deploy MODEL@VERSION."""
    return deploy.deploy(place, candidate, STAMP, traffic=traffic, experiment=name, dry_run=False)


def back(
    place: Workspace, model: str = "m", version: str = "", *, bad: bool = False
) -> deploy.Done:
    """kt rollback."""
    return deploy.roll_back(place, lambda _: model, STAMP, version=version, bad=bad)

"""What is known of a version: its record, its name, and where it lies.

    registry/<model>/<version>/
        model.safetensors          the weights; never changed once written
        model.onnx                 the same as an ONNX graph, where there is one (onnx.py)
        model.steps.safetensors    its steps as ONNX graphs, where there are any (steps.py)
        record.json                what is below
        record.json.sig            its signature, where somebody has signed it (signing.py)

The weights' own header names family, configuration, form and signature (`Spec`), so that their
sha256 covers everything that the predictor needs and nothing else must be trusted. The record repeats
them for people. `digest` covers the record itself: a flipped bit in it is found by `kt verify`.
"""

import base64
import hashlib
import operator
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kt import files
from kt.errors import Corrupt, Invalid
from kt.stats.latency import Sketch
from kt.stats.scores import Histogram
from kt.workspace import Workspace

FOLDER = "registry"
WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
STEPS = "model.steps.safetensors"
RECORD = "record.json"
SIGNATURE = "record.json.sig"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Spec(Part):
    """What runs a version: its family and configuration, and what a request looks like."""

    family: str  # a name in kt/models, or a dotted path
    config: dict[str, Any]
    form: str  # the dotted path of the family's form
    signature: dict[str, Any]


class Verdict(Part):
    """What one gate found. measured and bound are in the gate's own unit, named in the sentence."""

    gate: str
    passed: bool
    safety: bool = False  # never skipped by --force
    measured: float | None = None
    bound: float | None = None
    sentence: str


class Source(Part):
    """The file that a version was registered from."""

    name: str
    format: str
    sha256: Sha256
    size: int  # bytes


class Exported(Part):
    """A file that kt made of a version: its sha256 and size in bytes; or why there is none."""

    sha256: Sha256 | Literal[""] = ""
    size: int = 0
    why: str = ""


BEFORE = Exported(why="it was registered without")  # by a kt that made none
NONE = Exported()
Blob = Annotated[str, Field(max_length=1 << 16)]  # base64


class Reference(Part):
    """What a version said on held-out data and how good that was: what live traffic is compared with.

    source: "evaluation", the set in kt.toml; "test", what training kept; of kt calibrate "data" that it was
    given or "outcomes" of live traffic.
    n: predictions. accuracy and ece (10 bins): of the positive of two categories, of the likeliest of more.
    scores: a Histogram, as dumped; features: a Sketch of each, of some of the requests.
    """

    source: Literal["evaluation", "test", "data", "outcomes"]
    n: Annotated[int, Field(ge=1)]
    accuracy: float
    ece: float
    scores: Blob
    features: Annotated[dict[str, Blob], Field(max_length=16)] = {}

    def histogram(self) -> Histogram:
        """Raises Corrupt, as the others do."""
        return opened(Histogram.load, self.scores)

    def sketch(self, feature: str) -> Sketch:
        return opened(Sketch.load, self.features[feature])

    def check(self) -> None:
        self.histogram()
        for feature in self.features:
            self.sketch(feature)


T = TypeVar("T")


def opened(load: Callable[[bytes], T], blob: str) -> T:
    try:
        return load(base64.b64decode(blob, validate=True))
    except (ValueError, zlib.error, struct.error) as error:
        raise Corrupt(f"a reference that cannot be read: {error}", do=RESTORE) from error


class VersionRecord(Part):
    """A version's record.json."""

    kt: Literal[1] = 1
    model: str
    version: str
    spec: Spec
    sha256: Sha256  # of the weights
    size: int  # bytes of the weights
    parameters: int
    source: Source
    parent: str | None  # the active version when this one was registered
    scores: dict[str, Any]  # as trained, on its own held-out data
    training: dict[str, Any]
    gates: tuple[Verdict, ...]
    created_at: str
    by: str
    reason: str = Field(default="", exclude_if=operator.not_)  # why it was registered
    trusted: str = Field(
        default="", exclude_if=operator.not_
    )  # why the file's code was run (trusted.py)
    reference: Reference | None = Field(default=None, exclude_if=operator.not_)
    graph: Exported = Field(default=BEFORE, exclude_if=lambda graph: graph == BEFORE)
    # of a family that has states
    steps: Exported = Field(default=NONE, exclude_if=lambda steps: steps == NONE)
    made_with: dict[str, str]  # kt and torch versions
    digest: str = ""

    @property
    def exports(self) -> dict[str, Exported]:
        """What kt made of the weights, by file; only what there is."""
        both = {GRAPH: self.graph, STEPS: self.steps}
        return {file: made for file, made in both.items() if made.sha256}

    @property
    def engines(self) -> str:
        """Which engines may run the version."""
        if not self.graph.sha256:
            return f"torch; no ONNX graph: {self.graph.why}"
        steps = ""
        if self.steps.sha256:
            steps = f", and its states: {STEPS}, sha256 {self.steps.sha256[:12]}…"
        elif self.steps.why:
            steps = f", which keeps no states: {self.steps.why}"
        return f"torch, or ONNX Runtime: {GRAPH}, sha256 {self.graph.sha256[:12]}…{steps}"


def folder(workspace: Workspace, model: str, version: str) -> Path:
    return workspace.root / FOLDER / model / version


def weights(root: Path, model: str, version: str) -> Path:
    """Where a version's weights lie, in a workspace or in a copy of its folders."""
    return root / FOLDER / model / version / WEIGHTS


def graph(root: Path, model: str, version: str) -> Path:
    """Where a version's ONNX graph lies, if it has one."""
    return root / FOLDER / model / version / GRAPH


def discard_exports(root: Path, model: str, version: str) -> None:
    """Remove what was made of a version's weights: without them it is nothing."""
    for file in (STEPS, GRAPH):
        files.discard(root / FOLDER / model / version / file)


def dump(record: VersionRecord) -> bytes:
    """A record as it is written, its digest filled in."""
    sealed = record.model_copy(update={"digest": digest(record)})
    return orjson.dumps(
        sealed.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


def digest(record: VersionRecord) -> str:
    body = record.model_dump(mode="json", exclude={"digest"})
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read(workspace: Workspace, model: str, version: str) -> VersionRecord:
    """A version's record. Raises Invalid for an unknown version, Corrupt where it is not as written."""
    path = folder(workspace, model, version) / RECORD
    try:
        return parse(files.read(path), path)
    except FileNotFoundError:
        raise unknown(workspace, model, version) from None


def parse(data: bytes, path: Path) -> VersionRecord:
    """A record's bytes; its path, which need not be on disk, names model and version. Raises Corrupt."""
    try:
        record = VersionRecord.model_validate_json(data)
    except ValidationError as error:
        raise Corrupt(
            f"is not a record: {error.errors()[0]['msg']}", where=str(path), do=RESTORE
        ) from error
    if record.digest != digest(record) or (record.model, record.version) != path.parts[-3:-1]:
        raise Corrupt("is not what kt wrote", where=str(path), do=RESTORE)
    return record


RESTORE = "take the committed file back: git checkout -- registry, then kt verify"


def unknown(workspace: Workspace, model: str, version: str) -> Invalid:
    known = models(workspace)
    register = "register one: kt deploy FILE --model NAME"
    if model not in known:
        do = f"there are: {', '.join(known)}" if known else register
        return Invalid(f"there is no model {model}", do=do)
    there = versions(workspace, model)
    do = f"it has: {listing(there)}" if there else register
    return Invalid(f"{model} has no version {version}", do=do)


def listing(names: list[str], most: int = 10) -> str:
    """The last few of many names."""
    return ", ".join(names) if len(names) <= most else f"…, {', '.join(names[-most:])}"


def models(workspace: Workspace) -> list[str]:
    return subfolders(workspace.root / FOLDER)


def versions(workspace: Workspace, model: str) -> list[str]:
    """A model's versions, oldest name first: v2 before v10."""
    found = subfolders(workspace.root / FOLDER / model)
    return sorted((name for name in found if is_version(workspace, model, name)), key=natural)


def is_version(workspace: Workspace, model: str, name: str) -> bool:
    return (folder(workspace, model, name) / RECORD).exists()


def subfolders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts digits as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def next_version(workspace: Workspace, model: str) -> str:
    """The next free vN. What is there counts, also where it is no version."""
    taken = subfolders(workspace.root / FOLDER / model)
    numbers = [int(name[1:]) for name in taken if re.fullmatch(r"v\d{1,9}", name)]
    return f"v{max(numbers, default=0) + 1}"


def records(workspace: Workspace, model: str) -> Iterator[VersionRecord]:
    for version in versions(workspace, model):
        yield read(workspace, model, version)

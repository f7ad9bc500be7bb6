"""A file becomes a version: opened, fitted to its family, rewritten as safetensors, gated.

All of this happens in a staging folder, outside the workspace's lock and, by way of `door.py`, in a
process that is shut in; the version comes into being by one rename, in the same change as whatever
gives it traffic. The same bytes again are the same
version.
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ValidationError

from kt import __version__, config, files
from kt.change import Adopt
from kt.errors import Corrupt, Invalid, KtError, Refused
from kt.registry import checkpoint, confine, gate, load, onnx, onnx_steps, record, signing, weights
from kt.registry.checkpoint import Opened
from kt.registry.gate import Subject
from kt.registry.load import Loaded
from kt.registry.record import (
    GRAPH,
    NONE,
    RECORD,
    SIGNATURE,
    STEPS,
    WEIGHTS,
    Exported,
    Reference,
    Source,
    Spec,
    Verdict,
    VersionRecord,
)
from kt.workspace import Workspace

Progress = Callable[[str, str], None]  # the step's name, what came of it

READING = 7.0  # seconds of processor time that a file may take to be read, and one more for each READ bytes of it
READ = 500_000


@dataclass(frozen=True)
class Request:
    """A file to register. Empty strings: found out from the file, kt.toml and what there is."""

    path: Path
    model: str = ""
    version: str = ""
    family: str = ""
    config: Path | None = None
    example: Path | None = None
    force: bool = False
    trust: str = ""  # why code in the file may run, shut in
    by: str = ""
    at: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Prepared:
    """A version that is ready to be adopted, or is there already (`existing`).

    parent: the version that was active when the gates compared. forced: past a gate's refusal.
    """

    model: str
    wanted: str
    existing: str
    parent: str | None
    forced: bool
    draft: VersionRecord
    staged: Path
    heals: bool = False  # the existing version's files are gone or damaged, and these are they

    @property
    def sha256(self) -> str:
        return self.draft.sha256

    def settled(self, workspace: Workspace) -> "Prepared":
        """As it stands under the lock: another command may have registered these weights meanwhile."""
        known = None if self.existing else same(workspace, self.draft)
        if known is None:
            return self
        refuse_other_name(self.wanted, known)
        return replace(self, existing=known.version, draft=known)

    def version(self, workspace: Workspace) -> str:
        """The version's name; for a new one decided under the lock."""
        if self.existing:
            return self.existing
        if not self.wanted:
            return record.next_version(workspace, self.model)
        if record.folder(workspace, self.model, self.wanted).exists():
            raise Refused(
                f"{self.model}@{self.wanted} exists with other weights, and versions never change",
                do="leave --version out for the next free one",
            )
        return self.wanted

    def adopt(self, workspace: Workspace) -> list[Adopt]:
        """What makes the version part of the registry; nothing where it is already."""
        there = self.existing and record.weights(workspace.root, self.model, self.existing).exists()
        if there and not self.heals:
            return []  # not there: `kt gc` has removed them since this was prepared
        version = self.version(workspace)
        path = f"{record.FOLDER}/{self.model}/{version}"
        if self.existing:
            back = [name for name in (WEIGHTS, GRAPH, STEPS) if (self.staged / name).exists()]
            return [Adopt(self.staged / name, f"{path}/{name}", ()) for name in back]
        written = self.draft.model_copy(update={"version": version})
        data = record.dump(written)
        with files.unseen():
            files.write_whole(self.staged / RECORD, data)
            kept = [RECORD]
            if key := workspace.settings.signing.key:
                signature = signing.sign(data, workspace.root / Path(key).expanduser())
                files.write_whole(self.staged / SIGNATURE, signature)
                kept.append(SIGNATURE)
        return [Adopt(self.staged, path, tuple(f"{path}/{name}" for name in kept))]


def prepare(
    workspace: Workspace,
    request: Request,
    file: Path,
    source: Source,
    folder: Path,
    active: Mapping[str, str],
    progress: Progress,
) -> Prepared:
    """An open file made ready to be a version, in `folder`. The door runs it shut in.

    active: the active version of each model, what the gates compare with. Raises Invalid or Refused.
    """
    with confine.within(READING + source.size / READ):
        opened = checkpoint.read(file, source, request.path)
    model = choose_model(workspace, request, opened)
    if request.version:
        config.check_name(request.version, "a version")
    spec, code, settings = fit(workspace, request, opened, model)
    module = load.fill(code, settings, opened.tensors, request.path)
    staged = folder / "version"
    staged.mkdir()
    metadata = {"kt": spec.model_dump_json()}
    with weights.writing(module.state_dict(), metadata, staged / WEIGHTS) as sha256:
        draft = VersionRecord(
            model=model,
            version="",
            spec=spec,
            sha256=sha256,
            size=(staged / WEIGHTS).stat().st_size,
            parameters=sum(tensor.numel() for tensor in module.parameters()),
            source=source,
            parent=active.get(model),
            scores=opened.scores,
            training=opened.training,
            reference=said(opened.reference, request.path),
            gates=(),
            created_at=request.at,
            by=request.by,
            reason=request.reason,
            made_with={"kt": __version__, "torch": importlib.metadata.version("torch")},
        )
        ready = judged(workspace, request, draft, staged, progress)  # while the disk takes it
    return with_graphs(workspace, ready)


def judged(
    workspace: Workspace, request: Request, draft: VersionRecord, staged: Path, progress: Progress
) -> Prepared:
    """The draft with its gates' verdicts, or the version that it already is."""
    if known := same(workspace, draft):
        refuse_other_name(request.version, known)
        heals = not intact(
            load.check_all, record.folder(workspace, known.model, known.version), known
        )
        progress(
            "known",
            f"{draft.model} {known.version}" + (", its weights are put back" if heals else ""),
        )
        failed = any(not verdict.passed for verdict in known.gates)
        return Prepared(draft.model, "", known.version, draft.parent, failed, known, staged, heals)
    candidate = subject(workspace, request, draft, staged)
    verdicts = run_gates(workspace, request, draft, candidate)
    forced = any(not verdict.passed for verdict in verdicts)
    marks = {"gates": verdicts, "reference": measured(candidate) or draft.reference}
    return Prepared(
        *(draft.model, request.version, "", draft.parent, forced),
        draft=draft.model_copy(update=marks),
        staged=staged,
    )


def with_graphs(workspace: Workspace, ready: Prepared) -> Prepared:
    """With the ONNX graphs of a new version, or those that a known one gets back with its weights."""
    draft, staged = ready.draft, ready.staged
    if not ready.existing:
        made = exported(workspace, draft, staged)
        marks = {"graph": made[GRAPH], "steps": made[STEPS]}
        return replace(ready, draft=draft.model_copy(update=marks))
    if ready.heals and draft.exports:
        for file, again in exported(workspace, draft, staged).items():
            if draft.exports.get(file) != again:
                files.discard(staged / file)  # by another torch: torch serves it
    return ready


def exported(workspace: Workspace, draft: VersionRecord, staged: Path) -> dict[str, Exported]:
    """The staged version as ONNX graphs beside its weights, by file; or why there are none.

    Steps come first: the graph looks up the tables that lie in their file.
    """

    def opened() -> Loaded:
        return load.open_weights(workspace.root, staged / WEIGHTS, draft.spec)

    of = opened, staged, draft.size, workspace.settings.predictor.engine
    steps = onnx_steps.made(*of)
    graph = onnx.made(*of)
    if not graph.sha256:  # nobody would look for steps
        files.discard(staged / STEPS)
        steps = NONE
    return {GRAPH: graph, STEPS: steps}


def refuse_other_name(wanted: str, known: VersionRecord) -> None:
    if wanted not in ("", known.version):
        raise Refused(
            f"these weights are {known.model}@{known.version} already", do="leave --version out"
        )


def opened(workspace: Workspace, path: Path) -> tuple[Loaded, dict[str, Any]]:
    """A model file in memory, and what it tells of its training. Raises Invalid."""
    with TemporaryDirectory(prefix="kt-") as folder, checkpoint.opening(path) as (file, source):
        # of a copy: the module's weights lie in it for longer than the file may stay as it is
        held = checkpoint.read(checkpoint.copied(file, path, Path(folder)), source, path)
        spec, family, settings = fit(workspace, Request(path), held, "")
        module = load.fill(family, settings, held.tensors, path)
    signature = family.FORM.Signature.model_validate(spec.signature)
    return Loaded(spec, family, family.FORM, signature, module), held.training


def found(workspace: Workspace, what: str) -> tuple[Loaded, dict[str, Any]]:
    """A checkpoint file or MODEL@VERSION in memory, and what it tells of its training. Raises Invalid."""
    path = Path(what)
    name, at, version = what.partition("@")
    if path.exists() or not at:
        return opened(workspace, path)
    if not name or not version:
        raise Invalid(
            f"{what[:64]!r} names no version", do="write it as MODEL@VERSION; see them: kt models"
        )
    known = record.read(workspace, name, version)
    return load.load(workspace.root, name, version, known.sha256), known.training


def choose_model(workspace: Workspace, request: Request, opened: Opened) -> str:
    """The model that a file is a version of."""
    known = record.models(workspace)
    name = named_model(workspace, request, opened.model)
    if not name and not known:
        name = (
            (request.family or opened.family).rpartition(".")[2].lower()
        )  # the first model: named after its family
    if not name:
        if not known:
            raise checkpoint.refuse_unknown_family(request.path)
        raise Invalid(
            f"{request.path.name} may be a version of several models",
            do=f"name one: --model {' | '.join(known)}",
        )
    return config.check_name(name, "a model")


def named_model(workspace: Workspace, request: Request, said: str = "") -> str:
    """The model that is named, by the command, the file or kt.toml, or the only one; else empty."""
    name = request.model or said or workspace.settings.model
    known = record.models(workspace)
    return known[0] if not name and len(known) == 1 else name


def fit(
    workspace: Workspace, request: Request, opened: Opened, model: str
) -> tuple[Spec, Any, BaseModel]:
    """The family, configuration and signature of the weights. Raises Invalid where they do not fit."""
    name = request.family or opened.family or workspace.settings.of(model).family
    if not name:
        raise checkpoint.refuse_unknown_family(request.path)
    if opened.family and name != opened.family:
        raise Invalid(
            f"holds weights of {opened.family}, not of {name}",
            where=str(request.path),
            do="leave --family out",
        )
    code = load.family(workspace.root, name)
    given, signature = opened.config, opened.signature
    if request.config is not None:
        given, signature = checkpoint.read_config(request.config)
    where = str(request.config or request.path)
    try:
        settings = code.Config.model_validate(given)
        signed = (
            code.FORM.Signature.model_validate(signature) if signature else code.signature(settings)
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(str(part) for part in first["loc"])
        raise Invalid(
            f"the configuration of {name}: {what}: {first['msg']}",
            where=where,
            do="name it: --config FILE",
        ) from error
    spec = Spec(
        family=name,
        config=settings.model_dump(mode="json"),
        form=code.FORM.__name__,
        signature=signed.model_dump(mode="json"),
    )
    return spec, code, settings


def same(workspace: Workspace, draft: VersionRecord) -> VersionRecord | None:
    """The version that holds these very weights under the same configuration."""
    for version in record.versions(workspace, draft.model):
        try:
            known = record.read(workspace, draft.model, version)
        except Corrupt:
            continue  # `kt verify` reports it
        if known.sha256 == draft.sha256:
            return known
    return None


def intact(check: Callable[..., Any], *what: Any) -> bool:
    """Whether a check of a version's files finds nothing."""
    try:
        check(*what)
    except KtError:
        return False
    return True


def subject(workspace: Workspace, request: Request, draft: VersionRecord, staged: Path) -> Subject:
    """The staged version, loaded as the predictor would load it."""
    return Subject(
        request.path.name,
        load.open_weights(workspace.root, staged / WEIGHTS, draft.spec),
        staged / WEIGHTS,
        evaluation_set(workspace, draft.model),
        draft.scores,
    )


def evaluation_set(workspace: Workspace, model: str) -> Path | None:
    name = workspace.settings.of(model).evaluation
    return workspace.root / name if name else None


def run_gates(
    workspace: Workspace, request: Request, draft: VersionRecord, candidate: Subject
) -> tuple[Verdict, ...]:
    """The candidate before every gate, beside the version that is active."""
    baseline = None
    if draft.parent is not None:
        held = record.read(workspace, draft.model, draft.parent)
        path = record.weights(workspace.root, draft.model, draft.parent)
        if intact(load.check, path, held.sha256):
            baseline = Subject(
                f"{draft.model}@{draft.parent}",
                load.open_weights(workspace.root, path, held.spec),
                path,
                candidate.evaluation,
            )
    plugins_of = [*workspace.settings.gate, *workspace.settings.of(draft.model).gate]
    return gate.run(candidate, baseline, workspace.root, plugins_of, force=request.force)


def measured(candidate: Subject) -> Reference | None:
    """The reference of what it says of the evaluation set, where there is one."""
    from kt.models.family import is_trainable

    loaded = candidate.loaded
    if candidate.evaluation is None or not is_trainable(loaded.family):
        return None
    from kt.models import reference, task

    data = gate.held_out(loaded.family.TASK, candidate.evaluation)
    found = reference.of(
        *("evaluation", task.of(loaded.family), loaded.form, loaded.signature),
        data,
        candidate.predicted,
    )
    return found and Reference.model_validate(found)


def said(reference: Mapping[str, Any], path: Path) -> Reference | None:
    """The reference that a checkpoint brings, if it does. Raises Invalid where it is none."""
    if not reference:
        return None
    try:
        return Reference.model_validate(reference)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"]))
        raise Invalid(
            f"its reference: {what}: {first['msg']}",
            where=str(path),
            do="save it again with kt train, or without its reference",
        ) from error

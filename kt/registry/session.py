"""A version's ONNX graph in ONNX Runtime: what serves it without torch.

The graph names the weights beside it, and tables of its steps, by their place in their files (onnx.py), which
the runtime maps into memory as torch does. Digests of all are compared at every load.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ValidationError

from kt import plugins
from kt.errors import Corrupt, Unavailable
from kt.models.family import Arrays
from kt.registry import load as versions
from kt.registry import record
from kt.workspace import Workspace

FORM = ("Signature", "Request", "collate", "answer")
WEIGHTS_IN = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Session:
    """A version in memory. alone: its graph runs one request at a time."""

    form: Any  # a models.family.Form
    signature: BaseModel
    call: Callable[[list[str], dict[str, np.ndarray]], list[np.ndarray]]
    inputs: tuple[str, ...]  # those that the graph looks at
    outputs: tuple[str, ...]
    alone: bool
    runtime: ClassVar[str] = "onnx"

    @property
    def bounded(self) -> bool:
        return plugins.is_ours(self.form)  # a graph has no loop but over what it is given

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The form's arrays through the graph, as named arrays."""
        count = len(next(iter(arrays.values())))
        if not self.alone or count == 1:
            return self._together({name: arrays[name] for name in self.inputs})
        rows = [
            self._together({name: arrays[name][row : row + 1] for name in self.inputs})
            for row in range(count)
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in self.outputs}

    def _together(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.call(list(self.outputs), arrays), strict=True))


def load(root: Path, model: str, version: str, sha256: str, threads: int) -> Session:
    """The version whose weights have this digest. Raises Unavailable where it has no graph or nothing
    here runs one, Corrupt where graph or weights are not what kt wrote."""
    known = record.read(Workspace(root), model, version)
    if known.sha256 != sha256:
        raise Corrupt(f"the record of {model}@{version} names other weights", do=record.RESTORE)
    if not known.graph.sha256:
        raise Unavailable(
            f"{model}@{version} has no ONNX graph: {known.graph.why}",
            do='let torch run it: [predictor] engine = "auto"',
        )
    spec = versions.check(record.weights(root, model, version), sha256)
    path = record.graph(root, model, version)
    for file, made in known.exports.items():
        versions.check_export(path.with_name(file), made.sha256)
    form = plugins.load("models", spec.form, root, FORM)
    try:
        signature = form.Signature.model_validate(spec.signature)
    except ValidationError as error:
        raise Corrupt(
            f"{spec.form} does not take this signature",
            where=str(path),
            do="take back the code that it was registered with, or register it anew",
        ) from error
    return opened(path, form, signature, threads)


def opened(path: Path, form: Any, signature: BaseModel, threads: int = 1) -> Session:
    """A graph, already checked, ready to run. threads: of one call."""
    session = started(str(path), path, threads)
    return Session(
        form,
        signature,
        session.run,
        tuple(one.name for one in session.get_inputs()),
        tuple(one.name for one in session.get_outputs()),
        alone=isinstance(session.get_outputs()[0].shape[0], int),
    )


def runtime() -> Any:
    """ONNX Runtime, which tells nobody of it: from 1.32 on it would give this machine an id, kept in the home
    folder, and send Microsoft what it runs and on what. Raises ImportError."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # disable_telemetry_events() would come too late
    import onnxruntime

    return onnxruntime


def started(graph: str | bytes, path: Path, threads: int) -> Any:
    """ONNX Runtime with a graph, a file's name or its bytes. path: of the file that it is in, beside its weights."""
    try:
        onnxruntime = runtime()
    except ImportError as error:
        raise Unavailable("onnxruntime is not installed", do="pip install 'kt[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails raises
    # every history has a length of its own: what is planned for one is of no use to the next
    options.enable_mem_pattern = False
    # what a large batch needed would be kept for good
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(WEIGHTS_IN, str(path.parent))
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises its own, of many kinds
        what = " ".join(str(error).split())[:200]
        raise Corrupt(
            f"ONNX Runtime cannot load it: {what}",
            where=str(path),
            do='let torch run it: [predictor] engine = "auto"',
        ) from error

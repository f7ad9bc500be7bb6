"""A file that is code, run on a person's word, so that what it holds can be read as data.

    pickled module, checkpoint, joblib    unpickled, its classes from the workspace's folder
    TorchScript                           torch.jit.load
    torch.export, not plain data          torch.export.load

What comes out is written anew: with a family its weights (safetensors), without one a program (.pt2),
traced with an example of its inputs (export.py). Only a child that is shut in runs this (door.py), and
nothing that it says is believed: the file that it leaves goes through the door as any stranger's would,
in a process where none of its code runs.
"""

import io
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.errors import Invalid, Refused
from kt.registry import checkpoint, export, weights
from kt.registry.record import Source
from kt.workspace import Workspace

if TYPE_CHECKING:
    import torch
    from torch import nn

LEFT = "left"  # the file that the code leaves
EXAMPLE = (
    'give an example of its inputs, --example FILE: a request, {"inputs": {"x": [[0.5, 1.0]]}}, '
    "or tensors by name; or name the family of its weights: --family F"
)


def refuse_forbidden(workspace: Workspace, what: str) -> None:
    """Raises Refused where kt.toml does not let code become a version."""
    if not workspace.settings.registry.trust_code:
        raise Refused(
            f"{what}, which trust_code = false in kt.toml forbids",
            where="[registry]",
            do="export the model: torch.export.save, or save its weights",
        )


def rewrite(
    root: Path,
    file: Path,
    source: Source,
    path: Path,
    folder: Path,
    *,
    family: str,
    example: Path | None,
) -> None:
    """Leave in `folder` what a file that is code holds; nothing, and run nothing, where it is plain data.

    family: empty for a program. Raises Invalid where it holds neither a module nor weights.
    """
    if is_data(file, source, path):
        return
    warnings.simplefilter("ignore")  # torch's advice to whoever wrote the file
    sys.path.insert(0, str(root))
    held = opened(file, source, path)
    if family:
        tensors = checkpoint.named_tensors(state_of(held, path), path)
        weights.write(tensors, {}, folder / LEFT)
        return
    if is_program(held):
        import torch

        torch.export.save(held, folder / LEFT)
        return
    export.write(module_of(held, path), inputs_of(example, held, path), folder / LEFT, path)


def is_data(file: Path, source: Source, path: Path) -> bool:
    """Whether the strict reading is enough."""
    if source.format in checkpoint.CODE:
        return False
    try:
        checkpoint.read(file, source, path)
    except Invalid:
        return False
    return True


def opened(file: Path, source: Source, path: Path) -> Any:
    """The object in the file: a module, a program or a state dict. This runs whatever code is in it."""
    import joblib
    import torch

    def torch_file(file: Path) -> Any:
        return torch.load(file, map_location="cpu", weights_only=False)

    def script(file: Path) -> Any:
        return torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]

    def exported(file: Path) -> Any:
        # of a path it asks for the ending .pt2, and an open file it cannot read twice
        return torch.export.load(io.BytesIO(file.read_bytes()))

    loaders: dict[str, Callable[[Path], Any]] = {
        "TorchScript": script,
        "torch.export": exported,
        "torch.export legacy": exported,
        "pickle": joblib.load,
        "joblib": joblib.load,
    }
    try:
        found = loaders.get(source.format, torch_file)(file)
    except Exception as error:  # it may raise anything
        raise Invalid(
            f"cannot be loaded: {export.said(error)}",
            where=str(path),
            do="its classes are looked for in the workspace's folder and among the installed packages; "
            "one that the saving script defined itself (__main__) must come from a module",
        ) from error
    if isinstance(found, Mapping):
        inner = (found.get(key) for key in checkpoint.NESTED)
        found = next(
            (value for value in inner if isinstance(value, Mapping | torch.nn.Module)), found
        )
    return found


def is_program(held: Any) -> bool:
    from torch.export import ExportedProgram

    return isinstance(held, ExportedProgram)


def state_of(held: Any, path: Path) -> "Mapping[str, torch.Tensor]":
    """The weights by name. Raises Invalid where there are none."""
    import torch

    if is_program(held):
        return dict(held.state_dict)
    if isinstance(held, torch.nn.Module):
        return held.state_dict()
    if isinstance(held, Mapping):
        return held
    raise Invalid(
        f"holds a {type(held).__name__}, neither a module nor weights",
        where=str(path),
        do="save the module, or model.state_dict()",
    )


def module_of(held: Any, path: Path) -> "nn.Module":
    import torch

    if isinstance(held, torch.nn.Module):
        return held
    what = "weights" if isinstance(held, Mapping) else f"a {type(held).__name__}"
    raise Invalid(
        f"holds {what}, no module", where=str(path), do="name the family of its weights: --family F"
    )


def inputs_of(example: Path | None, module: Any, path: Path) -> "Mapping[str, torch.Tensor]":
    """The example's tensors by name: of a request as JSON, or of any file that kt opens. Raises Invalid."""
    import torch

    from kt.models.tensors import Request

    if example is None:
        raise Invalid(f"holds the module {type(module).__name__}", where=str(path), do=EXAMPLE)
    try:
        data = example.read_bytes()
    except OSError as error:
        raise Invalid(
            f"cannot be read: {error.strerror}", where=str(example), do=EXAMPLE
        ) from error
    if b"\0" in data[:512]:
        with checkpoint.opening(example) as (file, source):
            return checkpoint.read(file, source, example).tensors
    try:
        request = Request.model_validate_json(data)
        return {name: torch.tensor(value) for name, value in request.inputs.items()}
    except (ValueError, TypeError, RuntimeError) as error:
        raise Invalid(
            f"is no request: {export.said(error)}", where=str(example), do=EXAMPLE
        ) from error

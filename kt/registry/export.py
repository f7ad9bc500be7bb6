"""A module becomes a program that answers alike: traced with an example of its inputs.

The first axis of the first input is a batch, which all inputs that begin with as many rows share: any
number of rows where the module allows it, else those of the example. Every other axis is as in the
example; who wants more exports the model where it was trained.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.errors import Invalid
from kt.registry import program

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    Inputs = Mapping[str, torch.Tensor]

CLOSE = 1e-5  # how much a program's answer may differ from the module's


def write(module: "nn.Module", example: "Inputs", out: Path, path: Path) -> None:
    """The module as a torch.export archive in `out`. path: the file that it came from.

    Raises Invalid where torch cannot make a program of it, or none that answers as it does.
    """
    import torch

    module.eval()
    inputs = in_order(module, example, path)
    problem = ""
    for free in (True, False):
        rows = rows_of(inputs)
        sizes = (max(rows, 2), 1, 2 * rows + 1) if free and rows else (rows,)
        seen = [resized(inputs, size) for size in sizes]
        try:
            torch.export.save(traced(module, seen[0], free=free), out)
            served = as_served(out)
            if all(alike(served, module, one) for one in seen):
                return
            problem = "its program does not answer as it does"
        except Exception as error:  # noqa: BLE001  # tracing runs the module, which may raise anything
            problem = said(error)
    raise Invalid(
        f"cannot be made a program: {problem}",
        where=str(path),
        do="export it where it was trained, torch.export.save, or name the family of its weights: --family F",
    )


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def in_order(module: "nn.Module", example: "Inputs", path: Path) -> "Inputs":
    """The example's inputs in the order of the module's arguments. Raises Invalid where they do not fit."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        arguments = module.forward.schema.arguments[1:]  # type: ignore[attr-defined]  # compiled
        names = {argument.name: argument.has_default_value() for argument in arguments}
    else:
        parameters = inspect.signature(module.forward).parameters.values()
        names = {
            parameter.name: parameter.default is not parameter.empty
            for parameter in parameters
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
    missing = [name for name, optional in names.items() if name not in example and not optional]
    if missing or not names.keys() >= example.keys():
        raise Invalid(
            f"takes the inputs {', '.join(names)}, the example has {', '.join(example) or 'none'}",
            where=str(path),
            do="name them in --example as the arguments of its forward",
        )
    return {name: example[name] for name in names if name in example}


def rows_of(inputs: "Inputs") -> int:
    first = next(iter(inputs.values()), None)
    return len(first) if first is not None and first.ndim else 0


def resized(inputs: "Inputs", size: int) -> "Inputs":
    """The same inputs with so many rows, taken in turn."""
    import torch

    rows = rows_of(inputs)
    return {
        name: tensor[torch.arange(size) % rows]
        if rows and tensor.ndim and len(tensor) == rows
        else tensor
        for name, tensor in inputs.items()
    }


def traced(module: "nn.Module", inputs: "Inputs", *, free: bool) -> "ExportedProgram":
    """free: the batch may be of any size."""
    import torch
    from torch.export import Dim

    if isinstance(module, torch.jit.ScriptModule):
        module = unscripted(module, inputs)
    rows, batch = rows_of(inputs), {0: Dim("batch", min=1)}
    shapes = {
        name: batch if tensor.ndim and len(tensor) == rows else None
        for name, tensor in inputs.items()
    }
    return torch.export.export(
        module, (), dict(inputs), dynamic_shapes=shapes if free else None, strict=False
    )


def unscripted(script: "torch.jit.ScriptModule", inputs: "Inputs") -> "nn.Module":
    """A TorchScript module as one that torch.export takes, its inputs under the same names."""
    from torch import nn
    from torch._export.converter import TS2EPConverter

    inner = TS2EPConverter(script, tuple(inputs.values()), {}).convert().module(check_guards=False)

    def forward(*positional: Any, **named: Any) -> Any:
        return inner(*positional, *named.values())

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # torch.export names a program's inputs by what the signature says
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in inputs])
    forward.__signature__ = signature  # type: ignore[attr-defined]

    class Unscripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.forward = forward

    return Unscripted()


def as_served(written: Path) -> "nn.Module":
    """A program as the predictor runs it. Raises Invalid where it cannot."""
    from kt.models import exported

    tensors, config = program.read(written, written)
    served = exported.Model(exported.Config.model_validate(config))
    served.load_state_dict(tensors)
    return served


def alike(served: "nn.Module", module: "nn.Module", inputs: "Inputs") -> bool:
    """Whether both answer alike."""
    import torch
    from torch.utils import _pytree as trees

    with torch.inference_mode():
        ours, theirs = served(**inputs), trees.tree_leaves(module(**inputs))
    try:
        torch.testing.assert_close(ours, theirs, rtol=CLOSE, atol=CLOSE)
    except AssertionError:
        return False
    return True

"""A version becomes a module in eval mode: digest checked, weights mapped, not copied.

The digest is compared at every load, not only at registration: torch loads a file with a flipped
bit without a word. The weights stay a private map of the file, so that several workers share one
copy in memory and a swap costs no allocation of the model's size.
"""

import json
import os
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ValidationError

from kt import files, plugins
from kt.errors import Corrupt, Invalid
from kt.registry import record
from kt.registry.record import Spec, VersionRecord

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch.overrides import TorchFunctionMode

    from kt.models.family import Arrays

FAMILY = ("Config", "Model", "FORM", "METRIC", "signature")


@dataclass(frozen=True)
class Loaded:
    """A version in memory. module: in eval mode, without gradients."""

    spec: Spec
    family: ModuleType
    form: Any  # a models.family.Form
    signature: BaseModel
    module: "torch.nn.Module"
    runtime: ClassVar[str] = "torch"

    @property
    def bounded(self) -> bool:
        return plugins.is_ours(self.family) and plugins.is_ours(self.form)

    def run(self, arrays: "Arrays") -> "dict[str, np.ndarray]":
        """The form's arrays through the module, as named arrays."""
        import torch

        with torch.inference_mode():
            serve: Callable[..., dict[str, torch.Tensor]] = self.module.serve  # type: ignore[assignment]
            outputs = serve(**{name: torch.from_numpy(array) for name, array in arrays.items()})
            return {name: tensor.numpy() for name, tensor in outputs.items()}


def family(root: Path, name: str) -> ModuleType:
    """A family's module by its name or dotted path. Raises Invalid."""
    return plugins.load("models", name, root, FAMILY)


def load(root: Path, model: str, version: str, sha256: str) -> Loaded:
    """The version whose weights have this digest. Raises Corrupt where they have not."""
    path = record.weights(root, model, version)
    spec = check(path, sha256)
    return open_weights(root, path, spec)


def check(path: Path, sha256: str) -> Spec:
    """What a weights file says of itself, once its digest is known to be right."""
    if path.is_symlink() or not path.is_file():
        raise Corrupt(
            "the weights are missing" if not path.exists() else "the weights are no file",
            where=str(path),
            do=GET,
        )
    found = files.digest(path)
    if found != sha256:
        raise Corrupt(
            f"the weights have sha256 {found[:12]}…, not {sha256[:12]}…", where=str(path), do=GET
        )
    return header(path)


EXPORTS = {record.GRAPH: "the ONNX graph has", record.STEPS: "the graphs of its steps have"}


def check_export(path: Path, sha256: str) -> None:
    """Raises Corrupt where what was made of a version's weights is not there, or is another file."""
    if path.is_symlink() or not path.is_file():
        raise Corrupt(f"{path.name} is missing", where=str(path), do=GET)
    found = files.digest(path)
    if found != sha256:
        what = EXPORTS[path.name]
        raise Corrupt(f"{what} sha256 {found[:12]}…, not {sha256[:12]}…", where=str(path), do=GET)


def check_all(folder: Path, known: VersionRecord) -> Spec:
    """`check` of a version's weights in its folder, and `check_export` of what was made of them."""
    spec = check(folder / record.WEIGHTS, known.sha256)
    for file, made in known.exports.items():
        check_export(folder / file, made.sha256)
    return spec


GET = "get it from another machine: kt pull; or register the same file again: kt register FILE"


def header(path: Path) -> Spec:
    """The Spec in a safetensors header. Torch-free."""
    with files.named("read", path), path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(100_000_000, os.fstat(file.fileno()).st_size):
            raise Corrupt("is no safetensors file", where=str(path), do=GET)
        text = file.read(size)
    try:
        said = json.loads(text)["__metadata__"]["kt"]
        return Spec.model_validate_json(said)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupt("does not say which family it holds", where=str(path), do=GET) from error


def open_weights(root: Path, path: Path, spec: Spec) -> Loaded:
    """Weights, already checked, as a module of their family."""
    from safetensors import SafetensorError, safe_open

    code = family(root, spec.family)
    try:
        config = code.Config.model_validate(spec.config)
        signature = code.FORM.Signature.model_validate(spec.signature)
    except ValidationError as error:
        raise Corrupt(
            f"{spec.family} does not take this configuration: {error.errors()[0]['msg']}",
            where=str(path),
            do="take back the code that it was registered with, or register it anew",
        ) from error
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise Corrupt(f"is no safetensors file: {error}", where=str(path), do=GET) from error
    module = fill(code, config, tensors, path)
    return Loaded(spec, code, code.FORM, signature, module)


def fill(
    code: ModuleType, config: Any, tensors: "dict[str, torch.Tensor]", path: Path
) -> "torch.nn.Module":
    """The family's module with these tensors as its parameters, strictly."""
    own: Mapping[str, torch.Tensor] = {}
    try:
        with unfilled():
            module = code.Model(config)
        own = module.state_dict()
        fitted = {name: as_in(tensor, own.get(name)) for name, tensor in tensors.items()}
        module.load_state_dict(fitted, strict=True, assign=True)
    except Exception as error:  # a family refuses a configuration in its own way
        raise Invalid(misfit(error), where=str(path), do=to_fit(tensors, own)) from error
    result: torch.nn.Module = module.requires_grad_(False).eval()
    return result


def as_in(tensor: "torch.Tensor", own: "torch.Tensor | None") -> "torch.Tensor":
    """A real tensor in the precision that the family computes in."""
    both = own is not None and own.is_floating_point() and tensor.is_floating_point()
    return tensor.to(own.dtype) if both and own is not None else tensor


RANDOM = {
    *("normal_", "uniform_", "trunc_normal_", "exponential_", "bernoulli_"),
    *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_", "orthogonal_"),
}


def unfilled() -> "TorchFunctionMode":
    """Parameters are not filled with random numbers: their memory, never touched, is never taken.

    Not the meta device, which computes some of its shapes in Python and imports sympy and the
    compiler for it: 0.6 s and 90 MB of every process that serves. What a constructor computes
    without randomness (a buffer that is not saved) is computed.
    """
    from torch.overrides import TorchFunctionMode

    class Unfilled(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "") in RANDOM:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    return Unfilled()


def misfit(error: Exception) -> str:
    """torch lists every key that does not fit; a person reads the first of each kind."""
    lines = [line.strip(" \t.") for line in str(error).splitlines() if line.strip()]
    shown = lines[1:3] or lines[:1]
    return "; ".join(textwrap.shorten(line, 150, placeholder=" …") for line in shown)


WRAPPERS = {
    "module": "DataParallel",
    "_orig_mod": "torch.compile",
}  # by what each puts before names


def to_fit(names: Collection[str], own: Collection[str]) -> str:
    """What to do where weights of these names do not fit. own: the names that the family has."""
    outer = os.path.commonprefix([name.split(".")[:-1] for name in names])  # noqa: RUF071  # of lists: part by part
    fits = (
        depth
        for depth in range(1, len(outer) + 1)
        if {name.split(".", depth)[depth] for name in names} == set(own)
    )
    known = sum(1 for _ in takewhile(WRAPPERS.__contains__, outer))
    if depth := next(fits, known):
        wrapper = WRAPPERS.get(outer[0], "another module")
        return f"{wrapper} wraps it: torch.save(model.{'.'.join(outer[:depth])}.state_dict(), FILE)"
    return "check the family and its configuration"


@contextmanager
def one_thread() -> Iterator[None]:
    """As a worker of the predictor runs a version; and whose results repeat to the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

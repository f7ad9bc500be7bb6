"""A version becomes an ONNX graph as well, so that a predictor can serve it without torch.

    registry/<model>/<version>/model.onnx    the operators; large weights stay in model.safetensors

The graph names its weights by their place in the file beside it, so that they are stored, pushed and
mapped into memory once. So it does with what follows from an item or an answer alone, which a file of steps
beside it has as tables: without them gpcm's takes twice the time. Only kt makes such a file, when the version
is registered, and only one that answers as eager torch does is kept.

torch.onnx.export follows sizes through the program (torch.export), which takes seconds. Its older way,
tracing, takes a twentieth of that and writes the length of the example's history into the graph: SAKT
was 0.2 off at every other length.
"""

import hashlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt import files, reserve
from kt.errors import Unavailable
from kt.registry import apart, weights
from kt.registry.load import Loaded, one_thread
from kt.registry.record import GRAPH, STEPS, WEIGHTS, Exported
from kt.registry.steps import TABLE

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from kt.models.family import Arrays

SECONDS = 60  # of processor time that an export may take
LARGEST = 500_000_000  # bytes of weights: they are run often enough to hold a deploy up
EMBEDDED = 1024  # bytes of a tensor that is written into the graph itself
CUMPROD = 26  # the opset since which ONNX has it
CLOSE = 1e-5  # absolute and relative: how far a number may lie from eager torch's
FEW = 3  # requests that it is exported with
BATCHES = (1, 2, 8, 32)  # requests that it is compared on
NEEDS = ("onnxruntime", "onnxscript", "onnx_ir")


def made(load: Callable[[], Loaded], folder: Path, size: int, engine: str) -> Exported:
    """The graph of the version whose weights lie in `folder`, beside them; or why there is none.

    load: opens the version. size: bytes of its weights. engine: what kt.toml says predictors use.
    Exporting runs in a fork: it may crash or find no end, and the version is none the worse.
    """
    if why := spared(size, engine):
        return Exported(why=why)
    return in_fork(lambda: write(load(), folder), folder / GRAPH)


def in_fork(work: Callable[[], Exported], path: Path) -> Exported:
    """What comes of an export that runs apart, and leaves a file there."""
    try:
        found = apart.run(lambda: work().model_dump(), cpu=SECONDS)
    except apart.Ended as error:
        files.discard(path)
        if error.errno in reserve.FULL:  # which passes, and a version stays as it is
            raise Unavailable(
                f"cannot write {path.name}: {os.strerror(error.errno)}", do="make room: kt gc"
            ) from error
        return Exported(why=f"not exported: {error}")
    return Exported.model_validate(found)


def spared(size: int, engine: str) -> str:
    """Why a version is not exported at all; empty where it is."""
    if engine == "torch":
        return "kt.toml wants none: [predictor] engine"
    if lacks := missing():
        return f"{lacks[0]} was not installed"
    if size > LARGEST:
        return f"its weights have more than {LARGEST:,} bytes"
    return ""


def missing() -> list[str]:
    """What exporting needs and this machine lacks."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def write(loaded: Loaded, folder: Path) -> Exported:
    """The version's graph in `folder`, if it answers as eager torch does.

    Raises whatever the exporter raises, which runs the family's code.
    """
    import onnxscript  # noqa: F401  # before torch traces anything: it may be there and not load

    from kt.models.tables import looked_up
    from kt.registry import session

    few = sample(loaded)
    with one_thread():  # as for the tables of its steps
        loaded.run(few)  # makes them: a program cannot
    has_tables = (folder / STEPS).exists()
    with looked_up() if has_tables else nullcontext():
        model = exported(loaded, few)
        if isinstance(model.graph.outputs[0].shape[0], int):  # its requests cannot be one batch
            model = exported(loaded, {name: array[:1] for name, array in few.items()})
    refer(model, folder / WEIGHTS)
    if has_tables:
        refer_tables(model, folder / STEPS)
    data = serialized(model)
    path = folder / GRAPH
    files.write_whole(path, data)
    ran = session.opened(path, loaded.form, loaded.signature)
    why = next(filter(None, (unlike(loaded.run(one), ran.run(one)) for one in drawn(loaded))), "")
    if why:
        files.discard(path)
        return Exported(why=f"not kept: {why}")
    return Exported(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def sample(loaded: Loaded) -> "Arrays":
    """A few requests, the largest of several draws: an axis of one would be taken for a fixed one."""
    import numpy as np

    rng = np.random.default_rng(0)
    draws = [loaded.form.example(loaded.signature, rng, FEW) for _ in range(8)]
    batches = [loaded.form.collate(requests, loaded.signature) for requests in draws]
    return max(batches, key=lambda arrays: sum(array.size for array in arrays.values()))


def drawn(loaded: Loaded) -> "Iterator[Arrays]":
    """Batches of requests that the signature allows: from one to many, from the shortest to the longest."""
    import numpy as np

    rng = np.random.default_rng(0)
    for count in BATCHES:
        requests = loaded.form.example(loaded.signature, rng, count)
        yield loaded.form.collate(requests, loaded.signature)
        for one in (requests[:1], requests[-1:]) if count > 1 else ():
            yield loaded.form.collate(one, loaded.signature)


def exported(loaded: Loaded, arrays: "Arrays") -> "onnx_ir.Model":
    """The version's `serve` as a graph, of any size along every axis that its code leaves free."""
    import torch

    names = list(arrays)

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = loaded.module

        def forward(self, *tensors: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
            found = loaded.module.serve(**dict(zip(names, tensors, strict=True)))  # type: ignore[operator]  # a family's
            return tuple(found.values())

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    free = {name: range(array.ndim) for name, array in arrays.items()}
    return graph_of(Served(), tensors, list(loaded.run(arrays)), free)


def graph_of(
    module: "torch.nn.Module",
    inputs: "Mapping[str, torch.Tensor]",
    outputs: Sequence[str],
    free: Mapping[str, Iterable[int]],
) -> "onnx_ir.Model":
    """A module as a graph: what it gives for tensors in this order, named. free: the axes of each that may be of any size."""
    import torch

    any_size = torch.export.Dim.AUTO
    with quiet():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(tuple(dict.fromkeys(free[name], any_size) for name in inputs),),
            dynamo=True,
            optimize=False,  # it would write transposed copies of the weights into the graph
            verbose=False,
            custom_translation_table={
                torch.ops.aten.cumprod.default: cumulative_product,
                torch.ops.aten.remainder.Scalar: remainder,
            },
        )
    assert program is not None
    return with_products(program.model)


def cumulative_product(self: Any, dim: int, dtype: int = -1) -> Any:
    """aten.cumprod, which the exporter does not know; as sums, until `with_products`.

    Along the first axis, where the runtime takes a third of the time.
    """
    from onnxscript import opset18 as op

    rank = len(self.shape)
    front = [dim % rank, *(axis for axis in range(rank) if axis != dim % rank)]
    sums = op.CumSum(op.Transpose(self, perm=front), op.Constant(value_int=0))
    return op.Transpose(sums, perm=[front.index(axis) for axis in range(rank)])


def with_products(model: "onnx_ir.Model") -> "onnx_ir.Model":
    """The products that stand in a graph as sums: ONNX has them in a later opset than the exporter's,
    and what that has written means the same there."""
    for node in model.graph:
        origin = str(node.metadata_props.get("pkg.torch.onnx.fx_node", ""))
        if node.op_type == "CumSum" and "aten.cumprod" in origin:
            node.op_type = "CumProd"
            node.version = None
            model.opset_imports[""] = CUMPROD
    return model


def remainder(self: Any, other: Any) -> Any:
    """aten.remainder by a number, which the exporter's own translation wants to know beforehand."""
    from onnxscript import opset18 as op

    other = op.CastLike(other, self)
    if self.dtype.is_floating_point():
        return op.Sub(self, op.Mul(other, op.Floor(op.Div(self, other))))
    return op.Mod(self, other)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks to those who develop exporters."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def refer(model: "onnx_ir.Model", path: Path) -> None:
    """Have the graph name its larger weights by their place in the weights' file."""

    held = weights.places(path)
    for name, value in model.graph.initializers.items():
        place = held.get(name.removeprefix("module."))
        tensor = value.const_value
        if place is not None and tensor is not None and tensor.nbytes >= EMBEDDED:
            value.const_value = lying_at(place, path, name, tensor)


def refer_tables(model: "onnx_ir.Model", path: Path) -> None:
    """The same of the tables that a file of steps has, which are known by what is in them."""
    import numpy as np
    import onnx_ir

    places = weights.places(path)
    tables = {name: one for name, one in weights.mapped(path)[1].items() if name.startswith(TABLE)}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < EMBEDDED or isinstance(tensor, onnx_ir.ExternalTensor):
            continue
        array = tensor.numpy()
        for table, held in tables.items():
            if held.dtype == array.dtype and np.array_equal(held, array):
                value.const_value = lying_at(places[table], path, name, tensor)
                break


def lying_at(place: weights.Place, path: Path, name: str, tensor: Any) -> Any:
    """A graph's tensor as its place in a file beside it."""
    import onnx_ir

    return onnx_ir.ExternalTensor(
        path.name,
        place.begin,
        place.length,
        tensor.dtype,
        shape=tensor.shape,
        name=name,
        base_dir=path.parent,
    )


def serialized(model: "onnx_ir.Model") -> bytes:
    """The same bytes each time, without the paths and lines of the code that was exported."""
    import onnx_ir

    proto: Any = onnx_ir.to_proto(model)
    graph = proto.graph
    del graph.value_info[:]
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def unlike(ours: "Arrays", theirs: "Arrays") -> str:
    """Where a graph's answer is not eager torch's, as a clause; empty where it is."""
    import numpy as np

    for name, array in ours.items():
        other = theirs[name]
        if array.shape != other.shape or array.dtype != other.dtype:
            return f"{name} is {other.dtype} {list(other.shape)}, not {array.dtype} {list(array.shape)}"
        if not np.allclose(array, other, CLOSE, CLOSE, equal_nan=True):
            apart = np.abs(array.astype(np.float64) - other).max()
            return f"{name} differs by {apart:.1e} from eager torch's"
    return ""

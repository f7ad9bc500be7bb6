"""A version's steps become ONNX graphs, so that without torch too one more answer costs no whole history.

torch.export follows one way through the code, and there are several: a window that has room, that is filled,
that is full. They are exported as one program and then cut apart, in half the time, and for one student: to
follow sizes through the program is most of that time.

Only a file by which histories of all lengths are answered as eager torch answers them whole is kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kt import files
from kt.registry import onnx, weights
from kt.registry.load import Loaded, one_thread
from kt.registry.record import NONE, STEPS, WEIGHTS, Exported
from kt.registry.steps import ASK, BEGIN, BEGIN_FULL, FILL, GROW, IN, OUT, PAYS, SLIDE, TABLE

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import torch

    from kt.models.family import Arrays

    Tensors = Mapping[str, torch.Tensor]

SHORT = 8  # answers: in so short a window examples of the three ways are not apart
COMPARED = 6  # answers, from each length that steps are compared from


def made(load: Callable[[], Loaded], folder: Path, size: int, engine: str) -> Exported:
    """The steps of the version whose weights lie in `folder`, beside them; or why there are none.

    NONE where there is no graph either. As onnx.made, in a fork.
    """
    if onnx.spared(size, engine):
        return NONE
    return onnx.in_fork(lambda: write(load(), folder), folder / STEPS)


def write(loaded: Loaded, folder: Path) -> Exported:
    """The version's steps in `folder`, if they answer as eager torch does.

    Raises whatever the exporter raises, which runs the family's code.
    """
    from kt.models.family import is_incremental
    from kt.registry import session_steps

    model: Any = loaded.module
    if not (hasattr(loaded.form, "HISTORY") and is_incremental(type(model))):
        return NONE
    if window(loaded) < SHORT:
        return Exported(why=f"its window of {window(loaded)} answers is short")
    import onnxscript  # noqa: F401  # as in onnx.write

    path = folder / STEPS
    files.discard(path)
    sha256 = weights.write(exported(loaded, folder), {PAYS: str(model.PAYS)}, path)
    ran = session_steps.opened(folder)
    if why := next(filter(None, differences(loaded, ran)), ""):
        files.discard(path)
        return Exported(why=f"not kept: {why}")
    return Exported(sha256=sha256, size=path.stat().st_size)


def window(loaded: Loaded) -> int:
    signature: Any = loaded.signature
    found: int = signature.window
    return found


class Part(NamedTuple):
    """A step, an example of what it takes, and the axes of that which may be of any size."""

    step: "Callable[..., Tensors]"
    example: "Tensors"
    free: Mapping[str, Iterable[int]]


def exported(loaded: Loaded, folder: Path) -> "dict[str, torch.Tensor]":
    """What the file holds, by name."""
    import torch

    from kt.models.tables import looked_up

    history, asked = (tensors(arrays) for arrays in drawn(loaded))
    with torch.no_grad(), one_thread():  # on which the last bits of tables depend
        parts = parts_of(loaded.module, history, asked, window(loaded))
        for part in parts.values():  # which also makes the tables: a program cannot
            part.step(**part.example)
        with looked_up():
            graph = graph_of(loaded.module, parts)
    tables = taken_out(graph, folder / WEIGHTS)
    onnx.refer(graph, folder / WEIGHTS)
    return tables | {name: as_tensor(onnx.serialized(cut(graph, name))) for name in parts}


def drawn(loaded: Loaded) -> "tuple[Arrays, Arrays]":
    """A history of one student, two windows long, and what is asked after it."""
    import numpy as np

    rng = np.random.default_rng(0)
    form, signature = loaded.form, loaded.signature
    halves = [form.collate(form.example(signature, rng, 2)[1:], signature) for _ in range(2)]
    both = {
        name: np.concatenate([half[name] for half in halves], 1)
        for name in halves[0]
        if name != "lengths"
    }
    return {name: both.pop(name) for name in form.HISTORY}, both


def tensors(arrays: "Arrays") -> "dict[str, torch.Tensor]":
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def parts_of(model: Any, history: "Tensors", asked: "Tensors", window: int) -> dict[str, Part]:
    """The steps by their names. history: two windows of one student's."""
    import torch

    answer = {name: tensor[:, 0] for name, tensor in history.items()}

    def first(length: int) -> "dict[str, torch.Tensor]":
        events = {name: tensor[:, :length] for name, tensor in history.items()}
        return {**events, "lengths": torch.tensor([length])}

    def advance(**given: "torch.Tensor") -> "Tensors":
        event = {name: given.pop(name) for name in answer}
        found: Tensors = model.advance(given, **event)
        return found

    def ask(**given: "torch.Tensor") -> "Tensors":
        items = {name: given.pop(name) for name in asked}
        found: Tensors = model.ask(given, **items)
        return found

    short, room = (model.begin(**first(n)) for n in (2, 3))
    grows = {
        name: [axis for axis, size in enumerate(tensor.shape) if size != short[name].shape[axis]]
        for name, tensor in room.items()
    }
    items = {name: range(1, tensor.ndim) for name, tensor in asked.items()}
    parts = {
        BEGIN: Part(model.begin, first(3), dict.fromkeys(history, (1,))),
        GROW: Part(advance, {**room, **answer}, grows),
        ASK: Part(ask, {**room, **asked}, {**grows, **items}),
    }
    if model.SLIDES:
        almost, full = (model.begin(**first(n)) for n in (window - 1, window))
        parts[BEGIN_FULL] = Part(model.begin, first(window), {})
        parts[FILL] = Part(advance, {**almost, **answer}, {})
        parts[SLIDE] = Part(advance, {**full, **answer}, {})
    return parts


def graph_of(model: Any, parts: Mapping[str, Part]) -> "onnx_ir.Model":
    """All steps as one graph."""
    import torch

    # copies: the exporter takes a tensor that is given twice for one input
    inputs = {
        f"{name}{IN}{one}": tensor.clone()
        for name, part in parts.items()
        for one, tensor in part.example.items()
    }

    def run(given: "Tensors") -> "dict[str, torch.Tensor]":
        found = {}
        for name, part in parts.items():
            own = {one: given[f"{name}{IN}{one}"] for one in part.example}
            for one, tensor in part.step(**own).items():
                # what is given on as it came would be an input and an output of one name
                passed = any(tensor is another for another in own.values())
                found[f"{name}{OUT}{one}"] = tensor.clone() if passed else tensor
        return found

    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model

        def forward(self, *given: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
            return tuple(run(dict(zip(inputs, given, strict=True))).values())

    free = {
        f"{name}{IN}{one}": part.free.get(one, ())
        for name, part in parts.items()
        for one in part.example
    }
    return onnx.graph_of(Steps(), inputs, list(run(inputs)), free)


def taken_out(model: "onnx_ir.Model", path: Path) -> "dict[str, torch.Tensor]":
    """The larger constants that are no weights at `path`, of a graph that takes them as inputs from now on."""
    import torch

    held = weights.places(path)
    found: dict[str, torch.Tensor] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if name.removeprefix("module.") in held or tensor is None or tensor.nbytes < onnx.EMBEDDED:
            continue
        del model.graph.initializers[name]
        value.name, value.const_value = f"{TABLE}{len(found)}", None
        found[value.name] = torch.from_numpy(tensor.numpy().copy())
        model.graph.inputs.append(value)
    return found


def cut(model: "onnx_ir.Model", part: str) -> "onnx_ir.Model":
    """The part of a graph that gives what is named after `part`, and takes no more than it looks at."""
    import onnx_ir
    from onnx_ir.convenience import extract

    inputs = [one for one in model.graph.inputs if str(one.name).startswith((part + IN, TABLE))]
    outputs = [one for one in model.graph.outputs if str(one.name).startswith(part + OUT)]
    graph = extract(model.graph, inputs, outputs)
    looked_at = [one for one in graph.inputs if one.uses()]
    graph.inputs[:] = looked_at
    for name in sorted(graph.initializers):  # they come out of a set
        graph.initializers[name] = graph.initializers.pop(name)
    graph.opset_imports.update(model.opset_imports)
    functions = list(model.functions.values())
    return onnx_ir.Model(graph, ir_version=model.ir_version, functions=functions)


def as_tensor(data: bytes) -> "torch.Tensor":
    import torch

    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def differences(loaded: Loaded, ran: Any) -> Iterator[str]:
    """Where the answers by steps are not eager torch's to the whole history, each as a clause; empty where they are.

    ran: a session_steps.Steps. From nothing, in the middle, and across the end of a window.
    """
    history, asked = drawn(loaded)
    T = window(loaded)
    for start in (0, 1, T // 2, T - COMPARED // 2, T):
        state = ran.begin(last(history, start, T))
        for length in range(start, start + COMPARED):
            if length > T and not ran.slides:
                break
            whole = last(history, length, T)
            yield onnx.unlike(loaded.run({**whole, **asked}), ran.ask(state, asked))
            answer = {name: array[:, length] for name, array in history.items()}
            state = ran.advance(state, answer)


def last(history: "Arrays", length: int, most: int) -> "dict[str, np.ndarray]":
    """What collate makes of the first `length` events."""
    import numpy as np

    begin = max(0, length - most)
    events = {
        name: array[:, begin:length] if length else np.zeros_like(array[:, :1])
        for name, array in history.items()
    }
    return {**events, "lengths": np.array([length - begin])}

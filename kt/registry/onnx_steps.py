"""A version's steps become ONNX graphs, so that without torch too one more answer costs no whole history.

torch.export follows one way through the code, and `advance` has three. They are exported as one program
and then cut apart, in half the time, and for one student: to follow sizes through the program is most of
that time. A history begins by as many steps.

Only a file by which histories of all lengths are answered as eager torch answers them whole is kept.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt import files
from kt.registry import onnx, weights
from kt.registry.load import Loaded
from kt.registry.record import NONE, STEPS, WEIGHTS, Exported
from kt.registry.steps import ASK, FIRST, GROW, IN, OUT, PAYS, TABLE, WAYS

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import torch

    from kt.models.family import Arrays

    Tensors = Mapping[str, torch.Tensor]

SHORT = 8  # answers: in so short a window examples of the three ways are not apart
COMPARED = 6  # answers, from each length that steps are compared from


def made(load: Callable[[], Loaded], folder: Path, graph: Exported) -> Exported:
    """The steps of the version whose weights and graph lie in `folder`, beside them; or why there are none.

    NONE where nobody would look for them. As onnx.made, in a fork.
    """
    if not graph.sha256:
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


def exported(loaded: Loaded, folder: Path) -> "dict[str, torch.Tensor]":
    """What the file holds, by name."""
    import torch

    from kt.models.tables import looked_up

    history, asked = (tensors(arrays) for arrays in drawn(loaded))
    answer = {name: tensor[:, 0] for name, tensor in history.items()}
    model: Any = loaded.module
    T = window(loaded)
    with torch.no_grad():
        short, *states = (begun(model, history, length) for length in (2, 3, T - 1, T))
        for state in states:  # which also makes the tables: a program cannot
            model.ask(model.advance(state, **answer), **asked)
        with looked_up():
            model_graph = graph_of(
                model, short, dict(zip(WAYS, states, strict=True)), answer, asked
            )
    tables = taken_out(model_graph, folder / WEIGHTS)
    onnx.refer(model_graph, folder / WEIGHTS)
    graphs = {name: as_tensor(onnx.serialized(cut(model_graph, name))) for name in (*WAYS, ASK)}
    with torch.no_grad():
        first = {FIRST + name: tensor for name, tensor in begun(model, history, 0).items()}
    return graphs | first | tables


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


def begun(model: Any, history: "Tensors", length: int) -> "Tensors":
    """The state after so many events."""
    import torch

    # an empty history has one event of padding
    events = {
        name: tensor[:, :length] if length else torch.zeros_like(tensor[:, :1])
        for name, tensor in history.items()
    }
    found: Tensors = model.begin(**events, lengths=torch.tensor([length]))
    return found


def graph_of(
    model: Any,
    short: "Tensors",
    states: "Mapping[str, Tensors]",
    answer: "Tensors",
    asked: "Tensors",
) -> "onnx_ir.Model":
    """All steps as one graph. states: an example for each way; short: another one of the first."""
    import torch

    grow = next(iter(states.values()))
    takes = {way: {**state, **answer} for way, state in states.items()} | {ASK: {**grow, **asked}}
    # copies: the exporter takes a tensor that is given twice for one input
    inputs = {
        f"{part}{IN}{name}": tensor.clone()
        for part, given in takes.items()
        for name, tensor in given.items()
    }

    def run(given: "Tensors") -> "dict[str, torch.Tensor]":
        found = {}
        for part, names in takes.items():
            own = {name: given[f"{part}{IN}{name}"] for name in names}
            more = {name: own.pop(name) for name in (asked if part == ASK else answer)}
            said = model.ask(own, **more) if part == ASK else model.advance(own, **more)
            found.update({f"{part}{OUT}{name}": tensor for name, tensor in said.items()})
        return found

    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model

        def forward(self, *given: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
            return tuple(run(dict(zip(inputs, given, strict=True))).values())

    growing = {
        name: [axis for axis, size in enumerate(tensor.shape) if size != short[name].shape[axis]]
        for name, tensor in grow.items()
    }
    free: dict[str, Any] = dict.fromkeys(inputs, ())
    for name, axes in growing.items():
        free |= {f"{part}{IN}{name}": axes for part in (GROW, ASK)}
    free |= {f"{ASK}{IN}{name}": range(1, tensor.ndim) for name, tensor in asked.items()}
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
    for start in (0, T // 2, T - COMPARED // 2, T):
        state = arrays_of(loaded.module, history, start) if start else ran.first
        for length in range(start, start + COMPARED):
            whole = last(history, length, T)
            yield onnx.unlike(loaded.run({**whole, **asked}), ran.ask(state, asked))
            answer = {name: array[:, length] for name, array in history.items()}
            state = ran.advance(state, answer)


def arrays_of(model: Any, history: "Arrays", length: int) -> "Arrays":
    """A state by eager torch."""
    import torch

    with torch.no_grad():
        state = begun(model, tensors(history), length)
    return {name: tensor.numpy() for name, tensor in state.items()}


def last(history: "Arrays", length: int, most: int) -> "dict[str, np.ndarray]":
    """What collate makes of the first `length` events."""
    import numpy as np

    begin = max(0, length - most)
    events = {
        name: array[:, begin:length] if length else np.zeros_like(array[:, :1])
        for name, array in history.items()
    }
    return {**events, "lengths": np.array([length - begin])}

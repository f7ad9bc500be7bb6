"""The form of any program with tensors in and out.

    request  {"unit": "session-9", "inputs": {"x": [[0.1, 0.2], [0.3, 0.4]]}}
    answer   [{"output": "output", "dtype": "float32", "shape": [2, 1], "data": [[0.7], [0.2]]}]

An input is a nested list in the shape that the program was exported with; where an axis was exported
as dynamic it may be of any length within its bounds. No torch here.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import countOf
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kt.errors import Invalid
from kt.models.family import FEATURES, Port
from kt.stats.scored import Scores, nothing

UNIT = "unit"
PROBABILITIES: tuple[str, ...] = ()
STACKS = True
MAX_ELEMENTS = 1_000_000  # of one input
SAMPLE = 64  # elements of an input that are watched
LONG = 16  # elements of an example's dynamic axes at most

LEAVES: dict[str, set[type]] = {
    "f": {float, int},
    "i": {int},
    "u": {int},
    "b": {bool},
}  # by kind of dtype; a whole number may stand for a real one, nothing else is converted
DTYPES = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "int64": np.int64,
    "int32": np.int32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}  # numpy makes them anew each time


class Axis(BaseModel):
    """An axis of a tensor: of one length, or of any within bounds. name: axes of one name are equally long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""  # empty where the length is fixed
    least: Annotated[int, Field(ge=0)]
    most: Annotated[int, Field(ge=0)]


class Tensor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: str
    axes: tuple[Axis, ...]


class Signature(BaseModel):
    """What goes in, and the names of what comes out; gives: their shapes, where they are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    gives: tuple[Tensor, ...] = ()

    @cached_property
    def names(self) -> dict[str, None]:
        """Of the inputs."""
        return dict.fromkeys(tensor.name for tensor in self.inputs)


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    unit: str | None = None
    inputs: dict[str, Any]


def collate(requests: Sequence[Request], signature: Signature) -> dict[str, np.ndarray]:
    """Each input as (requests, *shape). Raises Invalid with the input that does not fit.

    Requests that are answered together must be of one shape.
    """
    for request in requests:
        check_names(request, signature)
    found = {
        tensor.name: array([request.inputs[tensor.name] for request in requests], tensor)
        for tensor in signature.inputs
    }
    check_axes(found, signature)
    return found


def check_names(request: Request, signature: Signature) -> None:
    wanted = signature.names
    if request.inputs.keys() == wanted.keys():
        return
    if missing := [name for name in wanted if name not in request.inputs]:
        raise Invalid(
            "field required",
            where=f"inputs.{missing[0]}",
            do=f"this program takes {', '.join(wanted)}",
        )
    if unknown := [name for name in request.inputs if name not in wanted]:
        raise Invalid(
            "there is no such input",
            where=f"inputs.{unknown[0][:64]}",
            do=f"this program takes {', '.join(wanted)}",
        )


def check_axes(arrays: Mapping[str, np.ndarray], signature: Signature) -> None:
    """Axes of one name must be equally long."""
    lengths: dict[str, int] = {}
    for tensor in signature.inputs:
        for axis, length in zip(tensor.axes, arrays[tensor.name].shape[1:], strict=True):
            if axis.name and lengths.setdefault(axis.name, length) != length:
                raise misfit(
                    f"has an axis of {length} where another input has {lengths[axis.name]}", tensor
                )


def array(values: list[Any], tensor: Tensor) -> np.ndarray:
    """Nested lists, one a request, as one array (requests, *shape) of the tensor's dtype. Raises Invalid."""
    try:
        leaves, kinds, (count, *shape) = flat(values)
    except ValueError as error:
        raise misfit(str(error), tensor) from error
    wanted = np.dtype(DTYPES[tensor.dtype])
    # looked at before an array is made: numpy would make text of all where there is one text
    if not LEAVES[wanted.kind].issuperset(kinds):
        raise misfit(f"must hold {tensor.dtype}", tensor)
    if len(leaves) > MAX_ELEMENTS * count:
        raise misfit(f"has {len(leaves) // count} elements, more than {MAX_ELEMENTS}", tensor)
    found = (
        np.frombuffer(struct.pack(f"{len(leaves)}d", *leaves))  # a third of what np.array takes
        if kinds == {float}
        else np.array(leaves or np.empty(0, wanted))
    ).reshape(count, *shape)
    if found.dtype.kind == "O" or (found.dtype.kind == "f" and wanted.kind in "iu"):  # past 64 bits
        raise misfit(f"holds a number that is no {tensor.dtype}", tensor)
    fits = len(shape) == len(tensor.axes) and all(
        axis.least <= length <= axis.most for axis, length in zip(tensor.axes, shape, strict=True)
    )
    if not fits:
        raise misfit(f"has the shape {shape}, not {shown(tensor)}", tensor)
    if wanted.kind in "iu" and found.size:
        bounds = np.iinfo(wanted)  # type: ignore[type-var]  # of whole numbers, as its kind says
        if found.max() > bounds.max or found.min() < bounds.min:
            raise misfit(f"holds a number that is no {tensor.dtype}", tensor)
    with np.errstate(over="ignore"):
        out = found.astype(wanted)
    if wanted.kind == "f" and not np.isfinite(out).all():
        raise misfit(f"holds a number that is no {tensor.dtype}", tensor)
    return out


def misfit(what: str, tensor: Tensor) -> Invalid:
    """What is wrong with an input."""
    return Invalid(
        what,
        where=f"inputs.{tensor.name}",
        do=f"send {tensor.dtype} of the shape {shown(tensor)}",
    )


def flat(value: Any) -> tuple[list[Any], set[type], list[int]]:
    """The leaves of a nested list, their types, and its shape. Raises ValueError where it is ragged."""
    shape: list[int] = []
    level = [value]
    while (kinds := types(level)) == {list}:
        lengths = set(map(len, level))
        if len(lengths) > 1:
            break
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    if list in kinds:
        raise ValueError("its rows are of different lengths")
    return level, kinds, shape


def types(values: list[Any]) -> set[type]:
    """Nearly all are floats: to count these costs two thirds of a set of all types."""
    if values and countOf(map(type, values), float) == len(values):
        return {float}
    return set(map(type, values))


def shown(tensor: Tensor) -> str:
    """A shape for people: [batch, 8]."""
    parts = [
        str(axis.most) if not axis.name else f"{axis.least}..{axis.most}" for axis in tensor.axes
    ]
    return f"[{', '.join(parts)}]"


def answer(
    outputs: Mapping[str, np.ndarray], requests: Sequence[Request], signature: Signature
) -> list[list[dict[str, Any]]]:
    """For each request, one entry for each output of the program."""
    columns = [
        (
            name,
            NAMES.get(outputs[name].dtype) or str(outputs[name].dtype),
            list(outputs[name].shape[1:]),
            outputs[name].tolist(),
        )
        for name in signature.outputs
    ]
    return [
        [
            {"output": name, "dtype": dtype, "shape": shape, "data": data[place]}
            for name, dtype, shape, data in columns
        ]
        for place in range(len(requests))
    ]


def narrower(old: Signature, new: Signature) -> str:
    if [tensor.name for tensor in old.inputs] != [tensor.name for tensor in new.inputs]:
        return f"its inputs are {', '.join(t.name for t in new.inputs)}, not the {', '.join(t.name for t in old.inputs)}"
    for before, after in zip(old.inputs, new.inputs, strict=True):
        tighter = len(before.axes) != len(after.axes) or any(
            a.least > b.least or a.most < b.most
            for b, a in zip(before.axes, after.axes, strict=True)
        )
        if tighter or before.dtype != after.dtype:
            return f"{after.name} is {after.dtype} {shown(after)}, not the {before.dtype} {shown(before)}"
    if lost := [name for name in old.outputs if name not in new.outputs]:
        return f"it lacks the output {lost[0]}"
    return ""


def example(signature: Signature, rng: np.random.Generator, count: int) -> list[Request]:
    """`count` requests of one shape: each dynamic axis of any length that it may have, up to LONG."""
    lengths = {
        axis.name: int(rng.integers(axis.least, max(axis.least, min(axis.most, LONG)) + 1))
        for tensor in signature.inputs
        for axis in tensor.axes
        if axis.name
    }
    out = []
    for number in range(count):
        inputs = {}
        for tensor in signature.inputs:
            shape = [
                lengths.get(axis.name, axis.most) if axis.name else axis.most
                for axis in tensor.axes
            ]
            kind = np.dtype(DTYPES[tensor.dtype]).kind
            # zeros and ones are the whole numbers that an embedding of any size takes
            drawn = rng.normal(size=shape) if kind == "f" else rng.integers(0, 2, size=shape)
            inputs[tensor.name] = (drawn.astype(bool) if kind == "b" else drawn).tolist()
        out.append(Request(unit=f"example-{number}", inputs=inputs))
    return out


def ports(signature: Signature) -> tuple[list[Port], list[Port]]:
    return [port(tensor) for tensor in signature.inputs], [port(one) for one in signature.gives]


def port(tensor: Tensor) -> Port:
    shape = tuple(-1 if axis.name else axis.most for axis in tensor.axes)
    return Port(tensor.name, tensor.dtype, shape)


def fields(tensors: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    return {"inputs": dict(tensors)}


def tensors(predictions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {
        each["output"]: np.array(each["data"], each["dtype"]).reshape(each["shape"])
        for each in predictions
    }


def scored(predictions: Sequence[Mapping[str, Any]], signature: Signature) -> Scores:
    """Outputs of one element are numbers; where any has more nothing is known."""
    values = [lone(each["data"]) for each in predictions]
    return (
        nothing(len(values))
        if list in map(type, values)
        else Scores("number", list(map(float, values)))
    )


def lone(value: Any) -> Any:
    """The element of a nested list that has but one."""
    while type(value) is list and len(value) == 1:
        value = value[0]
    return value


def features(request: Request, signature: Signature) -> dict[str, float]:
    """The mean of each input."""
    means = {name: mean(request.inputs[name]) for name in list(signature.names)[:FEATURES]}
    return {name: value for name, value in means.items() if value is not None}


def mean(value: Any) -> float | None:
    """Of some SAMPLE elements of a nested list, spread over it; None of none."""
    level = [value]
    while level and type(level[0]) is list:
        level = list(chain.from_iterable(level))
        level = level[:: len(level) // SAMPLE or 1]
    return sum(level) / len(level) if level else None

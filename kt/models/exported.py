"""Serves any program that torch.export has written: tensors in, tensors out.

A program is a list of operators of torch's own library (aten) with names for what goes in and comes
out. It is kept as data, in the version's configuration, and run operator by operator: torch's own
loader would evaluate expressions out of the file and rebuild Python objects (it runs code in three
ways), takes seconds where this takes milliseconds, and calls the same operators in the end.

Only operators that compute are run: `torch.ops.aten.*` but for those that touch files, and arithmetic on
sizes. A program that holds anything else (control flow, custom operators, changed inputs) is refused.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from kt.errors import Invalid
from kt.models import tensors
from kt.models.tensors import Axis, Signature, Tensor

FORM = tensors
METRIC = ""  # a program brings no way to score it

MOST = 4096  # of a dynamic axis without an upper bound
OTHERWISE = "export it without that, or vouch for the file: --trust-code REASON"
FILES = {"save", "from_file", "_save", "load"}  # aten operators that touch files
SIZES: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in (
        "add",
        "sub",
        "mul",
        "floordiv",
        "mod",
        "neg",
        "pow",
        "eq",
        "ne",
        "ge",
        "gt",
        "le",
        "lt",
        "getitem",
        "truediv",
        "and_",
        "or_",
        "not_",
    )
}
# torch/_export/serde/schema.py numbers them; torch's own numbering of scalar types is another
SCALARS = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
LAYOUTS = {7: torch.strided}


class Weight(BaseModel):
    """A tensor that the program brings along."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str
    shape: tuple[int, ...]
    buffer: bool  # a parameter, else


class Config(BaseModel):
    """program: the graph as torch.export wrote it, without the traces of the code that it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: dict[str, Any]
    weights: dict[str, Weight]


def signature(config: Config) -> Signature:
    """Inputs with their shapes, and names for the outputs, as the graph says. Raises Invalid."""
    program = config.program
    inputs = tuple(
        Tensor(name=name, dtype=dtype_of(program, name), axes=tuple(axes_of(program, name)))
        for name in user_inputs(program)
    )
    count = len(program["outputs"])
    outputs = ("output",) if count == 1 else tuple(f"output_{place}" for place in range(count))
    found = [
        output(program, name, called)
        for name, called in zip(program["outputs"], outputs, strict=True)
    ]
    gives = tuple(tensor for tensor in found if tensor)
    return Signature(inputs=inputs, outputs=outputs, gives=gives if len(gives) == count else ())


def output(program: Mapping[str, Any], name: str, called: str) -> Tensor | None:
    """The shape of an output: an axis that depends on other lengths goes by its expression."""
    about = program["values"].get(name)
    if not about:
        return None
    axes = [
        Axis(least=size["as_int"], most=size["as_int"])
        if "as_int" in size
        else Axis(name=str(size["as_expr"]["expr_str"])[:60], least=0, most=MOST)
        for size in about["sizes"]
    ]
    dtype = str(scalar(about["dtype"])).removeprefix("torch.")
    return Tensor(name=called, dtype=dtype, axes=tuple(axes))


def user_inputs(program: Mapping[str, Any]) -> list[str]:
    return [name for name, source in program["inputs"] if source is None]


def dtype_of(program: Mapping[str, Any], name: str) -> str:
    dtype = str(scalar(program["values"][name]["dtype"])).removeprefix("torch.")
    if dtype not in tensors.DTYPES:
        raise Invalid(f"its input {name} is {dtype}, which a request cannot carry", do=OTHERWISE)
    return dtype


def axes_of(program: Mapping[str, Any], name: str) -> Iterator[Axis]:
    for size in program["values"][name]["sizes"]:
        if "as_int" in size:
            yield Axis(least=size["as_int"], most=size["as_int"])
            continue
        expression = str(size["as_expr"]["expr_str"])
        # as sympy writes a plain length
        found = re.fullmatch(r"Symbol\('(\w+)'[^()]*\)", expression)
        if not found:
            raise Invalid(
                f"its input {name} has an axis of {expression[:60]}, which is no plain length",
                do=OTHERWISE,
            )
        symbol = found[1]
        bounds = program["bounds"].get(symbol, {})
        least, most = bounds.get("min_val"), bounds.get("max_val")
        yield Axis(name=symbol, least=max(1, int(least or 1)), most=min(MOST, int(most or MOST)))


class Model(nn.Module):
    """The program with its weights, each under the name that it had."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        for name, weight in config.weights.items():
            place(
                self,
                name,
                torch.empty(weight.shape, dtype=getattr(torch, weight.dtype)),
                buffer=weight.buffer,
            )
        program = config.program
        self.held = [
            (name, *self.holder(source)) for name, source in program["inputs"] if source is not None
        ]
        self.given = user_inputs(program)
        self.outputs: list[str] = list(program["outputs"])
        self.steps = [Step(node) for node in program["nodes"]]
        given = {name for name, _ in program["inputs"]}
        if step := next((step for step in self.steps if step.changes & given), None):
            raise Invalid(
                f"its program changes what it is given ({min(step.changes & given)})", do=OTHERWISE
            )
        self.names = signature(config).outputs
        self.flat = is_flat(program)

    def forward(self, **inputs: torch.Tensor) -> list[torch.Tensor]:
        """The program on one set of inputs."""
        values: dict[str, Any] = {name: inputs[name] for name in self.given}
        for name, module, leaf in self.held:
            values[name] = getattr(module, leaf)
        for step in self.steps:
            step.run(values)
        return [values[name] for name in self.outputs]

    def holder(self, name: str) -> tuple[nn.Module, str]:
        """Where a dotted name is an attribute: looking for it anew at each call would cost more than the call."""
        path, _, leaf = name.rpartition(".")
        return self.get_submodule(path), leaf

    def serve(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each input (R, *shape) for R requests; each output likewise.

        Where every tensor begins with the same dynamic axis, the requests run as one.
        """
        count = next(iter(inputs.values())).shape[0]
        if self.flat and count > 1:
            results = self.forward(
                **{name: tensor.flatten(0, 1) for name, tensor in inputs.items()}
            )
            return {
                name: result.reshape(count, -1, *result.shape[1:])
                for name, result in zip(self.names, results, strict=True)
            }
        rows = [
            self.forward(**{name: tensor[row] for name, tensor in inputs.items()})
            for row in range(count)
        ]
        return {
            name: torch.stack(column)
            for name, column in zip(self.names, zip(*rows, strict=True), strict=True)
        }


def place(root: nn.Module, name: str, tensor: torch.Tensor, *, buffer: bool) -> None:
    """Put a tensor at a dotted name, making the modules on the way."""
    *path, last = name.split(".")
    module = root
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    if buffer:
        module.register_buffer(last, tensor)
    else:
        module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))


def is_flat(program: Mapping[str, Any]) -> bool:
    """Whether the first axis of every input and output is one and the same dynamic length."""
    firsts = set()
    for name in [*user_inputs(program), *program["outputs"]]:
        sizes = program["values"].get(name, {}).get("sizes") or [{"as_int": 0}]
        firsts.add(str(sizes[0].get("as_expr", {}).get("expr_str", "")))
    return len(firsts) == 1 and firsts != {""}


class Step:
    """One operator, its arguments resolved as far as they are constants."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        self.function = function_of(str(node["target"]))
        self.positional = [
            argument(item["arg"]) for item in node["inputs"] if item.get("kind", 1) != 2
        ]
        self.keyword = {
            item["name"]: argument(item["arg"])
            for item in node["inputs"]
            if item.get("kind", 1) == 2
        }
        self.changes = changed(self.function, node["inputs"])
        self.results = [result for output in node["outputs"] for result in results_of(output)]
        self.single = len(node["outputs"]) == 1 and "as_tensors" not in node["outputs"][0]

    def run(self, values: dict[str, Any]) -> None:
        said = self.function(
            *(get(values) for get in self.positional),
            **{name: get(values) for name, get in self.keyword.items()},
        )
        if self.single:
            values[self.results[0]] = said
        else:
            values.update(zip(self.results, said, strict=False))


def function_of(target: str) -> Callable[..., Any]:
    """The operator by its name, if it is one that only computes. Raises Invalid."""
    if target in SIZES:
        return SIZES[target]
    found = re.fullmatch(r"torch\.ops\.aten\.([a-z_0-9]+)\.([A-Za-z_0-9]+)", target)
    if found and found[1] not in FILES:
        packet = getattr(torch.ops.aten, found[1], None)
        overload = getattr(packet, found[2], None)
        if isinstance(overload, torch._ops.OpOverload):
            return overload
    raise Invalid(
        f"its program calls {target[:80]!r}, which is no operator of aten that computes",
        do=OTHERWISE,
    )


def changed(function: Callable[..., Any], inputs: list[Mapping[str, Any]]) -> set[str]:
    """The values that an operator writes to: most write to none, relu_ to its first."""
    schema = getattr(function, "_schema", None)
    if schema is None or not schema.is_mutable:
        return set()
    return {
        str(item["arg"]["as_tensor"]["name"])
        for item, argument in zip(inputs, schema.arguments, strict=False)
        if argument.is_write and "as_tensor" in item["arg"]
    }


def results_of(output: Mapping[str, Any]) -> list[str]:
    """The names that one output of an operator is kept under."""
    (kind, value), *_ = output.items()
    match kind:
        case "as_tensor":
            return [value["name"]]
        case "as_tensors":
            return [item["name"] for item in value]
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return [value["as_name"]]
        case "as_none":
            return [""]
        case _:
            raise Invalid(f"its program has an output of the kind {kind[:40]!r}", do=OTHERWISE)


def argument(arg: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """A function from the values so far to the argument. Raises Invalid for a kind that is not data."""
    (kind, value), *_ = arg.items()
    match kind:
        case "as_tensor":
            return named(value["name"])
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return symbol(value)
        case "as_tensors":
            return several([named(item["name"]) for item in value])
        case "as_optional_tensors":
            return several(
                [
                    named(item["as_tensor"]["name"]) if "as_tensor" in item else constant(None)
                    for item in value
                ]
            )
        case "as_sym_ints":
            return several([symbol(item) for item in value])
        case "as_none":
            return constant(None)
        case "as_int" | "as_bool" | "as_string" | "as_ints" | "as_bools" | "as_strings":
            return constant(value)
        case "as_float" | "as_floats":
            return constant(real(value))
        case "as_scalar_type":
            return constant(scalar(value))
        case "as_memory_format":
            return constant(FORMATS[value])
        case "as_layout":
            return constant(LAYOUTS[value])
        case "as_device":
            return constant(torch.device("cpu"))
        case _:
            raise Invalid(f"its program has an argument of the kind {kind[:40]!r}", do=OTHERWISE)


def constant(value: Any) -> Callable[[Mapping[str, Any]], Any]:
    return lambda _: value


def named(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: values[name]


def several(parts: list[Callable[[Mapping[str, Any]], Any]]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: [part(values) for part in parts]


def symbol(value: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """A size: a name given by an operator before, or a number."""
    if "as_name" in value:
        return named(value["as_name"])
    return constant(next(iter(value.values())))


def real(value: Any) -> Any:
    """A number or a list of them; infinity is written as text, since JSON has none."""
    return [float(item) for item in value] if isinstance(value, list) else float(value)


def scalar(value: int) -> torch.dtype:
    if value not in SCALARS:
        raise Invalid(f"its program uses the type number {value}", do=OTHERWISE)
    return SCALARS[value]

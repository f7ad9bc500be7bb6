"""A torch.export archive (.pt2), read as data: the graph's text, the weights' bytes, and nothing else.

`torch.export.load` runs code out of such a file in three ways; this never calls it. Sample inputs (a
pickle) are left alone; weights that are pickled, compiled code, and records of unknown names are refused.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.errors import Invalid
from kt.registry import archive

if TYPE_CHECKING:
    import torch

LARGEST = 50_000_000  # bytes of a graph
AGAIN = (
    "export it again with torch 2.9 or later, torch.export.save(torch.export.export(model, args), FILE), "
    "or vouch for the file: --trust-code REASON"
)


def read(held: Path, path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, Any]]":
    """The weights, and the configuration of the family `exported`. Raises Invalid."""
    try:
        with zipfile.ZipFile(held) as file:
            root = file.namelist()[0].partition("/")[0]
            records = {name.partition("/")[2]: name for name in file.namelist()}
            archive.only(records, rf"{archive.PROGRAM}|{archive.TEXT}")
            graphs = [name for name in records if name.startswith("models/")]
            if len(graphs) != 1:
                raise archive.Odd(
                    f"a torch.export archive with {len(graphs)} programs: kt serves one"
                )
            stem = graphs[0].removeprefix("models/").removesuffix(".json")
            graph = parse(file, records[graphs[0]])
            tensors: dict[str, torch.Tensor] = {}
            for kind, config in (
                ("weights", f"{stem}_weights_config.json"),
                ("constants", f"{stem}_constants_config.json"),
            ):
                listed = parse(file, f"{root}/data/{kind}/{config}")["config"]
                tensors |= {
                    name: tensor(file, f"{root}/data/{kind}", name, entry)
                    for name, entry in listed.items()
                }
        return kept(strip(graph), tensors)
    except archive.Odd as error:
        raise Invalid(f"is {error}", where=str(path), do=AGAIN) from error
    except (
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        ValueError,
        RuntimeError,
        RecursionError,
    ) as error:
        raise Invalid(
            f"is a torch.export archive that kt cannot read ({type(error).__name__}: {str(error)[:100]})",
            where=str(path),
            do=AGAIN,
        ) from error


def parse(file: zipfile.ZipFile, name: str) -> Any:
    if file.getinfo(name).file_size > LARGEST:
        raise archive.Odd(f"a torch.export archive with a graph of more than {LARGEST} bytes")
    return json.loads(file.read(name))


def tensor(
    file: zipfile.ZipFile, folder: str, name: str, entry: Mapping[str, Any]
) -> "torch.Tensor":
    """One weight out of its raw bytes."""
    import torch

    from kt.models.exported import scalar

    if entry.get("use_pickle") is not False:
        raise archive.Odd(
            f"a torch.export archive whose weight {name[:60]!r} is a pickle, which is code"
        )
    meta = entry["tensor_meta"]
    shape, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    data = bytearray(file.read(f"{folder}/{entry['path_name']}"))
    dtype = scalar(meta["dtype"])
    if not data:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(data, dtype=dtype)
    return flat.as_strided(shape, strides, meta["storage_offset"]["as_int"]).contiguous()


def strip(value: Any) -> Any:
    """The graph without what says where it came from: paths and lines of somebody's code."""
    if isinstance(value, dict):
        return {
            key: strip(item)
            for key, item in value.items()
            if key not in ("metadata", "is_hop_single_tensor_return")
        }
    return [strip(item) for item in value] if isinstance(value, list) else value


def kept(
    whole: Mapping[str, Any], tensors: "dict[str, torch.Tensor]"
) -> "tuple[dict[str, torch.Tensor], dict[str, Any]]":
    """The program in the form that `exported` runs, and the tensors that it uses."""
    graph, signature = whole["graph_module"]["graph"], whole["graph_module"]["signature"]
    inputs: list[tuple[str, str | None]] = []
    weights: dict[str, dict[str, Any]] = {}
    for spec in signature["input_specs"]:
        (kind, said), *_ = spec.items()
        if kind == "user_input":
            if "as_tensor" not in said["arg"]:
                raise archive.Odd("a torch.export program with an input that is no tensor")
            inputs.append((said["arg"]["as_tensor"]["name"], None))
            continue
        source = {
            "parameter": "parameter_name",
            "buffer": "buffer_name",
            "tensor_constant": "tensor_constant_name",
        }.get(kind)
        if source is None:
            raise archive.Odd(f"a torch.export program with an input of the kind {kind[:40]!r}")
        name = said[source]
        inputs.append((said["arg"]["name"], name))
        weights[name] = {
            "dtype": str(tensors[name].dtype).removeprefix("torch."),
            "shape": list(tensors[name].shape),
            "buffer": kind != "parameter",
        }
    outputs = []
    for spec in signature["output_specs"]:
        (kind, said), *_ = spec.items()
        if kind != "user_output" or "as_tensor" not in said["arg"]:
            raise archive.Odd(
                f"a torch.export program that changes what it is given, or gives more than tensors ({kind[:40]})"
            )
        outputs.append(said["arg"]["as_tensor"]["name"])
    program = {
        "inputs": inputs,
        "outputs": outputs,
        "nodes": graph["nodes"],
        "values": {
            name: graph["tensor_values"][name]
            for name in [*(n for n, source in inputs if source is None), *outputs]
        },
        "bounds": whole.get("range_constraints", {}),
    }
    return {name: tensors[name] for name in weights}, {"program": program, "weights": weights}

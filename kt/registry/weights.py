"""Weights as a safetensors file, hashed while they are written.

The format (huggingface/safetensors): eight bytes, the header's length, little-endian; the header, JSON
from name to dtype, shape and byte range, padded with spaces to a multiple of eight; then the tensors'
bytes without a gap. The library's own writer holds all of them in memory at once and hashes nothing;
it reads what this writes, and a test compares the two byte for byte.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kt import files
from kt.errors import Invalid

if TYPE_CHECKING:
    import numpy as np
    import torch

# largest first: so that each tensor begins at a multiple of its own size
DTYPES = {
    "float64": "F64", "int64": "I64", "float32": "F32", "int32": "I32", "float16": "F16",
    "bfloat16": "BF16", "int16": "I16", "uint8": "U8", "int8": "I8", "bool": "BOOL",
}  # fmt: skip


def write(tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str], path: Path) -> str:
    """Write a new file, synced. Returns its sha256. Raises Invalid for a dtype without a name."""
    with writing(tensors, metadata, path) as sha256:
        return sha256


@contextmanager
def writing(
    tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str], path: Path
) -> Iterator[str]:
    """`write`, with a block that runs while the disk takes the file: it is synced where the block ends."""
    order = list(DTYPES)
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    if odd := next((name for name, kind in kinds.items() if kind not in DTYPES), None):
        raise Invalid(
            f"{odd} has the dtype {kinds[odd]}, which is not kept",
            do=f"convert it to one of: {', '.join(DTYPES)}",
        )
    names = sorted(tensors, key=lambda name: (order.index(kinds[name]), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[kinds[name]],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def parts() -> "Iterator[bytes | memoryview]":
        yield len(text).to_bytes(8, "little")
        yield text
        for name in names:
            data = bytes_of(tensors[name])
            # writing a mapped gigabyte at once costs the kernel 0.9 s, by the piece 0.3
            yield from (data[at : at + files.CHUNK] for at in range(0, len(data), files.CHUNK))

    with files.named("write", path):
        file = path.open("xb", buffering=0)
    with file, ThreadPoolExecutor(2) as beside:
        hashed = beside.submit(digest, parts())
        save(parts(), file, path)
        synced = beside.submit(sync, file, path)
        yield hashed.result()
        synced.result()


class Place(NamedTuple):
    """Where a tensor's bytes lie in a file."""

    begin: int
    length: int


def places(path: Path) -> dict[str, Place]:
    """Where each tensor of a file lies that `write` has written."""
    begins, header = header_of(path)
    del header["__metadata__"]
    spans = {name: about["data_offsets"] for name, about in header.items()}
    return {name: Place(begins + begin, end - begin) for name, (begin, end) in spans.items()}


def mapped(path: Path) -> "tuple[dict[str, str], dict[str, np.ndarray]]":
    """The metadata of a file that `write` has written, and its tensors as arrays that lie in it."""
    import numpy as np

    begins, header = header_of(path)
    metadata = header.pop("__metadata__")
    data = np.memmap(path, np.uint8, "r", begins)
    names = {short: name for name, short in DTYPES.items()}
    return metadata, {
        name: np.asarray(data[slice(*about["data_offsets"])])
        .view(names[about["dtype"]])
        .reshape(about["shape"])
        for name, about in header.items()
    }


def header_of(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin in a file, and what it says of them."""
    with files.named("read", path), path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
    return 8 + size, header


def save(parts: "Iterable[bytes | memoryview]", file: FileIO, path: Path) -> None:
    with files.named("write", path):
        for part in parts:
            while part:
                part = part[file.write(part) :]


def sync(file: FileIO, path: Path) -> None:
    with files.named("write", path):
        os.fsync(file.fileno())


def digest(parts: "Iterable[bytes | memoryview]") -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()


def bytes_of(tensor: "torch.Tensor") -> bytes | memoryview:
    """A tensor's elements in memory order, little-endian as every machine that torch runs on."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""

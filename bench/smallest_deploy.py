"""The least that any program does to deploy weights by torch: how much of `kt deploy` is the task's own.

    python bench/smallest_deploy.py FILE.pt TARGET.safetensors matrix|tables

torch is imported, the weights are mapped and found to be finite, written as safetensors beside their
sha256, and synced while the model answers one request: eight rows through the matrix, or a lookup of 200
rows. Left out of what kt does: a process that is shut in, the checksums of the archive, the sha256 of
the file given, the family, and all gates but for that one request.
"""

import gc
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

gc.disable()  # while torch is imported, as kt does
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

CHUNK = 1 << 20  # bytes


def main() -> None:
    source, target, kind = sys.argv[1:]
    torch.set_num_threads(1)
    tensors = torch.load(source, mmap=True, weights_only=True)  # noqa: TID251  # without kt
    assert all(bound.isfinite() for tensor in tensors.values() for bound in tensor.aminmax())
    with Path(target).open("wb", buffering=0) as file, ThreadPoolExecutor(2) as beside:
        hashed = beside.submit(digest, tensors)
        file.writelines(parts(tensors))
        synced = beside.submit(os.fsync, file.fileno())
        ask(max(tensors.values(), key=torch.numel), kind)
        hashed.result()
        synced.result()


def parts(tensors: Mapping[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        data = tensor.reshape(-1).view(torch.uint8).numpy().data
        yield from (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    hashed = hashlib.sha256()
    for part in parts(tensors):
        hashed.update(part)
    return hashed.hexdigest()


def ask(largest: torch.Tensor, kind: str) -> torch.Tensor:
    with torch.inference_mode():
        if kind == "matrix":
            return F.linear(torch.ones(8, largest.shape[1]), largest)
        return F.embedding(torch.arange(200), largest)


if __name__ == "__main__":
    main()

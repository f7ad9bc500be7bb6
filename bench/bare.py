"""The models that the serving bench asks, without a server: what a program of one's own would call.

Each takes the body of a request, as JSON has it, and answers several at once.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors import safe_open
from torch import nn

from kt.models import sakt

WIDTHS = (64, 128, 128, 4)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


class Sakt:
    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            spec = orjson.loads(file.metadata()["kt"])
        self.model = sakt.Model(sakt.Config(**spec["config"]))
        self.model.load_state_dict(tensors(path))
        self.model.eval().requires_grad_(False)
        self.rows = {item: row for row, item in enumerate(spec["signature"]["items"], 2)}

    def arrays(self, body: Any) -> tuple[list[int], list[int], list[int]]:
        rows = self.rows
        return (
            [rows[answer["item"]] for answer in body["answers"]],
            [answer["response"] for answer in body["answers"]],
            [rows[item] for item in body["items"]],
        )

    def answer(self, bodies: Sequence[Any]) -> list[np.ndarray]:
        """All of the same lengths, as the bench sends them."""
        items, responses, asked = (
            torch.from_numpy(np.array(column, np.int64))
            for column in zip(*map(self.arrays, bodies), strict=True)
        )
        with torch.inference_mode():
            lengths = torch.full((len(bodies),), items.shape[1])
            outputs = self.model.serve(items, responses, lengths, asked)
            return list(outputs["probabilities"].numpy())


class Mlp:
    def __init__(self, path: Path) -> None:
        self.model = mlp()
        self.model.load_state_dict(tensors(path))
        self.model.eval().requires_grad_(False)

    def answer(self, bodies: Sequence[Any]) -> list[np.ndarray]:
        x = np.array([body["inputs"]["input"][0] for body in bodies], np.float32)
        with torch.inference_mode():
            return list(self.model(torch.from_numpy(x)).numpy()[:, None])


def mlp() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def named(arguments: Sequence[str] = ()) -> Sakt | Mlp:
    """The model of a command line that ends with its name and its weights."""
    name, path = arguments or sys.argv[-2:]
    torch.set_num_threads(1)
    kinds: dict[str, type[Sakt] | type[Mlp]] = {"sakt": Sakt, "mlp": Mlp}
    return kinds[name](Path(path))

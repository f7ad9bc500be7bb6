"""A warm start: training goes on from a trained model's weights rather than from chance.

The window may be another, so that a model learns on short contexts, which is cheap, and then on long ones.
What the two know (items, categories, the dimension of vectors) must be the same, row by row.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from kt.errors import Invalid

MAY_DIFFER = {"window", "calibration"}  # of two signatures


@dataclass(frozen=True)
class Start:
    """Where training begins. name: the file or MODEL@VERSION, for people."""

    name: str
    model: torch.nn.Module
    signature: Any

    @property
    def settings(self) -> dict[str, Any]:
        """Of its Config: what it was made with."""
        config: Any = self.model.config
        settings: dict[str, Any] = config.model_dump()
        return settings

    @property
    def sha256(self) -> str:
        """Of its weights."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return found.hexdigest()


def fill(model: torch.nn.Module, signature: Any, start: Start) -> None:
    """The start's weights in a fresh model; what a longer window adds to a table stays as it is.

    Raises Invalid where the two are not of one family, know other things or are of other sizes.
    """
    if type(model) is not type(start.model):
        raise refusal(start, "is of another family", "name that one")
    known, asked = (each.model_dump(exclude=MAY_DIFFER) for each in (start.signature, signature))
    if other := [key for key in asked if asked[key] != known.get(key)]:
        raise refusal(start, f"knows other {other[0]} than these data have", "leave it out")
    longer = signature.window - start.signature.window
    held, wanted = start.model.state_dict(), model.state_dict()
    for name in sorted(held.keys() | wanted.keys()):
        old, new = (tuple(part[name].shape) if name in part else None for part in (held, wanted))
        if old is None or new is None or not fits(old, new, longer):
            raise refusal(
                start,
                f"has other sizes: {name} is {list(old or [])} there and {list(new or [])} here",
                "leave out --size and --set: they are those that it was made with",
            )
        part = tuple(map(slice, map(min, old, new)))
        wanted[name][part].copy_(held[name][part])


def fits(old: tuple[int, ...], new: tuple[int, ...], longer: int) -> bool:
    """Whether two shapes differ by the windows' lengths alone."""
    return len(old) == len(new) and all(b - a in (0, longer) for a, b in zip(old, new, strict=True))


def refusal(start: Start, what: str, do: str) -> Invalid:
    return Invalid(f"{start.name} {what}", where="--from", do=do)

"""What training scripts save beside weights, passed over without a look: arguments, paths, dates, numpy's numbers.

torch's weights-only unpickler refuses every name that it does not know, so that `{"model": weights, "args":
Namespace(...)}` would be code. The names here are never looked up: it is given stand-ins, which take whatever
they are told and hold nothing. Other names stay refused, and a stand-in among the weights is none.

For a stand-in to be safe its name does not matter, since nothing of that name runs. The list is closed all
the same: a file that names what would harm elsewhere is not to be kept as a model.
"""

from collections.abc import Callable
from typing import Any


class Beside:
    """An object that is not there. Its class is named after it, for who finds it among weights."""

    def __init__(self, *told: object) -> None:
        pass

    def __setstate__(self, told: object) -> None:
        pass


def empty_dict(*told: object) -> dict[Any, Any]:
    """Where the unpickler would fill an object in key by key: it fills in nothing but dicts."""
    return {}


def empty_list(*told: object) -> list[Any]:
    return []


NAMES = {
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "builtins": (
        "bool",
        "bytearray",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "range",
        "slice",
        "str",
    ),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID",),
    "numpy": ("dtype", "float32", "float64", "int64", "ndarray"),
    "torch.torch_version": ("TorchVersion",),  # of torch.__version__
} | dict.fromkeys(
    ("pathlib", "pathlib._local"),  # the latter in Python 3.13
    ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
)
MADE_BY = {
    f"numpy.{core}.multiarray.{function}": what
    for core in ("core", "_core")  # before and since numpy 2
    for function, what in (("scalar", "number"), ("_reconstruct", "ndarray"))
}  # functions of numpy that make its objects


def stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """As torch.serialization.safe_globals takes them: what stands in, and the name that it stands in for."""
    named = [(name, f"{module}.{name}") for module, names in NAMES.items() for name in names]
    named += [(f"numpy {what}", name) for name, what in MADE_BY.items()]
    return [
        *((type(shown, (Beside,), {}), name) for shown, name in named),
        (empty_dict, "collections.defaultdict"),
        (empty_list, "collections.deque"),
    ]

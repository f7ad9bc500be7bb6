"""Open a model file: what it is is read from its bytes, and only weights are ever read from it.

The file is opened once and read through that descriptor alone, by whoever reads it; one that changes
meanwhile is refused. Tensors come through torch's weights-only unpickler or safetensors, never any
other way, and there is no fallback: a file that would need more is refused with one line. What training
scripts save beside weights is passed over (beside.py).

    kt checkpoint       what `kt train` writes: {"kt": 1, "family", "config", "signature", "state_dict", ...}
    state dict          names to tensors, bare or under "state_dict", "model_state_dict" or "model"
    safetensors         kt's own header names its family; other files need --family and --config
    program             what torch.export.save writes, read as data

What must run code to be opened (`CODE`, and a torch file that holds more than weights) is refused
here; trusted.py makes data of it on a person's word.
"""

import contextlib
import hashlib
import json
import operator
import os
import pickle  # for the name of its error, which torch raises
import re
import shutil
import stat
import sys
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kt import files
from kt.errors import Corrupt, Invalid, Refused
from kt.registry import archive, beside, load, program
from kt.registry.record import Source

if TYPE_CHECKING:
    import torch

MAX_SIZE = 32 << 30  # bytes
PART = 10_000_000  # bytes of a part of a checkpoint beside its weights: it is kept in git
TICK = 0.01  # seconds: the coarsest clock that a kernel stamps files with
FRAME = pickle.FRAME[0]  # how pickles of protocol 4 and later begin
LEGACY = re.compile(  # torch before 1.6, or as it was: its magic number, pickled by any protocol
    rb"\x80[\2-\5](%b.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\." % re.escape(pickle.FRAME), re.DOTALL
)
PICKLE = b"\x80"  # of protocol 2 and later
AUTOMATIC = 47  # zlib's wbits: either header, zlib's or gzip's
OF_TORCH = re.compile(r"data\.pkl$|archive_format$|models/.*\.json$|\.data/extern_modules$")
ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")  # of model files in a zip
NESTED = ("state_dict", "model_state_dict", "model")
CODE = {
    "TorchScript": "a TorchScript archive, which is code",
    "torch.export legacy": "a torch.export archive of a torch before 2.9, which holds pickles",
    "pickle": "a bare pickle, which is code",
    "joblib": "a compressed pickle as joblib writes it, which is code",
}  # formats that hold nothing else
INSTEAD = (
    "kt opens weights: torch.save(model.state_dict(), FILE), safetensors, or what kt train wrote"
)
CONFIG = (
    "write the configuration of its family, alone or with the signature, as kt show --json has them"
)
VOUCH = (
    "save its weights, torch.save(model.state_dict(), FILE), or export it, torch.export.save (.pt2); "
    "or vouch for the file: --trust-code REASON, and --example FILE of a module"
)


@dataclass(frozen=True)
class Opened:
    """What a file holds. config and family are empty where it does not say."""

    source: Source
    tensors: "dict[str, torch.Tensor]"
    family: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    signature: dict[str, Any] | None = None
    model: str = ""
    scores: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def opening(path: Path, *, code: bool = False) -> Iterator[tuple[Path, Source]]:
    """An open model file, as a path to read it by, and what its bytes are. Raises as `descriptor_of` and `source_of`."""
    with descriptor_of(path) as descriptor:
        file = through(descriptor, path)
        yield file, source_of(file, path, code=code)


@contextlib.contextmanager
def descriptor_of(path: Path) -> Iterator[int]:
    """The file, opened once without waiting on a pipe.

    Raises Invalid where it is no regular file, and at the block's end where it has changed since.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Invalid(
            f"cannot be opened: {reason}",
            where=str(path),
            do="let this user read it: ls -l"
            if isinstance(error, PermissionError)
            else "name a model file, or a version as MODEL@VERSION",
        ) from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Invalid(
                "is not a regular file",
                where=str(path),
                do="name a model file, or a version as MODEL@VERSION",
            )
        if about.st_size > MAX_SIZE:
            raise Invalid(
                f"has {about.st_size >> 30} GiB, more than {MAX_SIZE >> 30}",
                where=str(path),
                do="save weights alone, without the state of an optimizer",
            )
        with unchanged(descriptor, path):
            yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unchanged(descriptor: int, path: Path) -> Iterator[None]:
    """Raises Invalid where an open file is not what it was, whatever else came of reading it.

    One process hashes a file and another takes its weights, and there is no copy that both would read.
    The digest is that of the weights because nothing was written in between: a write leaves another
    st_ctime, which nobody can set, once a tick has passed since the first look. Only pages that
    somebody had mapped and written before take more without one: who does that could give any file,
    and a version that two digests disagree on is served by nobody.
    """
    before = stamp(descriptor)
    time.sleep(TICK)
    try:
        yield
    finally:
        if stamp(descriptor) != before:
            raise Invalid(
                "has changed while it was read",
                where=str(path),
                do="run the command again once it is whole",
            )


def stamp(descriptor: int) -> tuple[int, int, int]:
    about = os.fstat(descriptor)
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def through(descriptor: int, path: Path) -> Path:
    """An open file as a path of this process and its children, whatever `path` names meanwhile."""
    # elsewhere all that open such a path share one position in the file
    return Path(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else path


def source_of(file: Path, path: Path, *, code: bool = False) -> Source:
    """What the bytes of an open file are.

    code: also those of the formats that hold nothing but code. Raises Invalid where they are of no
    format that kt opens.
    """
    with ThreadPoolExecutor(1) as beside:  # an archive's checksums take as long as hashing it
        hashed = beside.submit(digest, file, path)
        kind = sniff(file, path)
        if kind in CODE and not code:
            raise Invalid(f"is {CODE[kind]}", where=str(path), do=VOUCH)
        name = os.fsencode(path.name).decode(errors="replace")  # a name is bytes, a record text
        return Source(name=name, format=kind, sha256=hashed.result(), size=file.stat().st_size)


def digest(file: Path, path: Path) -> str:
    with files.named("read", path), file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copied(file: Path, path: Path, folder: Path) -> Path:
    """A copy of an open file in `folder`."""
    with files.named("copy", path):
        return Path(shutil.copyfile(file, folder / "source"))


def sniff(file: Path, path: Path) -> str:
    """The format that the bytes show: "safetensors", "torch", "torch legacy", "torch.export" or one of CODE.

    Raises Invalid for others.
    """
    with files.named("read", path), file.open("rb") as stream:
        head = stream.read(512)
    if (
        len(head) > 9
        and head[8:9] == b"{"
        and int.from_bytes(head[:8], "little") < file.stat().st_size
    ):
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return sniff_zip(file, path)
    if LEGACY.match(head):
        return "torch legacy"
    if head.startswith(PICKLE):
        return "pickle"
    if is_compressed_pickle(head):
        return "joblib"
    raise refusal(accident(head), path)


def is_compressed_pickle(head: bytes) -> bool:
    """Whether zlib or gzip data, which joblib writes, begin as a pickle does."""
    try:
        return zlib.decompressobj(wbits=AUTOMATIC).decompress(head, 1) == PICKLE
    except zlib.error:
        return False


def sniff_zip(file: Path, path: Path) -> str:
    """Which of torch's archives it is; sound ones alone are told apart. Raises Invalid."""
    try:
        listed = archive.listed(file)
        stems = {name.partition("/")[2] for name in listed}
        if "constants.pkl" in stems or any(name.startswith("code/") for name in stems):
            return "TorchScript"
        if "serialized_exported_program.json" in listed:  # at the root
            return "torch.export legacy"
        if not any(map(OF_TORCH.match, stems)):
            held = any(name.endswith(ENDINGS) for name in listed)
            raise refusal(
                "a zip archive " + ("of files: unpack it" if held else "without weights"), path
            )
        records = archive.names(file)
        if "archive_format" in records or any(name.startswith("models/") for name in records):
            return "torch.export"
        if ".data/extern_modules" in records:
            raise refusal("a torch.package archive, which is code", path)
        archive.only(records, rf"data\.pkl|{archive.STORAGE}|{archive.TEXT}")
    except archive.Odd as error:
        raise refusal(str(error), path) from error
    return "torch"


def accident(head: bytes) -> str:
    """What a file is that is no model: the usual mistakes, each by its name."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    signs: list[tuple[bool, str]] = [
        (not head, "empty"),
        (
            text.startswith((b"<!doctype", b"<html", b"<?xml")),
            "a web page (html): a download that failed?",
        ),
        (text.startswith(b"version https://git-lfs"), "a git-lfs pointer: run git lfs pull"),
        (text.startswith(b"outs:") or b"\nmd5:" in text, "a DVC pointer: run dvc pull"),
        (head.startswith(b"\x1f\x8b"), "gzip data: unpack it first"),
        (
            head.startswith((b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")),
            "compressed: unpack it first",
        ),
        (head[257:262] == b"ustar", "a tar archive: unpack it first"),
        (head.startswith(b"\x93NUMPY"), "a numpy array"),
        (head.startswith(b"\x89HDF"), "an HDF5 file, as Keras writes it"),
        (
            re.match(rb"\x08[\1-\x20][\x12\x1a\x3a]", head) is not None,
            "an ONNX graph: kt makes its own",
        ),
        (b"\0" not in head and head.isascii(), "a text file"),
    ]
    return next((what for found, what in signs if found), "of no format that kt knows")


def refusal(what: str, path: Path) -> Invalid:
    return Invalid(f"is {what}", where=str(path), do=INSTEAD)


def read(file: Path, source: Source, path: Path) -> Opened:
    """The tensors of a file, and what it says of them. Raises Invalid.

    They stay in the file until they are looked at, where its format lets them.
    """
    if source.format == "safetensors":
        return read_safetensors(file, source, path)
    if source.format == "torch.export":
        tensors, config = program.read(file, path)
        named = named_tensors(tensors, path) if tensors else {}  # a program may need no weights
        return Opened(source, named, "exported", config)
    found = read_weights(file, source, path)
    if source.format == "torch":
        refuse_short(found.tensors.values(), archive.storages(file), path)
    return found


def read_weights(file: Path, source: Source, path: Path) -> Opened:
    """`read` of what torch.save has written."""
    whole = read_torch(file, path, mapped=source.format == "torch")
    if not isinstance(whole, Mapping):
        raise Invalid(
            f"holds a {type(whole).__name__}, not weights by name",
            where=str(path),
            do="save model.state_dict()",
        )
    if whole.get("kt") == 1 and isinstance(whole.get("state_dict"), Mapping):
        return from_checkpoint(whole, source, path)
    nested = next((whole[key] for key in NESTED if isinstance(whole.get(key), Mapping)), whole)
    return Opened(source, named_tensors(nested, path))


def read_torch(file: Path, path: Path, *, mapped: bool) -> Any:
    """A torch file through the weights-only unpickler. Raises Invalid where it holds anything else.

    mapped: the tensors stay in the file until they are looked at, which the old format cannot.
    """
    import torch

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(beside.stand_ins()):
            warnings.simplefilter("ignore")  # torch's advice to whoever wrote the file
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if f"Unsupported operand {FRAME}\n" in str(error):
            raise Invalid(
                "is pickled by protocol 4 or later, and torch reads weights alone of protocol 2",
                where=str(path),
                do="save it again without pickle_protocol: torch.save(model.state_dict(), FILE); "
                "or vouch for it: --trust-code REASON",
            ) from error
        found = re.search(
            r"GLOBAL ([\w.]+)|<(?:class|function|built-in function) '?([\w.]+)", str(error)
        )
        what = (
            f"holds more than weights ({found[1] or found[2]})"
            if found
            else "holds more than weights"
        )
        raise Invalid(what, where=str(path), do=VOUCH) from error
    except Exception as error:  # a damaged file may make torch raise anything
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise Invalid(
            f"cannot be read as weights: {reason}", where=str(path), do="save it again"
        ) from error


def refuse_short(tensors: "Iterable[torch.Tensor]", records: Iterable[int], path: Path) -> None:
    """Raises Invalid where weights need more bytes than their records have.

    torch maps the file and looks at no record's length: it would take what comes next for weights.
    """
    storages = (tensor.untyped_storage() for tensor in tensors)
    needed = {storage.data_ptr(): storage.nbytes() for storage in storages}
    there = sorted(records, reverse=True)
    if any(map(operator.gt, sorted(needed.values(), reverse=True), there)):
        raise Invalid(
            "has a record that is shorter than the weights in it",
            where=str(path),
            do="save it again",
        )


def from_checkpoint(whole: Mapping[str, Any], source: Source, path: Path) -> Opened:
    """A checkpoint as `kt train` writes it."""

    def part(key: str, kind: type) -> Any:
        value = whole.get(key, kind())
        if not isinstance(value, kind):
            raise Invalid(
                f"its {key} is a {type(value).__name__}",
                where=str(path),
                do="save a dict there, as kt train does",
            )
        try:
            told = orjson.dumps(value)
            if len(told) > PART:
                raise Invalid(
                    f"its {key} takes {len(told):,} bytes as JSON, more than {PART:,}",
                    where=str(path),
                    do="keep there what tells of the model, and the rest in a file of its own",
                )
            return orjson.loads(told)
        except (orjson.JSONEncodeError, orjson.JSONDecodeError) as error:
            raise Invalid(
                f"its {key} cannot be kept as JSON: {error}",
                where=str(path),
                do="save numbers and texts there, not tensors: x.item()",
            ) from error

    return Opened(
        source,
        named_tensors(whole["state_dict"], path),
        family=part("family", str),
        config=part("config", dict),
        signature=part("signature", dict) or None,
        model=part("model", str),
        scores=part("scores", dict),
        training=part("training", dict),
        reference=part("reference", dict),
    )


def read_safetensors(file: Path, source: Source, path: Path) -> Opened:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as held:
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118  # no mapping
            ours = "kt" in (held.metadata() or {})
    except (SafetensorError, RecursionError, ValueError, RuntimeError) as error:
        raise Invalid(
            f"is no sound safetensors file: {' '.join(str(error).split())[:150]}",
            where=str(path),
            do="save it again",
        ) from error
    if not ours:
        return Opened(source, named_tensors(tensors, path))
    try:
        spec = load.header(file)
    except Corrupt as error:
        raise Invalid(
            error.what, where=str(path), do="save it again; what kt train wrote says its family"
        ) from error
    return Opened(source, named_tensors(tensors, path), spec.family, spec.config, spec.signature)


def named_tensors(found: Mapping[Any, Any], path: Path) -> "dict[str, torch.Tensor]":
    """A state dict, if it is one: names to dense tensors with their data. Raises Invalid."""
    import torch

    if not found:
        raise Invalid(
            "holds no weights",
            where=str(path),
            do="save the weights: torch.save(model.state_dict(), FILE)",
        )
    for name, tensor in found.items():
        if not isinstance(name, str):
            raise Invalid(
                f"the key {str(name)[:60]} is no text",
                where=str(path),
                do="save model.state_dict(), whose keys are names",
            )
        if not isinstance(tensor, torch.Tensor):
            raise Invalid(
                f"{name[:60]!r} is a {type(tensor).__name__}, not a tensor",
                where=str(path),
                do=f"save model.state_dict() alone, or beside other things as one of {', '.join(NESTED)}",
            )
        if (
            tensor.is_meta
            or tensor.layout != torch.strided
            or tensor.is_complex()
            or tensor.is_quantized
        ):
            raise Invalid(
                f"{name[:60]!r} is not a dense tensor of real numbers",
                where=str(path),
                do="save it dense, real and not quantized: tensor.to_dense()",
            )
    return {name: tensor.detach() for name, tensor in found.items()}


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """--config FILE: a family's configuration as JSON, alone or as {"config": ..., "signature": ...}."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise Invalid(f"is no JSON file: {error}", where=str(path), do=CONFIG) from error
    if not isinstance(found, dict):
        raise Invalid("is no JSON object", where=str(path), do=CONFIG)
    if "config" not in found:
        return found, None
    config, signature = found["config"], found.get("signature")
    if not isinstance(config, dict) or not isinstance(signature, dict | None):
        raise Invalid("config and signature must be objects", where=str(path), do=CONFIG)
    return config, signature


def refuse_unknown_family(path: Path) -> Refused:
    from kt import plugins

    families = [name for name in plugins.names("models") if name != "exported"]
    return Refused(
        f"{path} does not say which family its weights belong to",
        do=f"name it: --family {' | '.join(families)} (or a dotted path of your own) and --config FILE; "
        "or deploy the model as a program: torch.export.save(torch.export.export(model, args), FILE)",
    )

"""Documents of vectors, read from .npz files as numpy.savez writes them, one or several or a folder of them:

    vectors   (E, D) floats, document by document       embeddings of paragraphs, of items answered, ...
    document  (L,) text, the documents' names
    offsets   (L + 1,) whole numbers: document l is vectors offsets[l] to offsets[l + 1]
    bank      (10000, D) floats, what the next vector is looked for among; may be left out, and is then
              drawn from all vectors by their bytes, so that the same files give the same bank

Documents of a file whose name begins with "test" are kept for testing.
"""

import hashlib
import math
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from kt.errors import Invalid

BANK = 10_000  # vectors
MOST_BYTES = 8 << 30  # of an array

ARRAYS = "an .npz file with the arrays vectors, document and offsets; see kt train --help"


@dataclass(frozen=True)
class Data:
    """The vectors of L documents, E in all, each of length 1 in D dimensions."""

    documents: tuple[str, ...]
    offsets: np.ndarray  # (L + 1,) int64
    vectors: np.ndarray  # (E, D) float32
    bank: np.ndarray  # (BANK, D) float32, all different
    testing: np.ndarray  # (L,) bool: kept for testing
    source: str = ""
    sha256: str = ""

    @property
    def units(self) -> tuple[str, ...]:
        return self.documents

    @property
    def counts(self) -> dict[str, int]:
        return {"vectors": len(self.vectors), "documents": len(self.documents)}

    @property
    def steps(self) -> "Steps":
        """From each vector that another follows to the one that follows."""
        first = np.zeros(len(self.vectors), bool)
        first[self.offsets[:-1]] = True
        return Steps(np.flatnonzero(~first), self.offsets - np.arange(len(self.offsets)))

    def take(self, documents: np.ndarray) -> "Data":
        """These documents alone, given as a mask."""
        lengths = np.diff(self.offsets)
        return replace(
            self,
            documents=tuple(np.array(self.documents, object)[documents]),
            offsets=np.concatenate([[0], np.cumsum(lengths[documents])]).astype(np.int64),
            vectors=self.vectors[np.repeat(documents, lengths)],
            testing=self.testing[documents],
        )


@dataclass(frozen=True)
class Steps:
    """Steps from a vector to the next; those of document l are offsets[l] to offsets[l + 1]."""

    to: np.ndarray  # (n,) places of the vectors that follow
    offsets: np.ndarray

    @property
    def document(self) -> np.ndarray:
        """(n,) the place of each one's document."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def read(paths: Path | Sequence[Path]) -> Data:
    """The documents in a file, in several, or in a folder's .npz files. Raises Invalid."""
    files = list(_files([paths] if isinstance(paths, Path) else paths))
    source = ", ".join(path.name for path in files)
    hashed = hashlib.sha256()
    found = [_read(path, hashed) for path in files]
    documents = [name for each in found for name in each.documents]
    if len(set(documents)) < len(documents):
        twice = Counter(documents).most_common(1)[0][0]
        raise Invalid(
            f"the document {twice[:64]} is there twice",
            where=source,
            do="give each document another name, and each file once",
        )
    if len({each.vectors.shape[1] for each in found}) > 1:
        raise Invalid(
            "vectors of different dimensions",
            where=source,
            do="give files whose vectors are of one dimension",
        )
    vectors = np.concatenate([each.vectors for each in found])
    lengths = np.concatenate([np.diff(each.offsets) for each in found])
    testing = [path.name.lower().startswith("test") for path in files]
    return Data(
        documents=tuple(documents),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        vectors=vectors,
        bank=_bank([each.bank for each in found if each.bank is not None], vectors, source),
        testing=np.repeat(testing, [len(each.documents) for each in found]),
        source=source,
        sha256=hashed.hexdigest(),
    )


@dataclass(frozen=True)
class _File:
    documents: tuple[str, ...]
    offsets: np.ndarray
    vectors: np.ndarray
    bank: np.ndarray | None


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.npz"))
            if not found:
                raise Invalid("no .npz file in it", where=str(path), do=f"give {ARRAYS}")
            yield from found
        else:
            yield path


def _read(path: Path, hashed: "hashlib._Hash") -> _File:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(
            f"cannot read it: {error.strerror}", where=str(path), do="let this user read it: ls -l"
        ) from error
    hashed.update(content)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in ("vectors", "document", "offsets") if name not in held]:
                raise ValueError(f"it lacks {missing[0]}")
            found = {name: _array(archive, held[name]) for name in KINDS if name in held}
        return _checked(found)
    except _DAMAGE as error:
        reason = str(error)[:120] or type(error).__name__
        raise Invalid(
            f"not data of documents: {reason}", where=str(path), do=f"give {ARRAYS}"
        ) from error


KINDS = {"vectors": "f", "document": "U", "offsets": "iu", "bank": "f"}
"""Of numpy's dtypes, what each array may hold."""

_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # encrypted, or compressed as zipfile does not know
    SyntaxError,  # as the next, a header that is no literal
    tokenize.TokenError,
)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, of the size that its header says and no other; an object in it is never made."""
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is in another version of numpy's format")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in KINDS[name] or by_column:
            raise ValueError(
                f"{name} holds {dtype.name}" if not by_column else f"{name} lies by column"
            )
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - file.tell() or size > MOST_BYTES:
            raise ValueError(f"{name} is not as long as it says")
        return np.frombuffer(file.read(), dtype).reshape(shape)


def _checked(found: Mapping[str, np.ndarray]) -> _File:
    """Raises ValueError where arrays do not belong together."""
    vectors, names, offsets = found["vectors"], found["document"], found["offsets"]
    if vectors.ndim != 2 or vectors.shape[1] < 2:
        raise ValueError(f"vectors has the shape {list(vectors.shape)}, not [E, D]")
    fits = names.ndim == offsets.ndim == 1 and len(offsets) == len(names) + 1
    if (
        not fits
        or offsets[0] != 0
        or offsets[-1] != len(vectors)
        or (offsets[1:] <= offsets[:-1]).any()
    ):
        raise ValueError(
            "offsets must rise from 0 to the number of vectors, one more than documents"
        )
    bank = found.get("bank")
    if bank is not None and bank.shape != (BANK, vectors.shape[1]):
        raise ValueError(f"bank has the shape {list(bank.shape)}, not {[BANK, vectors.shape[1]]}")
    return _File(
        tuple(names.tolist()),
        offsets.astype(np.int64),
        _unit(vectors, "vectors"),
        None if bank is None else _unit(bank, "bank"),
    )


def _unit(vectors: np.ndarray, name: str) -> np.ndarray:
    """float32, each of length 1. Raises ValueError where one has no direction."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        long = vectors.astype(np.float64)
        found: np.ndarray = (long / np.linalg.norm(long, axis=1, keepdims=True)).astype(np.float32)
    if not (whole := np.isfinite(found).all(1)).all():
        raise ValueError(
            f"{name}[{int(np.argmin(whole))}] has no direction: it is zero or not finite"
        )
    return found


def _bank(given: Sequence[np.ndarray], vectors: np.ndarray, source: str) -> np.ndarray:
    """The bank that files bring, or one drawn from all vectors. Raises Invalid."""
    if any(not np.array_equal(given[0], other) for other in given[1:]):
        raise Invalid(
            "the files bring different banks",
            where=source,
            do="give one file the bank, or all the same",
        )
    found = np.unique(given[0] if given else vectors, axis=0)
    if not given:
        by = [hashlib.blake2b(vector.tobytes(), digest_size=8).digest() for vector in found]
        found = found[sorted(range(len(found)), key=by.__getitem__)[:BANK]]
    if len(found) < BANK:
        raise Invalid(
            f"{len(found):,} different vectors to find the next one among, Hit@k is measured over {BANK:,}",
            where=source,
            do=f"give {BANK:,} vectors of other documents as the array bank",
        )
    return found

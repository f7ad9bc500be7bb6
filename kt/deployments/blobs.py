"""The files of versions that are not in git, which machines give each other by digest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kt.deployments import gc
from kt.deployments.need import Key
from kt.errors import Unavailable
from kt.registry import record, remote
from kt.workspace import Workspace

SERVED = ("active", "experiment", "served")  # the reasons that a predictor cannot do without


Tell = Callable[[str, str], None]  # a step and what came of it
Watch = Callable[[str, int], remote.Moved]  # what moves and its bytes -> told of each part


@dataclass(frozen=True)
class Blob:
    """A file of a version that is not in git, wherever it is: its weights, or what kt made of them."""

    key: Key
    file: str  # in the version's folder
    sha256: str
    size: int  # bytes

    @property
    def name(self) -> str:
        return "@".join(self.key) + ("" if self.is_weights else f" {self.file}")

    @property
    def is_weights(self) -> bool:
        """What a version cannot do without."""
        return self.file == record.WEIGHTS

    def path(self, workspace: Workspace) -> Path:
        return record.folder(workspace, *self.key) / self.file


def blobs(known: record.VersionRecord) -> Iterator[Blob]:
    key = known.model, known.version
    yield Blob(key, record.WEIGHTS, known.sha256, known.size)
    for file, made in known.exports.items():
        yield Blob(key, file, made.sha256, made.size)


def all_blobs(workspace: Workspace) -> Iterator[Blob]:
    for one in gc.stored(workspace):
        yield from blobs(record.read(workspace, *one.key))


def lacking(one: Blob, store: remote.Store) -> Unavailable:
    if store.gone:
        return Unavailable(
            f"there is no folder {store.url}, where the weights of {one.name} should be",
            do="mount it if it is another machine's; kt push makes it",
        )
    return Unavailable(
        f"the store does not have the weights of {one.name}",
        do="push them from a machine that has them: kt push",
    )

"""The store: weights by their digest, in a folder that machines share or behind any URL of fsspec.

    <url>/weights/<sha256>

A name is only ever given to these very bytes, so two machines that push at once write the same, and
what is there is complete: it is written aside and renamed, or, in an object store, appears by one put.
Nothing that arrives is believed before it is hashed. What a killed pull had fetched is kept in
`.kt/incoming` and hashed again before the rest is fetched.

Keys and endpoints come from where each client looks for them (AWS_PROFILE, AWS_ENDPOINT_URL, ...):
kt.toml is in git and holds no secrets.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from kt import files
from kt.errors import Corrupt, Invalid, KtError, Unavailable
from kt.locks import take
from kt.workspace import Workspace

INCOMING = "incoming"  # in .kt/: what is being fetched, by digest
ABANDONED = 24 * 3600  # seconds that nobody has written to a file in the store
MARGIN = 64 << 20  # bytes of the disk that a fetch leaves free
# of fsspec: where a put appears whole or not at all, and a rename is a copy
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2"}

Moved = Callable[[int], None]  # so many more bytes


@dataclass(frozen=True)
class Store:
    """url: as in kt.toml. folder: of a store that is a folder here; else the file system and a path in it."""

    url: str
    folder: Path | None
    system: Any = None  # an fsspec file system
    path: str = ""

    def held(self) -> dict[str, int]:
        """Size in bytes of all that is there, by digest."""
        with self.answering("list"):
            if self.folder is not None:
                entries = self.folder.iterdir() if self.folder.is_dir() else ()
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            self.system.invalidate_cache()
            try:
                listed = self.system.ls(self.path, detail=True)
            except FileNotFoundError:
                return {}
            return {str(one["name"]).rpartition("/")[2]: int(one["size"] or 0) for one in listed}

    @property
    def gone(self) -> bool:
        """Whether it is a folder that is not there: never made, or not mounted."""
        return self.folder is not None and not self.folder.parent.exists()

    def put(self, source: Path, sha256: str, moved: Moved) -> None:
        """Store a file under its digest. Raises Corrupt where it has another, Unavailable."""
        if self.folder is not None:
            return put_in_folder(source, self.folder, sha256, moved)
        if (found := files.digest(source)) != sha256:
            raise damaged(source, found, sha256)
        target = f"{self.path}/{sha256}"
        aside = f"{self.path}/{files.ASIDE}{secrets.token_hex(4)}-{sha256}"
        with self.answering("write to"):
            self.system.makedirs(self.path, exist_ok=True)
            if self.at_once:
                self.system.put_file(str(source), target, callback=told(moved))
            else:
                self.system.put_file(str(source), aside, callback=told(moved))
                self.system.mv(aside, target)
        return None

    @property
    def at_once(self) -> bool:
        """Whether a put appears whole or not at all."""
        protocols = self.system.protocol
        return bool(
            {protocols} & OBJECT_STORES
            if isinstance(protocols, str)
            else {*protocols} & OBJECT_STORES
        )

    def fetch(self, sha256: str, size: int, into: Path, moved: Moved) -> None:
        """Fetch what has this digest and size, going on where `into` ends. Raises Corrupt, Unavailable.

        A beginning that turns out to be wrong, as a power cut leaves it, is fetched too.
        """
        begun = into.exists()
        have, found = self._fetched(sha256, size, into, moved)
        if found != sha256 and begun:
            files.discard(into)
            have, found = self._fetched(sha256, size, into, moved)
        if found == sha256:
            return
        files.discard(into)
        if have < size:
            raise Unavailable(
                f"{self.url} sent {have} of {size} bytes",
                do="run the command again; where it stays so, push from a machine that has them: kt push",
            )
        raise Corrupt(
            "holds other bytes than its name says",
            where=f"{self.url}/weights/{sha256}",
            do="remove it there, then push it again from a machine that has it: kt push",
        )

    def _fetched(self, sha256: str, size: int, into: Path, moved: Moved) -> tuple[int, str]:
        """How many bytes are in `into` once what it lacks has come, and their digest."""
        with files.named("write", into):
            room(into.parent, size)
            file = into.open("ab+")
        with file:
            file.seek(0)
            hashed = hashlib.sha256()
            have = 0
            while chunk := file.read(files.CHUNK):
                hashed.update(chunk)
                have += len(chunk)
            if have < size:
                moved(have)
                with self.answering("read"), self.opened(sha256, have) as source:
                    for chunk in chunks(source, size - have + 1):
                        hashed.update(chunk)
                        with files.named("write", into):
                            file.write(chunk)
                        have += len(chunk)
                        moved(len(chunk))
            with files.named("write", into):
                file.flush()
                os.fsync(file.fileno())
        return have, hashed.hexdigest()

    @contextmanager
    def opened(self, sha256: str, begin: int) -> Iterator[IO[bytes]]:
        if self.folder is not None:
            with (self.folder / sha256).open("rb") as file:
                file.seek(begin)
                yield file
        else:
            with self.system.open(
                f"{self.path}/{sha256}", "rb", block_size=8 << 20, cache_type="readahead"
            ) as file:
                file.seek(begin)
                yield file

    def answering(self, action: str) -> AbstractContextManager[None]:
        return answering(action, self.url)


@contextmanager
def answering(action: str, url: str) -> Iterator[None]:
    """What the client of a store raises becomes Unavailable."""
    try:
        yield
    except (KtError, KeyboardInterrupt):
        raise
    except Exception as error:  # each client raises its own
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unavailable(
            f"cannot {action} {url}: {said}",
            do="nothing was changed here; mend it and run the command again",
        ) from error


def open_store(workspace: Workspace) -> Store:
    """The store that kt.toml names. Raises Invalid where it names none, or one that nothing here opens."""
    url = workspace.settings.remote.url
    where = f"{workspace.root / 'kt.toml'}: [remote] url"
    if not url:
        raise Invalid(
            "no place is set where machines share weights",
            where=where,
            do='set it: url = "s3://bucket/prefix", or a folder that all of them see',
        )
    scheme, separator, rest = url.partition("://")
    try:
        if not separator or scheme in ("file", "local"):
            folder = Path(rest if separator else url).expanduser()
            return Store(url, workspace.root / folder / "weights")
        password = urlsplit(url).password
    except (ValueError, RuntimeError) as error:  # [ without ], ~ of nobody
        raise Invalid(f"{url[:64]!r}: {error}", where=where, do="name a folder or a URL") from error
    if password:
        raise Invalid(
            "holds a password, and kt.toml is in git",
            where=where,
            do="leave it out; set it where the store's client looks for it (for S3: AWS_SECRET_ACCESS_KEY or a profile)",
        )
    import fsspec

    try:
        with answering("open", url):
            system, path = fsspec.core.url_to_fs(url)
    except Unavailable as error:
        match error.__cause__:
            case ImportError() as cause:
                raise Invalid(
                    f"{scheme}:// needs a package: {cause}",
                    where=where,
                    do="install it: pip install 'kt[s3]'"
                    if scheme == "s3"
                    else "install it with pip",
                ) from cause
            case ValueError() as cause:
                raise Invalid(
                    str(cause), where=where, do="see https://filesystem-spec.readthedocs.io"
                ) from cause
        raise
    return Store(url, None, system, f"{path.rstrip('/')}/weights")


def put_in_folder(source: Path, folder: Path, sha256: str, moved: Moved) -> None:
    aside = folder / f"{files.ASIDE}{secrets.token_hex(4)}-{sha256}"
    hashed = hashlib.sha256()
    with files.named("write", aside):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with source.open("rb") as file, aside.open("xb") as copy:
                while chunk := file.read(files.CHUNK):
                    hashed.update(chunk)
                    copy.write(chunk)
                    moved(len(chunk))
                copy.flush()
                os.fsync(copy.fileno())
            if (found := hashed.hexdigest()) != sha256:
                raise damaged(source, found, sha256)
        except BaseException:
            files.discard(aside)
            raise
    sweep(folder, aside.stat().st_mtime)
    files.publish(aside, folder / sha256)


def sweep(folder: Path, now: float) -> None:
    """Remove what killed pushes left half written. now: by the store's own clock; what a living one
    of any machine writes is younger than ABANDONED."""
    for path in files.asides(folder):
        with suppress(OSError):
            if path.stat().st_mtime < now - ABANDONED:
                path.unlink()


def damaged(path: Path, found: str, sha256: str) -> Corrupt:
    return Corrupt(
        f"the weights have sha256 {found[:12]}…, not {sha256[:12]}…",
        where=str(path),
        do="register the same file again: kt register FILE",
    )


def chunks(source: IO[bytes], most: int) -> Iterator[bytes]:
    """What comes, but never more than `most` bytes: a store may send without end."""
    while most > 0 and (chunk := source.read(min(files.CHUNK, most))):
        most -= len(chunk)
        yield chunk


def room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size + MARGIN > free:
        raise Unavailable(
            f"{folder} has {free >> 20} MiB free, {size >> 20} and {MARGIN >> 20} to spare are needed",
            do="make room: kt gc",
        )


@contextmanager
def incoming(workspace: Workspace) -> Iterator[Path]:
    """The folder that weights are fetched into. What is left in it is gone on from by the next pull.

    A kernel lock keeps a second pull out. Raises Unavailable.
    """
    folder = workspace.local / INCOMING
    with files.named("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not take(descriptor):
            raise Unavailable("another pull is running here", do="wait for it, then run this again")
        yield folder
    finally:
        os.close(descriptor)


def partial(workspace: Workspace) -> list[Path]:
    """What pulls have fetched and not used, unless one is running."""
    try:
        with incoming(workspace) as folder:
            return sorted(folder.iterdir())
    except KtError:
        return []


def told(moved: Moved) -> Any:
    """`moved` as a callback of fsspec."""
    from fsspec.callbacks import Callback

    class Told(Callback):  # type: ignore[misc]  # fsspec has no types
        def relative_update(self, inc: int = 1) -> None:
            moved(inc)

    return Told()

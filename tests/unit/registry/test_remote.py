"""The store: a folder and an S3 server under the same promises."""

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forge
import pytest

from kt.errors import Corrupt, Invalid, Unavailable
from kt.registry import remote
from kt.registry.remote import Store
from kt.workspace import Workspace

DATA = os.urandom(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server on this machine, with the bucket `weights`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    urls = {
        "folder": str(tmp_path / "shared"),
        "s3": "s3://weights/kt",
        "memory": f"memory:/{tmp_path}",
    }
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fresh_bucket()
    return open_at(tmp_path, urls[request.param])


def fresh_bucket() -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if system.exists("weights"):
        system.rm("weights", recursive=True)
    system.mkdir("weights")


def open_at(root: Path, url: str) -> Store:
    place = forge.workspace(root / "w")
    (place.root / "kt.toml").write_text(f'git = "off"\n[remote]\nurl = "{url}"\n')
    return remote.open_store(Workspace(place.root))


def quiet(_: int) -> None:
    pass


def test_what_was_put_is_held_and_comes_back(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    assert store.held() == {}
    moved: list[int] = []
    store.put(source, SHA, moved.append)
    assert store.held() == {SHA: len(DATA)}
    assert sum(moved) == len(DATA)
    store.fetch(SHA, len(DATA), tmp_path / "got", moved.append)
    assert (tmp_path / "got").read_bytes() == DATA
    assert sum(moved) == 2 * len(DATA)


def test_two_puts_of_the_same_are_one(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    store.put(source, SHA, quiet)
    store.put(source, SHA, quiet)
    assert store.held() == {SHA: len(DATA)}


def test_a_damaged_file_is_not_put(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" + DATA[1:])
    with pytest.raises(Corrupt):
        store.put(source, SHA, quiet)
    assert store.held() == {}


def put_raw(store: Store, data: bytes, name: str = SHA) -> None:
    """Past kt: what a broken or hostile store would hold."""
    if store.folder is not None:
        store.folder.mkdir(parents=True, exist_ok=True)
        (store.folder / name).write_bytes(data)
    else:
        store.system.makedirs(store.path, exist_ok=True)
        store.system.pipe_file(f"{store.path}/{name}", data)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"x" + DATA[1:], Corrupt),
        (DATA[:-1], Unavailable),
        (DATA + b"x", Corrupt),
        (b"", Unavailable),
    ],
    ids=["flipped", "short", "long", "empty"],
)
def test_other_bytes_than_the_name_says_are_not_believed(
    store: Store, tmp_path: Path, sent: bytes, kind: type[Exception]
) -> None:
    put_raw(store, sent)
    with pytest.raises(kind):
        store.fetch(SHA, len(DATA), tmp_path / "got", quiet)
    assert not (tmp_path / "got").exists()


def test_a_fetch_goes_on_where_a_killed_one_ended(store: Store, tmp_path: Path) -> None:
    put_raw(store, DATA)
    (tmp_path / "got").write_bytes(DATA[:1_000_000])
    asked: list[int] = []
    real = store.opened

    class Watching(Store):
        def opened(self, sha256: str, begin: int) -> Any:
            asked.append(begin)
            return real(sha256, begin)

    Watching(store.url, store.folder, store.system, store.path).fetch(
        SHA, len(DATA), tmp_path / "got", quiet
    )
    assert asked == [1_000_000]
    assert (tmp_path / "got").read_bytes() == DATA


@pytest.mark.parametrize("length", [1000, len(DATA), len(DATA) + 1], ids=["part", "all", "more"])
def test_what_a_power_cut_left_of_a_fetch_is_fetched_anew(
    store: Store, tmp_path: Path, length: int
) -> None:
    """It is not the store's file that is wrong, and nobody is told to remove that."""
    put_raw(store, DATA)
    (tmp_path / "got").write_bytes(bytes(length))
    store.fetch(SHA, len(DATA), tmp_path / "got", quiet)
    assert (tmp_path / "got").read_bytes() == DATA


def test_what_is_not_there_is_unavailable(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        store.fetch(SHA, len(DATA), tmp_path / "got", quiet)


def test_a_store_that_does_not_answer_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(Unavailable, match="cannot list s3://weights/kt"):
        open_at(tmp_path, "s3://weights/kt").held()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no place is set"),
        ("s3://key:secret@bucket/prefix", "holds a password"),
        ("nonsense://bucket", "nonsense"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("~nobody-of-that-name/store", "home directory"),
    ],
)
def test_a_url_that_cannot_be_is_invalid(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        open_at(tmp_path, url)


def test_a_store_whose_client_fails_at_once_is_unavailable(tmp_path: Path) -> None:
    """Some of fsspec's clients connect as soon as they are made."""
    with pytest.raises(Unavailable, match=r"cannot open ftp://127\.0\.0\.1:9/kt"):
        open_at(tmp_path, "ftp://127.0.0.1:9/kt")


def test_a_second_pull_is_kept_out(place: Workspace) -> None:
    with (
        remote.incoming(place),
        pytest.raises(Unavailable, match="another pull"),
        remote.incoming(place),
    ):
        pass


def test_what_a_killed_push_left_in_a_folder_goes_after_a_day(tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"abc")
    folder = tmp_path / "store"
    folder.mkdir()
    old, new = folder / ".aside-1-x", folder / ".aside-2-y"
    for path, age in ((old, 2 * remote.ABANDONED), (new, 60)):
        path.touch()
        then = source.stat().st_mtime - age
        os.utime(path, (then, then))
    sha256 = hashlib.sha256(b"abc").hexdigest()
    remote.put_in_folder(source, folder, sha256, lambda _: None)
    assert {path.name for path in folder.iterdir()} == {new.name, sha256}

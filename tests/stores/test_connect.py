"""Tables are made where they are needed, and what is wrong with a database is said with a way out."""

import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from kt.config import Settings
from kt.errors import Corrupt, Invalid, KtError, Refused, Unavailable
from kt.store import connect, counters, database, migrate, network
from kt.store.database import Store
from kt.store.schema import metadata

DEFAULT = Settings()


def test_a_reader_makes_nothing(tmp_path: Path, settings: Settings) -> None:
    assert connect.peek(tmp_path, settings) is None
    assert list(tmp_path.iterdir()) == []
    connect.open(tmp_path, settings)
    found = connect.peek(tmp_path, settings)
    assert found is not None
    assert counters.counters(found, 0, 10) == {}


def by_steps(root: Path, settings: Settings, to: str) -> Store:
    """Tables as an older kt made them."""
    url = settings.store.url
    store = database.at(connect.file_of(root, url) or url)
    if store.engine.dialect.name == "sqlite":
        migrate.prepare(store)
    with store.write() as connection:
        command.upgrade(migrate.steps(connection), to)
    return store


def test_the_steps_lead_to_the_schema(tmp_path: Path, settings: Settings) -> None:
    with by_steps(tmp_path, settings, "head").read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert migrate.stands_at(connection) == migrate.HEAD
    assert ScriptDirectory(str(migrate.STEPS)).get_heads() == [migrate.HEAD]


def test_tables_that_are_made_at_once_are_those_that_the_steps_make(tmp_path: Path) -> None:
    """To the letter of SQLite: what keeps rows apart and ids unused stands nowhere else."""
    made = []
    for name, make in (
        ("steps", by_steps),
        ("once", lambda root, settings, _: connect.open(root, settings)),
    ):
        (tmp_path / name).mkdir()
        with make(tmp_path / name, DEFAULT, "head").read() as connection:
            found = connection.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name"))
            made.append(
                [(one.name, sorted(" ".join((one.sql or "").split()).split(", "))) for one in found]
            )
    assert made[0] == made[1]


def test_tables_of_an_older_kt_are_brought_along_with_what_they_hold(
    tmp_path: Path, settings: Settings
) -> None:
    with by_steps(tmp_path, settings, "0001").write() as connection:
        counters.add(connection, {(1, "dropped"): 7})
    found = connect.peek(tmp_path, settings)
    assert found is not None
    assert migrate.version(found) == migrate.HEAD != "0001"
    assert counters.counters(found, 0, 10) == {"dropped": 7}


def test_many_may_open_what_is_not_there_yet(tmp_path: Path, settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: connect.open(tmp_path, settings), range(8)))
    for one in stores:
        assert migrate.version(one) == migrate.HEAD


def test_tables_of_a_newer_kt_are_left_alone(
    store: Store, tmp_path: Path, settings: Settings
) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for look in (connect.open, connect.peek):
        with pytest.raises(Unavailable, match="of a newer kt: step 9999, this one knows"):
            look(tmp_path, settings)


def test_what_fails_halfway_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as connection:
            counters.add(connection, {(1, "dropped"): 1})
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fail()
    assert not counters.counters(store, 0, 10)


def test_without_a_url_nothing_is_kept(tmp_path: Path) -> None:
    off = Settings.model_validate({"store": {"url": ""}})
    assert connect.peek(tmp_path, off) is None
    with pytest.raises(Refused, match="no tables"):
        connect.open(tmp_path, off)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = connect.open(tmp_path, DEFAULT)
    with store.write() as connection:
        counters.add(connection, {(1, "dropped"): 1})
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("kt.db*")}
    assert modes == dict.fromkeys(("kt.db", "kt.db-wal", "kt.db-shm"), 0o600)


def test_a_locked_file_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT", 0.2)
    store = connect.open(tmp_path, DEFAULT)
    other = sqlite3.connect(tmp_path / "kt.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    assert connect.peek(tmp_path, DEFAULT)  # readers go on
    with pytest.raises(Unavailable, match="locked") as caught, store.write():
        pass
    assert caught.value.where == str(tmp_path / "kt.db")
    assert caught.value.do
    ending = threading.Timer(0.1, other.rollback)
    ending.start()
    monkeypatch.setattr(database, "WAIT", 5)
    with store.write() as connection:
        counters.add(connection, {(1, "dropped"): 1})
    ending.join()
    other.close()


def test_a_deleted_file_is_an_error_until_it_is_made_again(tmp_path: Path) -> None:
    store = connect.open(tmp_path, DEFAULT)
    for path in tmp_path.glob("kt.db*"):
        path.unlink()
    with pytest.raises(Unavailable, match="unable to open"), store.write():
        pass
    assert not (tmp_path / "kt.db").exists()
    connect.open(tmp_path, DEFAULT)
    with store.write() as connection:
        counters.add(connection, {(1, "dropped"): 1})


@pytest.mark.parametrize(
    "damage",
    [b"not a database at all, though it is long enough to be read as one" * 100, b"\xff" * 4096],
)
def test_a_damaged_file_is_corrupt_and_says_what_to_do(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "kt.db").write_bytes(damage)
    for look in (connect.open, connect.peek):
        with pytest.raises(Corrupt, match="damaged") as caught:
            look(tmp_path, DEFAULT)
        assert "move it away" in caught.value.do


def test_a_page_overwritten_in_the_middle_is_corrupt(tmp_path: Path) -> None:
    store = connect.open(tmp_path, DEFAULT)
    with store.write() as connection:
        counters.add(connection, {(minute, "dropped"): 1 for minute in range(20_000)})
    path = tmp_path / "kt.db"
    whole = path.read_bytes()
    path.write_bytes(
        whole[: len(whole) // 2] + b"\xff" * 20_000 + whole[len(whole) // 2 + 20_000 :]
    )
    with pytest.raises(Corrupt):
        counters.counters(store, 0, 20_000)


@pytest.mark.skipif(sys.platform != "linux", reason="no folder that root may not write either")
def test_a_folder_that_may_not_be_written_is_named() -> None:
    with pytest.raises(KtError, match="/proc"):
        connect.open(Path("/proc"), DEFAULT)


def test_a_server_that_is_not_there_is_unavailable_and_the_password_untold(tmp_path: Path) -> None:
    url = f"postgresql://kt:secret@/kt?host={tmp_path}"
    settings = Settings.model_validate({"store": {"url": url}})
    with pytest.raises(Unavailable) as caught:
        connect.open(tmp_path, settings)
    assert "secret" not in f"{caught.value} {caught.value.do}"


def test_a_url_that_makes_no_sense_is_invalid(tmp_path: Path) -> None:
    settings = Settings.model_validate({"store": {"url": "postgresql://kt:a:b:c@@/:x"}})
    with pytest.raises((Invalid, Unavailable)):
        connect.open(tmp_path, settings)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /srv/nfs rw,relatime shared:19 - nfs4 server:/export rw
41 40 8:2 / /srv/nfs/disk rw - xfs /dev/sdb1 rw
42 22 0:36 / /mnt/with\\040space rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/nfs/w/kt.db", "nfs4"),
        ("/srv/nfs/disk/kt.db", "xfs"),
        ("/srv/nfsx/kt.db", "ext4"),
        ("/mnt/with space/kt.db", "cifs"),
    ],
)
def test_a_file_system_is_found_by_its_mount(path: str, kind: str) -> None:
    assert network.file_system(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"40 22 0:35 / {tmp_path.resolve()} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(network, "MOUNTS", mounts)
    with pytest.raises(Refused, match="nfs4") as caught:
        connect.open(tmp_path, DEFAULT)
    assert "postgresql://" in caught.value.do
    assert not (tmp_path / "kt.db").exists()

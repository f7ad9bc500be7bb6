"""One suite over every kind of database: each test runs on SQLite, and on a PostgreSQL server that it starts."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from predictors import within

from kt.config import Settings
from kt.store import connect
from kt.store.database import Store

NUMBERS = count()


def binaries() -> Path | None:
    """The folder of initdb and postgres: on the path, as pg_config says, or where Debian puts them."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if asked := shutil.which("pg_config"):
        said = subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=False)
        folders.insert(0, Path(said.stdout.strip()))
    if found := shutil.which("postgres"):
        folders.insert(0, Path(found).resolve().parent)
    return next((one for one in folders if (one / "initdb").exists()), None)


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    """The folder of the socket of a PostgreSQL server, whose user kt needs no password."""
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed: no initdb")
    folder = Path(tempfile.mkdtemp(prefix="kt-pg-"))  # a socket's path must be short
    # initdb refuses root
    user: dict[str, Any] = {"user": "nobody", "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        shutil.chown(folder, "nobody")
    data = folder / "data"
    made = [
        found / "initdb",
        "-D",
        data,
        "-U",
        "kt",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
        "-N",
    ]
    done = subprocess.run(made, cwd=folder, capture_output=True, text=True, check=False, **user)
    if done.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"initdb fails here: {done.stderr.strip()[-200:]}")
    options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    run = [
        found / "postgres",
        "-D",
        data,
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(run, cwd=folder, stdout=log, stderr=log, **user)
    try:
        within(lambda: answers(folder, process), 60)
        yield folder
    finally:
        process.send_signal(signal.SIGINT)  # end at once, whoever is connected
        process.wait(30)
        shutil.rmtree(folder)


def answers(folder: Path, process: "subprocess.Popen[bytes]") -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(folder), user="kt", dbname="postgres").close()
    except psycopg.OperationalError:
        assert process.poll() is None, (folder / "log").read_text()
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a database that holds nothing yet."""
    if request.param == "sqlite":
        return "sqlite:///kt.db"
    import psycopg

    folder: Path = request.getfixturevalue("server")
    name = f"kt{next(NUMBERS)}"
    with psycopg.connect(host=str(folder), user="kt", dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return f"postgresql://kt@/{name}?host={folder}"


@pytest.fixture
def settings(url: str) -> Settings:
    return Settings.model_validate({"store": {"url": url}})


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    return connect.open(tmp_path, settings)

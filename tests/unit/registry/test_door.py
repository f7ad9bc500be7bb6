"""A file that nobody vouches for is opened by a process that is shut in, and that process is not believed."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import predictors
import pytest
import torch
from safetensors.torch import load_file, save_file

from kt.errors import Invalid, KtError, Refused, Unavailable
from kt.registry import archive, door, weights
from kt.registry.register import Prepared, Progress, Request
from kt.workspace import Workspace

FAMILY = '''
"""A family whose code does what the test needs."""
import os, pathlib, socket, subprocess
import numpy as np
import torch
from kt.models import tensors as FORM
from kt.models.tensors import Axis, Signature, Tensor
from pydantic import BaseModel

METRIC = ""

class Config(BaseModel):
    n: int = 4

class Model(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.a = torch.nn.Linear(config.n, 1)
    def serve(self, x):
        {body}
        return {{"output": self.a(x)}}

def signature(config):
    axes = (Axis(name="rows", least=1, most=8), Axis(least=config.n, most=config.n))
    return Signature(inputs=(Tensor(name="x", dtype="float32", axes=axes),), outputs=("output",))
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A workspace without git, and a file of weights for the family in it."""
    (tmp_path / "kt.toml").write_text('git = "off"\n[models.m]\nfamily = "mine"\n')
    torch.manual_seed(0)
    torch.save(torch.nn.Module.state_dict(linear()), tmp_path / "m.pt")
    return tmp_path


def linear() -> torch.nn.Module:
    model = torch.nn.Module()
    model.a = torch.nn.Linear(4, 1)
    return model


def prepare(
    root: Path, body: str = "pass", progress: Progress = lambda *_: None, **fields: object
) -> Iterator[Prepared]:
    (root / "mine.py").write_text(FAMILY.format(body=body))
    request = Request(path=root / "m.pt", model="m", at="2026-01-01T00:00:00Z", by="ana", **fields)  # type: ignore[arg-type]
    with door.prepared(Workspace(root), request, {}, progress) as ready:
        yield ready


def refused(root: Path, body: str, progress: Progress = lambda *_: None) -> KtError:
    with pytest.raises(KtError) as caught:
        next(prepare(root, body, progress))
    assert not any((root / ".kt" / "staging").iterdir()), "a refused file leaves nothing behind"
    return caught.value


def test_a_family_of_your_own_is_served_from_its_file(place: Path):
    for ready in prepare(place):
        assert ready.model == "m"
        tensors = load_file(ready.staged / "model.safetensors")
        assert set(tensors) == {"a.weight", "a.bias"}
        assert ready.draft.sha256 == ready.draft.sha256.lower()
        assert all(verdict.passed for verdict in ready.draft.gates)


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('pathlib.Path({marker!r}).write_text("x")', "PermissionError"),
        ("os.unlink({weights!r})", "PermissionError"),
        ('subprocess.run(["/bin/true"])', "PermissionError"),
        ('socket.create_connection(("127.0.0.1", 9), 1)', "Error"),
    ],
)
def test_foreign_code_can_neither_write_nor_start_programs_nor_reach_the_network(
    place: Path, body: str, said: str
):
    error = refused(place, body.format(marker=str(place / "marker"), weights=str(place / "m.pt")))
    assert isinstance(error, Refused)
    assert said in str(error)
    assert not (place / "marker").exists()
    assert (place / "m.pt").exists()


def test_a_crash_is_the_file_s_and_not_kt_s(place: Path):
    error = refused(place, "os.kill(os.getpid(), 11)")
    assert "SIGSEGV" in str(error)


def test_the_child_ends_with_a_file_that_is_refused_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    """It was started before the file was looked at."""
    children: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *given: object, **more: object) -> None:
            super().__init__(*given, **more)  # type: ignore[call-overload]
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    (place / "m.pt").write_text("<html>")
    assert "web page" in str(refused(place, "pass"))
    assert [child.returncode for child in children] == [-signal.SIGKILL]


def test_what_is_hashed_is_what_becomes_the_weights(place: Path):
    """Other weights are written into the file once it is hashed, before the child has looked at it."""
    other = linear()
    torch.nn.init.zeros_(other.a.weight)
    torch.save(other.state_dict(), place / "other.pt")
    data = (place / "other.pt").read_bytes()

    def progress(step: str, _: str) -> None:
        assert step == "hashing"
        (place / "m.pt").write_bytes(data)

    assert "has changed while it was read" in str(refused(place, "pass", progress))


def test_a_file_that_is_cut_under_the_child_is_named_and_not_the_crash(place: Path):
    """Its weights are a map of the file: a look at them is a SIGBUS where the file ends before."""
    (place / "mine.py").write_text(
        FAMILY.format(body="pass").replace(
            "super().__init__()",
            f"""super().__init__()
        pathlib.Path(os.environ["TMPDIR"], "here").touch()
        while os.path.getsize({str(place / "m.pt")!r}):
            os.sched_yield()""",
        )
    )

    def cut() -> None:
        predictors.within(lambda: [*place.glob(".kt/staging/*/here")])
        os.truncate(place / "m.pt", 0)

    request = Request(path=place / "m.pt", model="m")
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(cut)
        opening = door.prepared(Workspace(place), request, {}, lambda *_: None)
        with pytest.raises(Invalid, match="has changed while it was read") as error:
            opening.__enter__()
    done.result()
    assert "SIGBUS" in str(error.value.__context__)


@pytest.mark.parametrize(("trust", "times"), [("", 1), ("it is ours", 3)])
def test_a_version_needs_room_and_so_does_what_code_leaves(
    place: Path, monkeypatch: pytest.MonkeyPatch, trust: str, times: int
):
    free = times * (place / "m.pt").stat().st_size - 1
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(Unavailable, match="MB free"):
        next(prepare(place, trust=trust))


def test_more_memory_than_a_file_of_its_size_may_need_is_refused(place: Path):
    error = refused(place, "self.kept = np.ones(1 << 31, np.int64)")
    assert error.code in (2, 3)


def test_an_endless_loop_ends(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(door, "SECONDS", 6)
    error = refused(place, "while True: pass")
    assert isinstance(error, Invalid)


def test_a_small_file_that_takes_for_ever_to_read_is_given_up(place: Path):
    """A key of tuples of tuples, each twice in the next: 600 bytes, and 2^64 of them to hash."""
    nested = b"".join(b"h\0h\0\x86q\0" for _ in range(64))
    with zipfile.ZipFile(place / "m.pt") as sound:
        records = {name: sound.read(name) for name in sound.namelist()}
    with zipfile.ZipFile(place / "m.pt", "w") as file:
        for name, data in records.items():
            bomb = b"\x80\2}(K\1\x85q\0" + nested + b"K\1u."
            file.writestr(name, bomb if name.endswith("/data.pkl") else data)
    assert refused(place, "pass").what.endswith("longer to read than a file of its size may")


def test_a_program_that_it_leaves_behind_holds_nobody_up():
    """Code that is trusted may fork; what it started may hold the pipe open long after it has ended."""
    leaves = 'sleep 1000 & echo \'{"step": ["gate", "ok"]}\''
    steps: list[tuple[str, str]] = []
    with subprocess.Popen(
        ["sh", "-c", leaves], stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        try:
            assert door.listen(child, lambda *step: steps.append(step)) == {}
        finally:
            door.kill(child)
    assert steps == [("gate", "ok")]


def test_what_a_family_prints_is_no_answer(place: Path):
    for ready in prepare(place, 'print(\'{"draft": {}}\', flush=True); os.write(1, b"{}\\n")'):
        assert ready.draft.parameters == 5


def test_answers_that_are_not_finite_are_refused_also_with_force(place: Path):
    (place / "mine.py").write_text(
        FAMILY.format(body='return {"output": self.a(x) * float("nan")}')
    )
    request = Request(path=place / "m.pt", model="m", force=True)
    with (
        pytest.raises(Refused, match="not finite"),
        door.prepared(Workspace(place), request, {}, lambda *_: None),
    ):
        pass


def test_the_child_is_not_believed(tmp_path: Path):
    """It may have run foreign code: what it says is checked against what it wrote."""
    with pytest.raises(Invalid, match="nonsense"):
        door.believed({"draft": {"model": "../../x"}}, tmp_path, tmp_path / "m.pt")


def test_weights_are_written_as_the_library_writes_them(tmp_path: Path):
    torch.manual_seed(0)
    tensors = {
        "b.weight": torch.randn(3, 4),
        "a": torch.arange(5),
        "half": torch.randn(2).half(),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(2.5),
        "turned": torch.randn(4, 3).t(),
        "flag": torch.tensor([True, False]),
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        tmp_path / "library",
        {"kt": '{"é": 1}'},
    )
    sha256 = weights.write(tensors, {"kt": '{"é": 1}'}, tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()
    assert subprocess.check_output(["sha256sum", tmp_path / "ours"], text=True).startswith(sha256)


def test_the_block_runs_while_the_disk_takes_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    order, going = [], threading.Event()

    def fsync(_: int) -> None:
        assert going.wait(30)
        order.append("synced")

    monkeypatch.setattr(os, "fsync", fsync)
    with weights.writing({"a": torch.ones(2)}, {}, tmp_path / "x") as sha256:
        assert sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
        order.append("block")
        going.set()
    assert order == ["block", "synced"]


def test_weights_that_the_disk_did_not_take_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Unavailable, match="cannot write"):
        weights.write({"a": torch.ones(2)}, {}, tmp_path / "x")


def test_a_dtype_that_safetensors_has_no_name_for_is_refused(tmp_path: Path):
    with pytest.raises(Invalid, match="complex64"):
        weights.write({"c": torch.zeros(2, dtype=torch.complex64)}, {}, tmp_path / "x")


def zipped(
    path: Path, records: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in records:
            file.writestr(name, data)
    return path


GOOD = [("m/data.pkl", b"x"), ("m/version", b"3\n"), ("m/data/0", b"0000")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([*GOOD, ("m/../../evil", b"")], "climbs out"),
        ([*GOOD, ("/evil", b"")], "climbs out"),
        ([*GOOD, ("m\\..\\evil", b"")], "climbs out"),
        ([*GOOD, ("m/data.pkl", b"y")], "twice"),
        ([*GOOD, ("n/data.pkl", b"y")], "2 root folders"),
        ([*GOOD, ("m/folder/", b"")], "a folder"),
    ],
)
def test_an_archive_that_torch_would_not_write_is_told_apart(
    tmp_path: Path, records: list[tuple[str, bytes]], said: str
):
    with pytest.raises(archive.Odd, match=said):
        archive.names(zipped(tmp_path / "a", records))


def test_a_compressed_archive_is_refused(tmp_path: Path):
    with pytest.raises(archive.Odd, match="compressed"):
        archive.names(zipped(tmp_path / "a", GOOD, zipfile.ZIP_DEFLATED))


def test_a_flipped_bit_in_a_record_is_found(tmp_path: Path):
    path = zipped(tmp_path / "a", GOOD)
    path.write_bytes(path.read_bytes().replace(b"0000", b"0001", 1))
    with pytest.raises(archive.Odd, match="checksum"):
        archive.names(path)


def test_bytes_before_the_first_record_are_refused(tmp_path: Path):
    path = zipped(tmp_path / "a", GOOD)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    with pytest.raises(archive.Odd, match=r"before its first record|damaged"):
        archive.names(path)


def test_confinement_binds_the_process_for_good(tmp_path: Path):
    """In a process of its own: it cannot be undone."""
    script = textwrap.dedent(
        f"""
        import json, socket, subprocess
        from pathlib import Path
        from kt.registry.confine import confine
        missing = confine(Path({str(tmp_path / "in")!r}))
        def fails(act):
            try:
                act()
            except OSError:
                return True
            return False
        Path({str(tmp_path / "in" / "f")!r}).write_text("may")
        print(json.dumps([missing,
            fails(lambda: Path({str(tmp_path / "out")!r}).write_text("may not")),
            fails(lambda: subprocess.run(["/bin/true"])),
            fails(lambda: socket.create_connection(("127.0.0.1", 9), 1)),
        ]))
        """
    )
    (tmp_path / "in").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    missing, files, programs, network = json.loads(done.stdout)
    assert files is ("files" not in missing)
    assert programs is ("programs" not in missing)
    assert network

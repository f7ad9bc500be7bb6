"""A version without an ONNX graph says why; what an export does to its process is no matter of the version's."""

import errno
import faulthandler
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kt.errors import Unavailable
from kt.registry import apart, onnx, onnx_steps
from kt.registry.record import GRAPH, NONE, Exported, VersionRecord

WHOLE = Exported(sha256="a" * 64, size=1)


def never() -> Any:
    pytest.fail("it was opened")


def crash(how: int) -> None:
    """In a fork, where pytest's faulthandler would tell of a crash that is meant."""
    faulthandler.disable()
    os.kill(os.getpid(), how)


@pytest.mark.parametrize(
    ("size", "engine", "why"),
    [
        (1, "torch", "kt.toml wants none: [predictor] engine"),
        (onnx.LARGEST + 1, "auto", "its weights have more than 500,000,000 bytes"),
    ],
)
def test_what_is_not_exported_says_why(size: int, engine: str, why: str, tmp_path: Path) -> None:
    if onnx.missing() and engine == "auto":
        pytest.skip("pip install 'kt[onnx]'")
    assert onnx.made(never, tmp_path, size, engine) == Exported(why=why)


def test_without_the_exporter_a_version_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "NEEDS", ("onnxruntime", "no_such_module"))
    missing = onnx.missing()[0]
    assert onnx.made(never, tmp_path, 1, "auto") == Exported(why=f"{missing} was not installed")


def test_an_export_that_ends_badly_leaves_nothing_but_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(*_: Any) -> Any:
        (tmp_path / GRAPH).write_bytes(b"half")
        crash(signal.SIGABRT)

    monkeypatch.setattr(onnx, "NEEDS", ())
    monkeypatch.setattr(onnx, "write", half)
    made = onnx.made(lambda: None, tmp_path, 1, "auto")  # type: ignore[arg-type,return-value]  # not opened
    assert made == Exported(why="not exported: it crashed (SIGABRT)")
    assert not list(tmp_path.iterdir())


def test_where_there_will_be_no_graph_there_are_no_steps(tmp_path: Path) -> None:
    assert onnx_steps.made(never, tmp_path, 1, "torch") == NONE


@pytest.mark.parametrize(
    ("graph", "steps", "said"),
    [
        (Exported(why="none"), NONE, "torch; no ONNX graph: none"),
        (WHOLE, NONE, "torch, or ONNX Runtime: model.onnx, sha256 aaaaaaaaaaaa…"),
        (WHOLE, Exported(why="odd"), "sha256 aaaaaaaaaaaa…, which keeps no states: odd"),
        (WHOLE, WHOLE, ", and its states: model.steps.safetensors, sha256 aaaaaaaaaaaa…"),
    ],
)
def test_a_record_says_what_may_run_a_version(graph: Exported, steps: Exported, said: str) -> None:
    known = VersionRecord.model_construct(graph=graph, steps=steps)
    assert known.engines.endswith(said)
    assert len(known.exports) == bool(graph.sha256) + bool(steps.sha256)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (np.zeros((2, 3), np.float32), ""),
        (np.full((2, 3), 9e-6, np.float32), ""),
        (np.full((2, 3), 1e-3, np.float32), "p differs by 1.0e-03 from eager torch's"),
        (np.zeros((2, 4), np.float32), "p is float32 [2, 4], not float32 [2, 3]"),
        (np.zeros((2, 3), np.float64), "p is float64 [2, 3], not float32 [2, 3]"),
        (np.full((2, 3), np.nan, np.float32), "p differs by nan from eager torch's"),
    ],
)
def test_a_graph_that_answers_otherwise_is_known(theirs: np.ndarray, why: str) -> None:
    assert onnx.unlike({"p": np.zeros((2, 3), np.float32)}, {"p": theirs}) == why


def test_a_fork_gives_back_what_its_work_returns() -> None:
    assert apart.run(lambda: {"pid": [os.getppid()]}, cpu=10) == {"pid": [os.getpid()]}


def test_a_process_that_a_fork_leaves_behind_holds_nobody_up() -> None:
    reader, writer = os.pipe()

    def leaves() -> str:
        if not os.fork():
            os.close(writer)
            os.read(reader, 1)  # for as long as this test wants
            os._exit(0)
        return "done"

    assert apart.run(leaves, cpu=60) == "done"
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: coloured(), "^ValueError: red, and no bell$"),
        (lambda: os._exit(3), "it ended early"),
        (lambda: crash(signal.SIGSEGV), r"it crashed \(SIGSEGV\)"),
        (lambda: spin(), "it took more than 1 s"),
        (lambda: time.sleep(60), "it took more than 1 s"),
    ],
    ids=["raises", "raises for a reason", "exits", "crashes", "computes", "sleeps"],
)
def test_a_fork_that_does_not_come_to_an_end_says_how(work: Any, why: str) -> None:
    with pytest.raises(apart.Ended, match=why):
        apart.run(work, cpu=1)


def test_a_full_disk_refuses_the_version_which_would_never_get_its_graph(tmp_path: Path) -> None:
    def full() -> Exported:
        (tmp_path / GRAPH).write_bytes(b"half")
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("the exporter failed") from error

    with pytest.raises(Unavailable, match=r"model\.onnx: No space left on device"):
        onnx.in_fork(full, tmp_path / GRAPH)
    assert not (tmp_path / GRAPH).exists()


def coloured() -> None:
    """As an exporter does."""
    try:
        raise ValueError("\x1b[91mred\x1b[0m, and\x07 no\n bell")
    except ValueError as error:
        raise RuntimeError("a page of advice") from error


def spin() -> None:
    while True:
        pass

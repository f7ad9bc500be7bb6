"""What every engine must do with every family: answer as the module does, one at a time and together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kt import plugins
from kt.config import Predictor
from kt.errors import Corrupt
from kt.models import tracing, vectors
from kt.models.family import Arrays, is_incremental, is_trainable
from kt.predictor import engine
from kt.predictor.engine import Engine, Incremental, Key
from kt.registry import load, onnx, onnx_steps, program, record, weights
from kt.registry.record import Exported, Source, Spec, VersionRecord
from kt.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the exporters talk about their own internals
    pytest.mark.skipif(bool(onnx.missing()), reason="pip install 'kt[onnx]'"),
]

FAMILIES = [
    name
    for name in plugins.names("models")
    if is_trainable(load.family(Path(), name))
    and load.family(Path(), name).FORM in (tracing, vectors)
]
PROGRAMS = ("a program for batches", "a program for one")


def saved(root: Path, name: str, spec: Spec, tensors: Any) -> VersionRecord:
    """A version as registering leaves it, its gates left out."""
    folder = root / record.FOLDER / name / "v1"
    folder.mkdir(parents=True)
    path = folder / record.WEIGHTS
    sha256 = weights.write(tensors, {"kt": spec.model_dump_json()}, path)
    graph, steps = exported(root, path, spec)
    known = VersionRecord(
        model=name,
        version="v1",
        spec=spec,
        sha256=sha256,
        size=path.stat().st_size,
        parameters=0,
        source=Source(name="x.pt", format="torch", sha256=sha256, size=1),
        parent=None,
        scores={},
        training={},
        gates=(),
        created_at="2026-01-12T09:00:00Z",
        by="ana",
        graph=graph,
        steps=steps,
        made_with={},
    )
    (folder / record.RECORD).write_bytes(record.dump(known))
    return known


def exported(root: Path, path: Path, spec: Spec) -> tuple[Exported, Exported]:
    """Each of a version that is opened for it, as registering does."""
    writes = (onnx_steps.write, onnx.write)
    steps, graph = (write(load.open_weights(root, path, spec), path.parent) for write in writes)
    return graph, steps


def of_family(root: Path, name: str) -> VersionRecord:
    code = load.family(root, name)
    torch.manual_seed(0)
    sizes = {"dimension": 8} if code.FORM is vectors else {"items": 9, "categories": 3}
    config = code.Config(**code.SIZES.get("small", {}), **sizes, window=12)
    module = code.Model(config)
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    spec = Spec(
        family=name,
        config=config.model_dump(mode="json"),
        form=code.FORM.__name__,
        signature=code.signature(config).model_dump(mode="json"),
    )
    return saved(root, name, spec, module.state_dict())


def of_program(root: Path, name: str) -> VersionRecord:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    many = name == PROGRAMS[0]
    given = torch.randn(2, 3) if many else torch.randn(3)
    found = torch.export.export(
        module, (given,), dynamic_shapes=({0: batch},) if many else None, strict=False
    )
    path = root / "program.pt2"
    torch.export.save(found, path)
    tensors, config = program.read(path, path)
    code = load.family(root, "exported")
    signature = code.signature(code.Config.model_validate(config))
    spec = Spec(
        family="exported",
        config=config,
        form="kt.models.tensors",
        signature=signature.model_dump(mode="json"),
    )
    return saved(root, name.replace(" ", "-"), spec, tensors)


@pytest.fixture(scope="module", params=[*FAMILIES, *PROGRAMS])
def version(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A workspace's root and the version in it."""
    root = tmp_path_factory.mktemp("engines")
    (root / "kt.toml").write_text("")
    make = of_program if request.param in PROGRAMS else of_family
    with searching():
        yield root, make(root, request.param)


@contextmanager
def searching() -> Iterator[None]:
    """The exporter is found, which conftest.py hides from other tests."""
    import sys

    import conftest

    before = list(sys.path)
    sys.path[:] = [path for path in sys.path if path != conftest.BARE]
    sys.modules.pop("onnxscript", None)
    try:
        yield
    finally:
        sys.path[:] = before


def opened(version: Any, kind: str) -> Engine:
    root, known = version
    return engine.load(root, Key(known.model, known.version, known.sha256), Predictor(engine=kind))


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_it_answers_as_the_module_does(version: Any, kind: str) -> None:
    root, known = version
    assert known.graph.why == known.steps.why == ""
    ran = opened(version, kind)
    assert ran.runtime == kind
    loaded = load.load(root, known.model, known.version, known.sha256)
    rng = np.random.default_rng(1)
    for count in (1, 3, 32):
        requests = ran.form.example(ran.signature, rng, count)
        for batch in (requests, requests[:1], requests[-1:]):
            arrays = ran.form.collate(batch, ran.signature)
            theirs = ran.run(arrays)
            assert_close(theirs, loaded.run(arrays))
            assert len(ran.form.answer(theirs, batch, ran.signature)) == len(batch)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_weights_with_a_flipped_bit_are_not_loaded(version: Any, kind: str) -> None:
    root, known = version
    path = record.weights(root, known.model, known.version)
    with flipped(path), pytest.raises(Corrupt):
        opened(version, kind)


def test_a_graph_with_a_flipped_bit_is_not_loaded_and_torch_serves(version: Any) -> None:
    root, known = version
    for file in known.exports:
        with flipped(record.folder(Workspace(root), known.model, known.version) / file):
            with pytest.raises(Corrupt, match="sha256"):
                opened(version, "onnx")
            assert opened(version, "auto").runtime == "torch"
    assert opened(version, "auto").runtime == "onnx"


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_a_state_answers_as_the_whole_history_does(version: Any, kind: str) -> None:
    """Of several students together, while their windows fill and when they slide."""
    _, known = version
    ran = opened(version, kind)
    if not isinstance(ran, Incremental):
        assert not is_incremental(load.family(Path(), known.spec.family).Model)
        return
    assert ran.pays > 0
    T = window(ran)
    history, asked = drawn(ran, 3 * T)
    lengths = np.array([0, 3, T - 4])

    def said() -> dict[str, np.ndarray]:
        return ran.run({**last(history, lengths, T), "lengths": lengths.clip(max=T), **asked})

    arrays = {**last(history, lengths, T), "lengths": lengths}
    told, states = ran.begin(arrays, asked)
    assert_close(told, said())
    for more in (1, 2, 1, 1, 1, 2, 1, 2, 1, 1, 2, 2, 1):
        if not ran.slides and max(lengths) + more > T:
            break
        events = [
            {name: array[range(3), lengths + n] for name, array in history.items()}
            for n in range(more)
        ]
        kept = [{name: array.copy() for name, array in state.items()} for state in states]
        told, after = gone_on(ran, states, events, asked)
        for state, was in zip(states, kept, strict=True):
            assert all(np.array_equal(array, state[name]) for name, array in was.items())
        lengths, states = lengths + more, after
        assert_close(told, said())
    assert_close(gone_on(ran, states, [], asked)[0], told)


def window(ran: Engine) -> int:
    found: int = ran.signature.window
    return found


def drawn(ran: Engine, length: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Histories of three, and what they are asked."""
    rng = np.random.default_rng(1)
    if ran.form is vectors:
        shape = 3, length, ran.signature.dimension
        return {"vectors": rng.normal(size=shape).astype(np.float32)}, {}
    items = rng.integers(2, 2 + len(ran.signature.items), (3, length))
    responses = rng.integers(0, ran.signature.categories, items.shape)
    return {"items": items, "responses": responses}, {"asked": items[:, :2]}


def last(history: Arrays, lengths: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """What collate makes of so many events of each student: the last of them, padded on the right."""
    rows = {}
    for name, array in history.items():
        rows[name] = np.zeros((len(lengths), most, *array.shape[2:]), array.dtype)
        for row, length in enumerate(lengths):
            own = array[row, max(0, length - most) : length]
            rows[name][row, : len(own)] = own
    return rows


def gone_on(
    ran: Incremental, states: list[Arrays], events: list[Arrays], asked: Arrays
) -> tuple[dict[str, np.ndarray], list[Arrays]]:
    """States of the same names together, in their order."""
    told: dict[int, Any] = {}
    for names in {tuple(state) for state in states}:
        rows = [row for row, state in enumerate(states) if tuple(state) == names]
        own = [{name: array[rows] for name, array in event.items()} for event in events]
        part = {name: array[rows] for name, array in asked.items()}
        outputs, after = ran.go_on([states[row] for row in rows], own, part)
        for place, row in enumerate(rows):
            told[row] = {name: array[place] for name, array in outputs.items()}, after[place]
    ordered = [told[row] for row in range(len(states))]
    outputs = {name: np.stack([one[name] for one, _ in ordered]) for name in ordered[0][0]}
    return outputs, [state for _, state in ordered]


def assert_close(found: Arrays, wanted: Arrays) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)


def test_the_graph_holds_no_copy_of_the_weights(version: Any) -> None:
    _, known = version
    assert known.graph.size < 100_000


def test_the_same_version_makes_the_same_graph(version: Any) -> None:
    root, known = version
    path = record.weights(root, known.model, known.version)
    assert exported(root, path, known.spec) == (known.graph, known.steps)


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    data = path.read_bytes()
    at = len(data) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    try:
        yield
    finally:
        path.write_bytes(data)

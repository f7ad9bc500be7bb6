"""A version that is registered where ONNX can be made is served, pushed, pulled and mended without torch."""

import json
from pathlib import Path
from typing import Any

import forge
import pytest
from conftest import Kt, spawn
from predictors import Made, Serving, serving, within

from kt.registry import onnx, record
from kt.workspace import Workspace

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(onnx.missing()), reason="pip install 'kt[onnx]'"),
]

BODY = {
    "student_id": "s-17",
    "answers": [{"item": str(n % 10), "response": n % 2} for n in range(15)],
    "items": ["3", "4", "no such item"],
}


@pytest.fixture
def deployed(tmp_path: Path, exporter: None, checkpoints: Path) -> Workspace:
    place = forge.workspace(tmp_path / "w")
    ran = spawn("deploy", str(checkpoints / "1.pt"), "--model", "tutor", at=place.root)
    assert ran.code == 0, ran.err
    return place


def maps_of(running: Serving) -> list[str]:
    """The files that the predictor's processes hold in memory, by process."""
    return [
        Path(f"/proc/{pid}/maps").read_text() for pid in (running.process.pid, *running.workers())
    ]


def asked(place: Workspace, engine: str) -> tuple[Any, list[str]]:
    (place.root / "kt.toml").write_text(f'git = "off"\n[predictor]\nengine = "{engine}"\n')
    with serving(Made(place.root, {})) as running:
        status, answer = within(lambda: ready(running))
        assert status == 200
        return answer, maps_of(running)


def ready(running: Serving) -> Any:
    status, answer = running.ask("POST", "/predict", BODY)
    return (status, answer) if status == 200 else None


def test_a_predictor_with_graphs_alone_never_imports_torch(deployed: Workspace) -> None:
    by_torch, held = asked(deployed, "torch")
    assert all("libtorch" in maps for maps in held)
    by_onnx, held = asked(deployed, "auto")
    assert not any("libtorch" in maps for maps in held)
    for ours, theirs in zip(by_torch["predictions"], by_onnx["predictions"], strict=True):
        assert ours["item"] == theirs["item"]
        assert theirs["probabilities"] == pytest.approx(ours["probabilities"], abs=1e-5)


def test_a_damaged_graph_is_found_and_torch_serves_until_it_is_put_back(
    deployed: Workspace, checkpoints: Path, kt: Kt
) -> None:
    path = record.graph(deployed.root, "tutor", "v1")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    ran = kt("verify", at=deployed)
    assert ran.code == 4
    assert "the ONNX graph has sha256" in ran.out + ran.err
    _, held = asked(deployed, "auto")
    assert any("libtorch" in maps for maps in held)
    again = spawn("register", str(checkpoints / "1.pt"), "--model", "tutor", at=deployed.root)
    assert again.code == 0, again.err
    assert path.read_bytes() == sound
    assert kt("verify", at=deployed).code == 0


def test_a_graph_goes_where_its_weights_go(deployed: Workspace, tmp_path: Path, kt: Kt) -> None:
    toml = deployed.root / "kt.toml"
    toml.write_text(f'git = "off"\n[remote]\nurl = "{tmp_path / "store"}"\n')
    pushed = kt("push", "--json", at=deployed)
    files = [record.WEIGHTS, record.GRAPH, record.STEPS]
    assert [one["file"] for one in pushed.result["sent"]] == files
    folder = record.folder(deployed, "tutor", "v1")
    held = {name: (folder / name).read_bytes() for name in files}
    for name in held:
        (folder / name).unlink()
    assert kt("pull", at=deployed).code == 0
    assert {name: (folder / name).read_bytes() for name in held} == held


def test_the_record_says_which_engines_a_version_has(deployed: Workspace, kt: Kt) -> None:
    known = record.read(deployed, "tutor", "v1")
    assert known.graph.sha256
    assert known.steps.sha256
    assert "torch, or ONNX Runtime" in kt("show", "tutor@v1", at=deployed).out
    (deployed.root / "kt.toml").write_text('git = "off"\n[predictor]\nengine = "torch"\n')
    assert json.loads(kt("show", "tutor@v1", "--json", at=deployed).out)["result"]["graph"]["size"]

"""Which engine a process imports before it forks: a glance at what is deployed."""

from pathlib import Path

import forge
import pytest

from kt.deployments.manifest import MANIFEST
from kt.predictor.engine import needs_torch
from kt.registry import onnx, record
from kt.workspace import Workspace

pytestmark = pytest.mark.skipif(bool(onnx.missing()), reason="pip install 'kt[onnx]'")


@pytest.fixture
def both(place: Workspace) -> Workspace:
    """v1 serves, v2 has a tenth of it."""
    forge.give(place, forge.version(place, "n", "v1"))
    forge.give(place, forge.version(place, "n", "v2"), traffic=10)
    return place


def graph(place: Workspace, version: str) -> Path:
    return record.graph(place.root, "n", version)


def test_torch_is_needed_where_a_version_that_serves_has_no_graph(both: Workspace) -> None:
    assert needs_torch(both.root, "auto")
    graph(both, "v1").touch()
    assert needs_torch(both.root, "auto")
    graph(both, "v2").touch()
    assert not needs_torch(both.root, "auto")


def test_kt_toml_has_the_last_word(both: Workspace) -> None:
    assert needs_torch(both.root, "torch")
    assert not needs_torch(both.root, "onnx")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"models": {"n": 1}}', b"\xff"])
def test_a_manifest_that_says_nothing_needs_what_runs_everything(
    text: bytes, both: Workspace
) -> None:
    (both.root / MANIFEST).write_bytes(text)
    assert needs_torch(both.root, "auto")


def test_before_the_first_deploy_nothing_needs_torch(place: Workspace) -> None:
    assert not needs_torch(place.root, "auto")

"""A file becomes a version: the same bytes are the same version, and a version never changes."""

import base64
import json
import os
import textwrap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import forge
import pytest
import torch
from conftest import Kt
from safetensors.torch import save_file

from kt import staging
from kt.deployments import deploy
from kt.errors import Corrupt, Invalid, Refused
from kt.models import sakt
from kt.registry import checkpoint, load, record, register
from kt.registry.record import WEIGHTS, Reference
from kt.registry.register import Prepared, Request
from kt.stats.scores import Histogram
from kt.workspace import Workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return forge.workspace(tmp_path / "w")


@contextmanager
def prepared(place: Workspace, path: Path, active: str = "", **more: Any) -> Iterator[Prepared]:
    """As the door does it, in this process."""
    request = Request(path, by="ana", at=forge.STAMP.at, **more)
    of = {"sakt": active} if active else {}
    with staging.staging(place) as folder, checkpoint.opening(path) as (file, source):
        yield register.prepare(place, request, file, source, folder, of, lambda *_: None)


def put(place: Workspace, path: Path, **more: Any) -> str:
    with prepared(place, path, **more) as ready:
        return deploy.register(place, ready, dry_run=False).version


def test_a_checkpoint_becomes_the_first_version_of_its_family(
    place: Workspace, checkpoints: Path
) -> None:
    assert put(place, checkpoints / "1.pt") == "v1"
    known = record.read(place, "sakt", "v1")
    assert (known.spec.family, known.source.name, known.scores["auc"]) == ("sakt", "1.pt", 0.7)
    assert {verdict.gate for verdict in known.gates} >= {"finite", "latency", "signature", "size"}
    assert load.load(place.root, "sakt", "v1", known.sha256).module.training is False


def test_what_training_kept_becomes_the_reference_and_nonsense_is_refused(
    place: Workspace, checkpoints: Path, tmp_path: Path
) -> None:
    whole = torch.load(checkpoints / "1.pt", weights_only=True)
    scores = base64.b64encode(Histogram().dump()).decode()
    whole["reference"] = {"source": "test", "n": 5, "accuracy": 0.8, "ece": 0.1, "scores": scores}
    torch.save(whole, tmp_path / "with.pt")
    assert put(place, tmp_path / "with.pt") == "v1"
    held = record.read(place, "sakt", "v1").reference
    assert held is not None
    assert (held.n, held.histogram().count) == (5, 0)
    whole["reference"]["n"] = "many"
    torch.save(whole, tmp_path / "bad.pt")
    with pytest.raises(Invalid, match=r"its reference: n: "):
        put(place, tmp_path / "bad.pt")


@pytest.mark.parametrize(
    "blob", ["!", "AAAA", base64.b64encode(zlib.compress(b"0" * 100)).decode()]
)
def test_a_reference_that_cannot_be_read_is_corrupt(blob: str) -> None:
    held = Reference(source="test", n=1, accuracy=1.0, ece=0.0, scores=blob)
    with pytest.raises(Corrupt, match="a reference that cannot be read"):
        held.check()


def test_the_same_bytes_are_the_same_version(place: Workspace, checkpoints: Path) -> None:
    assert put(place, checkpoints / "1.pt") == "v1"
    assert put(place, checkpoints / "1.pt") == "v1"
    assert put(place, checkpoints / "2.pt") == "v2"
    assert record.versions(place, "sakt") == ["v1", "v2"]


def test_two_commands_that_register_the_same_at_once_agree(
    place: Workspace, checkpoints: Path
) -> None:
    with prepared(place, checkpoints / "1.pt") as one, prepared(place, checkpoints / "1.pt") as two:
        assert deploy.register(place, one, dry_run=False).version == "v1"
        assert deploy.register(place, two, dry_run=False).version == "v1"
    assert record.versions(place, "sakt") == ["v1"]


def test_a_version_never_changes(place: Workspace, checkpoints: Path) -> None:
    assert put(place, checkpoints / "1.pt", version="first") == "first"
    with pytest.raises(Refused, match="sakt@first exists with other weights"):
        put(place, checkpoints / "2.pt", version="first")
    with pytest.raises(Refused, match="these weights are sakt@first already"):
        put(place, checkpoints / "1.pt", version="second")
    with pytest.raises(Invalid, match="is not a name for a version"):
        put(place, checkpoints / "2.pt", version="../x")


@pytest.mark.parametrize("harm", ["lost", "flipped", "emptied", "replaced by a link"])
def test_weights_that_are_harmed_are_healed_by_the_same_file(
    harm: str, place: Workspace, checkpoints: Path
) -> None:
    put(place, checkpoints / "1.pt")
    known = record.read(place, "sakt", "v1")
    path = record.weights(place.root, "sakt", "v1")
    data = path.read_bytes()
    path.unlink()
    if harm == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "emptied":
        path.write_bytes(b"")
    elif harm != "lost":
        path.symlink_to(checkpoints / "1.pt")
    with pytest.raises(Corrupt):
        load.check(path, known.sha256)
    assert put(place, checkpoints / "1.pt") == "v1"
    assert path.read_bytes() == data
    assert not path.is_symlink()


def bare(path: Path, seed: int = 5) -> tuple[Path, dict[str, Any]]:
    torch.manual_seed(seed)
    config = sakt.Config(items=4, d_model=8, heads=2, window=5)
    save_file(sakt.Model(config).state_dict(), path)
    return path, config.model_dump()


def test_bare_weights_need_a_family_and_a_configuration(place: Workspace, tmp_path: Path) -> None:
    path, config = bare(tmp_path / "m.safetensors")
    (tmp_path / "c.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match="does not say which family") as error:
        put(place, path)
    assert "--family" in error.value.do
    with pytest.raises(Invalid, match="the configuration of sakt"):
        put(place, path, family="sakt")
    assert put(place, path, family="sakt", config=tmp_path / "c.json") == "v1"
    (place.root / "kt.toml").write_text('git = "off"\n[models.m]\nfamily = "sakt"\n')
    again = Workspace(place.root)
    assert put(again, path, model="m", config=tmp_path / "c.json") == "v1"


def test_weights_that_do_not_fit_are_refused_by_the_first_that_does_not(
    place: Workspace, tmp_path: Path
) -> None:
    path, config = bare(tmp_path / "m.safetensors")
    for change_, said in (
        ({"d_model": 16}, "size mismatch"),
        ({"heads": 3}, "is not a multiple of heads"),
    ):
        (tmp_path / "c.json").write_text(json.dumps(config | change_))
        with pytest.raises(Invalid, match=said) as error:
            put(place, path, family="sakt", config=tmp_path / "c.json")
        assert "\n" not in error.value.what
        assert len(error.value.what) <= 300


def test_a_checkpoint_of_another_family_is_refused(place: Workspace, checkpoints: Path) -> None:
    with pytest.raises(Invalid, match="holds weights of sakt, not of gpcm"):
        put(place, checkpoints / "1.pt", family="gpcm")


def test_a_family_of_ones_own_is_a_dotted_path(place: Workspace, tmp_path: Path) -> None:
    (place.root / "ours").mkdir()
    (place.root / "ours" / "net.py").write_text(
        textwrap.dedent('''
            """A family of ours."""
            from kt.models.sakt import FORM, METRIC, Config, Model, signature
        ''')
    )
    path, config = bare(tmp_path / "m.safetensors")
    (tmp_path / "c.json").write_text(json.dumps(config))
    assert put(place, path, family="ours.net", config=tmp_path / "c.json") == "v1"
    assert record.models(place) == ["net"]
    assert record.read(place, "net", "v1").spec.family == "ours.net"


def test_one_of_several_models_must_be_named(place: Workspace, checkpoints: Path) -> None:
    put(place, checkpoints / "1.pt", model="a")
    assert put(place, checkpoints / "2.pt") == "v2"  # the only model there is
    put(place, checkpoints / "1.pt", model="b")
    with pytest.raises(Invalid, match="may be a version of several models") as error:
        put(place, checkpoints / "3.pt")
    assert error.value.do == "name one: --model a | b"


def test_a_deploy_that_was_overtaken_is_refused(place: Workspace, checkpoints: Path) -> None:
    with prepared(place, checkpoints / "1.pt") as ready:
        deploy.deploy(place, ready, forge.STAMP, traffic=None, experiment="", dry_run=False)
    with (
        prepared(place, checkpoints / "2.pt") as late,
        pytest.raises(Refused, match="changed while the gates"),
    ):
        deploy.deploy(place, late, forge.STAMP, traffic=None, experiment="", dry_run=False)  # fmt: skip
    assert record.versions(place, "sakt") == ["v1"]


def test_what_a_gate_refuses_goes_only_by_force_and_stays_marked(
    place: Workspace, checkpoints: Path
) -> None:
    (place.root / "kt.toml").write_text('git = "off"\n[[gate]]\nname = "size"\nmax_mb = 0.001\n')
    strict = Workspace(place.root)
    with pytest.raises(Refused, match=r"size: 0\.0 MB \(bound 0\.001\)") as error:
        put(strict, checkpoints / "1.pt")
    assert "--force" in error.value.do
    assert put(strict, checkpoints / "1.pt", force=True) == "v1"
    assert deploy.version_of(strict, "sakt", "v1").forced


def test_the_gates_compare_with_the_active_version(place: Workspace, checkpoints: Path) -> None:
    put(place, checkpoints / "1.pt")
    with prepared(place, checkpoints / "2.pt", active="v1") as ready:
        said = {verdict.gate: verdict.sentence for verdict in ready.draft.gates}
        assert said["signature"] == "takes every request that sakt@v1 takes"
        assert ready.parent == "v1"


def test_what_the_door_hands_over_is_settled_under_the_lock(
    place: Workspace, checkpoints: Path
) -> None:
    with prepared(place, checkpoints / "1.pt") as ready:
        put(place, checkpoints / "1.pt")
        assert ready.settled(place).existing == "v1"
        with pytest.raises(Refused, match="these weights are sakt@v1 already"):
            replace(ready, wanted="v7").settled(place)


def test_the_door_and_the_verb_do_the_same(place: Workspace, checkpoints: Path, kt: Kt) -> None:
    said = kt("register", str(checkpoints / "1.pt"), "--json", at=place).result
    assert (said["model"], said["version"], said["new"]) == ("sakt", "v1", True)
    with prepared(place, checkpoints / "1.pt") as ready:
        assert ready.existing == "v1"
        assert (ready.staged / WEIGHTS).read_bytes() == record.weights(
            place.root, "sakt", "v1"
        ).read_bytes()


def test_a_deploy_of_a_file_needs_few_syncs(
    place: Workspace, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, checkpoints / "1.pt")
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with prepared(place, checkpoints / "2.pt") as ready:
        deploy.deploy(place, ready, forge.STAMP, traffic=None, experiment="", dry_run=False)
    assert len(calls) <= 10 + 2

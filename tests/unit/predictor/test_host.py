"""Following the manifest: what is swapped in, and what leaves the last good version serving."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from predictors import Made, make_three, within

from kt.deployments import manifest
from kt.deployments.manifest import MANIFEST, Version
from kt.errors import Unavailable
from kt.predictor import host as hosts
from kt.predictor.host import Host, make_host
from kt.predictor.loaded import previous
from kt.predictor.predict import predict
from kt.predictor.presence import is_held
from kt.registry.record import weights


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_three(tmp_path / "workspace")


@pytest.fixture
def host(made: Made) -> Iterator[Host]:
    host = make_host(made.root, "http://here")
    host.start()
    host._stop.set()  # the tests look by themselves
    yield host
    host.close()


def active(host: Host) -> str:
    return host.current.manifest.models["toy"].active.version


def test_a_new_manifest_is_swapped_in_and_a_request_keeps_what_it_began_with(
    made: Made, host: Host
) -> None:
    began = host.current
    made.deploy(6, toy=made.route("v2", "v3", previous="v1"))
    host.look()
    assert active(host) == "v2"
    assert began.manifest.models["toy"].active.version == "v1"
    assert [key.version for key in host.current.ready] == ["v2", "v3"]  # v1 left long ago


def test_the_previous_version_stays_loaded_for_its_time(made: Made, host: Host) -> None:
    before = host.current.of("toy", made.versions["v1"])
    route = made.route("v2", previous="v1").model_copy(update={"since": hosts.now()})
    made.deploy(6, toy=route)
    host.look()
    assert host.current.of("toy", made.versions["v1"]) is before
    made.deploy(7, toy=made.route("v1"))
    host.look()
    assert host.current.of("toy", made.versions["v1"]) is before


def test_a_previous_version_is_kept_for_hours_after_the_change(made: Made) -> None:
    what = made.deploy(6, toy=made.route("v2", previous="v1"))  # since nine o'clock
    at = datetime.fromisoformat("2026-01-12T10:30:00+00:00")
    assert [key.version for key in previous(what, 2.0, at)] == ["v1"]
    assert list(previous(what, 1.0, at)) == []


def damage(made: Made) -> dict[str, bytes]:
    good = manifest.dump(made.deploy(6, toy=made.route("v2")))
    text = json.loads(good)
    climbing = {**text, "models": {"../toy": text["models"]["toy"]}}
    return {
        "empty": b"",
        "zeroed": bytes(len(good)),
        "half": good[: len(good) // 2],
        "garbage": b"<html>",
        "nan": good.replace(b'"seq": 6', b'"seq": NaN'),
        "doubled": good.replace(b'"kt": 1', b'"kt": 1, "kt": 1'),
        "newer": good.replace(b'"kt": 1', b'"kt": 2'),
        "short digest": good.replace(made.versions["v2"].sha256.encode(), b"abc"),
        "no digest": good.replace(made.versions["v2"].sha256.encode(), b""),
        "other digest": good.replace(made.versions["v2"].sha256.encode(), b"0" * 64),
        "unknown version": good.replace(b'"v2"', b'"v9"'),
        "climbing model": json.dumps(climbing).encode(),
        "climbing version": good.replace(b'"v2"', b'"../toy/v2"'),
        "older": manifest.dump(made.deploy(4, toy=made.route("v2"))),
        "another history": manifest.dump(made.deploy(5, head="b", toy=made.route("v2"))),
        "edited": manifest.dump(made.deploy(5, toy=made.route("v2"))),
    }


KINDS = "empty,zeroed,half,garbage,nan,doubled,newer,short digest,no digest,other digest,unknown version,climbing model,climbing version,older,another history,edited"


@pytest.mark.parametrize("kind", KINDS.split(","))
def test_a_manifest_that_cannot_be_followed_leaves_the_last_good_one_serving(
    made: Made, host: Host, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    made.write(damage(made)[kind])
    for _ in range(3):
        host.look()
    assert active(host) == "v1"
    assert (host.state.status, bool(host.state.reason)) == ("degraded", True)
    assert len([record for record in caplog.records if "degraded" in record.getMessage()]) == 1
    made.deploy(7, toy=made.route("v3"))
    host.look()
    assert (active(host), host.state.status) == ("v3", "ok")


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link"])
def test_a_manifest_that_is_no_file_leaves_the_last_good_one_serving(
    made: Made, host: Host, kind: str
) -> None:
    path = made.root / MANIFEST
    path.unlink()
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "link":
        path.symlink_to(made.root / "kt.toml")
    host.look()
    assert active(host) == "v1"
    assert host.state.status == "degraded"


def test_all_of_a_manifest_is_swapped_in_or_nothing(made: Made, host: Host) -> None:
    made.versions["v9"] = Version(version="v9", sha256="0" * 64)
    made.deploy(6, toy=made.route("v2", "v9"))
    host.look()
    assert active(host) == "v1"
    assert "v9" in host.state.reason
    assert [key.version for key in host.current.ready] == ["v1"]


def test_a_flipped_bit_in_the_weights_is_not_served(made: Made, host: Host) -> None:
    path = weights(made.root, "toy", "v2")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    made.deploy(6, toy=made.route("v2"))
    host.look()
    assert active(host) == "v1"
    assert "sha256" in host.state.reason


def test_what_did_not_load_is_tried_again(
    made: Made, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "RETRIES", (1e-9, 1e-9))
    path = weights(made.root, "toy", "v2")
    data = path.read_bytes()
    path.unlink()
    made.deploy(6, toy=made.route("v2"))
    host.look()
    assert active(host) == "v1"
    path.write_bytes(data)  # kt pull brings it
    host.look()
    assert (active(host), host.state.status) == ("v2", "ok")


def test_a_version_that_answers_nonsense_when_warmed_is_not_served(made: Made, host: Host) -> None:
    made.add("mad", w=float("nan"))
    made.deploy(6, toy=made.route("mad"))
    host.look()
    assert active(host) == "v1"
    assert "not finite" in host.state.reason


def again(made: Made) -> Host:
    """A predictor that starts on the same workspace."""
    host = make_host(made.root)
    host._follows = True
    host.open()
    return host


def test_a_restart_after_a_checkout_serves_what_was_served(made: Made, host: Host) -> None:
    made.deploy(6, toy=made.route("v2"))
    host.look()
    made.deploy(5, toy=made.route("v1"))  # git checkout
    second = again(made)
    assert active(second) == "v2"
    assert "seq 5, 6 is served" in second.state.reason
    made.deploy(7, toy=made.route("v3"))
    second.look()
    assert (active(second), second.state.status) == ("v3", "ok")


@pytest.mark.parametrize("data", [None, b"garbage"])
def test_a_restart_without_a_manifest_serves_what_was_served(
    made: Made, host: Host, data: bytes | None
) -> None:
    if data is None:
        (made.root / MANIFEST).unlink()
    else:
        made.write(data)
    second = again(made)
    assert active(second) == "v1"
    assert second.state.status == "degraded"


def test_a_restart_on_a_version_that_does_not_load_serves_the_one_before(
    made: Made, host: Host
) -> None:
    weights(made.root, "toy", "v2").write_bytes(b"torn")
    made.deploy(6, toy=made.route("v2"))
    second = again(made)
    assert active(second) == "v1"
    assert second.state.status == "degraded"


def test_a_process_that_can_load_nothing_says_so_to_clients(made: Made, host: Host) -> None:
    weights(made.root, "toy", "v1").unlink()
    second = again(made)
    with pytest.raises(Unavailable, match="what is deployed cannot be served"):
        predict(second, {"x": [[0.0]]})


def test_damage_to_what_is_remembered_is_no_obstacle(made: Made, host: Host) -> None:
    (made.root / ".kt" / "live.json").write_bytes(b"{")
    assert active(again(made)) == "v1"


def test_a_living_predictor_holds_its_card_and_a_dead_one_is_swept(made: Made, host: Host) -> None:
    folder = made.root / ".kt" / "predictors"
    dead = folder / "1.json"
    dead.write_text("{}")
    card = folder / f"{os.getpid()}.json"
    assert is_held(card)
    assert not is_held(dead)
    made.deploy(6, toy=made.route("v2"))
    host.look()
    told = json.loads(card.read_bytes())
    assert told["seq"] == 6
    assert told["address"] == "http://here"
    assert told["versions"] == [{"model": "toy", "version": "v2", "engine": "torch"}]
    host.close()
    assert not card.exists()
    host.start()
    host._stop.set()
    assert not dead.exists()


def test_what_was_cleaned_away_under_a_predictor_is_told_again(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosts, "TELL", 0.0)
    host, local = make_host(made.root, "http://here"), made.root / ".kt"
    host.start()
    try:
        shutil.rmtree(local)  # as git clean -fdx
        card = local / "predictors" / f"{os.getpid()}.json"
        within(lambda: card.exists() and is_held(card) and bool(card.read_bytes()))
        assert json.loads(card.read_bytes())["seq"] == host.current.follows.seq
        assert (local / "live.json").exists()
        shutil.rmtree(local)
        local.write_text("in its place")
        within(lambda: "not told" in caplog.text)
        tried = threading.Event()
        monkeypatch.setattr(hosts.Host, "_remember", lambda *_: tried.set())
        assert tried.wait(10), "it goes on trying"
        assert caplog.text.count("others are not told") == 1
    finally:
        host.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_loading_gives_way_to_serving(made: Made) -> None:
    host = make_host(made.root, "http://here")
    host.start()
    try:
        follow = next(one for one in threading.enumerate() if one.name == "kt-follow")
        assert follow.native_id
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        later = min(own + hosts.NICE, 19)
        within(lambda: os.getpriority(os.PRIO_PROCESS, follow.native_id or 0) == later)
    finally:
        host.close()


def test_a_full_disk_does_not_stop_serving(
    made: Made, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "fsync", full)
    made.deploy(6, toy=made.route("v2"))
    host.look()
    assert active(host) == "v2"


def test_a_history_that_a_person_let_stand_is_followed_though_its_number_is_lower(
    made: Made, host: Host
) -> None:
    made.deploy(9, "b", toy=made.route("v2"))
    host.look()
    made.deploy(7, "c", toy=made.route("v3"))
    host.look()
    assert active(host) == "v2"
    (made.root / ".kt" / manifest.REPLACED).write_text(json.dumps(["b" * 64]))
    host.look()
    assert (active(host), host.state.status) == ("v3", "ok")
    made.deploy(5, toy=made.route("v1"))  # and no other
    host.look()
    assert active(host) == "v3"

"""Who is let in: keys and their roles, the name asked for, the rate."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import falcon
import pytest
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st

from kt import http
from kt.config import Predictor
from kt.errors import Corrupt, Invalid, Refused
from kt.predictor import keys
from kt.predictor.address import is_loopback
from kt.predictor.guard import Guard, Rates
from kt.predictor.keys import Keys, Ring

NOW = datetime(2026, 1, 12, 9, 0, tzinfo=UTC)
AT = "2026-01-12T09:00:00Z"


class Echo:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"ok": True}

    on_post = on_get


def client(path: Path, *, local: bool = True, **settings: object) -> testing.TestClient:
    guard = Guard(Predictor(**settings), Ring(path), local)  # type: ignore[arg-type]
    app = http.application(falcon.App(middleware=[guard]))
    for route in ("/predict", "/health", "/feedback", "/openapi.json"):
        app.add_route(route, Echo())
    return testing.TestClient(app, headers={"Host": "localhost"})


def made(path: Path, *roles: str, days: int | None = None) -> str:
    expires = (
        (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") if days is not None else None
    )
    changed, text, _ = keys.new(keys.read(path), roles, "test", AT, expires)
    keys.write(path, changed)
    return text


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_without_a_file_no_key_is_asked_for(tmp_path: Path):
    assert client(tmp_path / "keys.json").simulate_post("/predict").status_code == 200


def test_a_key_may_do_what_its_role_says_and_no_more(tmp_path: Path):
    path = tmp_path / "keys.json"
    predict, read = made(path, "predict"), made(path, "read", "feedback")
    web = client(path)
    assert web.simulate_post("/predict").status_code == 401
    assert web.simulate_post("/predict", headers=bearer(predict)).status_code == 200
    assert web.simulate_post("/predict", headers={"X-API-Key": predict}).status_code == 200
    assert web.simulate_post("/predict", headers=bearer(read)).status_code == 403
    assert web.simulate_post("/feedback", headers=bearer(read)).status_code == 200
    assert web.simulate_get("/openapi.json", headers=bearer(predict)).status_code == 403
    assert web.simulate_get("/openapi.json", headers=bearer(read)).status_code == 200
    assert web.simulate_get("/health").status_code == 200, "whoever watches needs no key"


def test_an_answer_401_says_how_to_authenticate_and_nothing_of_the_key(tmp_path: Path):
    path = tmp_path / "keys.json"
    made(path, "predict")
    wrong = "kt_00000000_" + "x" * 43
    answer = client(path).simulate_post("/predict", headers=bearer(wrong))
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert wrong not in answer.text


@pytest.mark.parametrize(
    "text", ["", "kt_", "kt_00000000_short", "é" * 55, "kt_zzzzzzzz_" + "x" * 43, "\x00"]
)
def test_what_is_no_key_is_refused_and_never_an_error(tmp_path: Path, text: str):
    path = tmp_path / "keys.json"
    made(path, "predict")
    assert Ring(path).find(text.encode("latin-1", "replace"), NOW) is None


@given(st.binary(max_size=80))
def test_no_bytes_are_a_key_by_chance(text: bytes):
    changed, _, key = keys.new(Keys(), ["predict"], "", AT, None)
    ring = Ring(Path("nowhere"), {key.id.encode(): changed.keys[0]})
    assert ring.find(text, NOW) is None


def test_a_key_is_revoked_and_expires(tmp_path: Path):
    path = tmp_path / "keys.json"
    lasting, short = made(path, "predict"), made(path, "predict", days=1)
    ring = Ring(path)
    ring.look()
    assert ring.find(lasting.encode(), NOW)
    assert ring.find(short.encode(), NOW)
    assert not ring.find(short.encode(), NOW + timedelta(days=1))
    keys.write(path, keys.revoke(keys.read(path), lasting[3:11], AT))
    after = Ring(path)
    after.look()
    assert not after.find(lasting.encode(), NOW)


def test_the_file_holds_no_secret_and_is_its_owner_s_alone(tmp_path: Path):
    path = tmp_path / "keys.json"
    text = made(path, "predict")
    assert text not in path.read_text()
    assert text[12:] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_can_read_lets_nobody_in(tmp_path: Path):
    path = tmp_path / "keys.json"
    text = made(path, "predict")
    path.chmod(0o644)
    with pytest.raises(Refused, match="read by others"):
        keys.read(path)
    assert client(path).simulate_post("/predict", headers=bearer(text)).status_code == 401


def test_a_damaged_file_lets_nobody_in(tmp_path: Path):
    path = tmp_path / "keys.json"
    text = made(path, "predict")
    path.write_text("{")
    with pytest.raises(Corrupt):
        keys.read(path)
    assert client(path).simulate_post("/predict", headers=bearer(text)).status_code == 401


def test_a_file_that_is_gone_lets_nobody_in_once_keys_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(keys, "LOOK", 0.0)
    path = tmp_path / "keys.json"
    ring = Ring(path)
    ring.look()
    assert not ring.asked
    text = made(path, "predict").encode()
    ring.look()
    assert ring.find(text, NOW)
    path.rename(tmp_path / "away")
    ring.look()
    ring.look()
    assert ring.asked
    assert ring.broken
    assert not ring.find(text, NOW)
    assert [record.message for record in caplog.records] == [f"kt: no key holds: {path}: is gone"]
    (tmp_path / "away").rename(path)
    ring.look()
    assert ring.find(text, NOW)
    assert not ring.broken
    path.unlink()
    later = Ring(path, asked=True)  # of a worker that was replaced meanwhile
    later.look()
    assert later.asked
    assert not later.find(text, NOW)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path):
    path = tmp_path / "keys.json"
    os.mkfifo(path, 0o600)
    with pytest.raises(Corrupt, match="is no file"):
        keys.read(path)
    assert client(path).simulate_post("/predict").status_code == 401


def test_unknown_roles_and_ids_are_named():
    with pytest.raises(Invalid, match="admin is no role"):
        keys.new(Keys(), ["admin"], "", AT, None)
    with pytest.raises(Invalid, match="no key 12345678"):
        keys.revoke(Keys(), "12345678", AT)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8600", 200), ("127.0.0.1", 200), ("[::1]:8600", 200), ("evil.example", 421)],
)
def test_a_name_that_is_not_ours_is_refused_on_loopback(tmp_path: Path, host: str, status: int):
    assert (
        client(tmp_path / "k").simulate_post("/predict", headers={"Host": host}).status_code
        == status
    )


def test_elsewhere_any_name_is_taken_but_where_kt_toml_lists_some(tmp_path: Path):
    web = {"Host": "models.example"}
    assert (
        client(tmp_path / "k", local=False).simulate_post("/predict", headers=web).status_code
        == 200
    )
    listed = client(tmp_path / "k", local=False, hosts=["kt.example"])
    assert listed.simulate_post("/predict", headers=web).status_code == 421
    assert listed.simulate_post("/predict", headers={"Host": "KT.example:80"}).status_code == 200


def test_more_than_the_rate_is_answered_429_with_a_time_to_wait(tmp_path: Path):
    web = client(tmp_path / "k", rate=0.001, burst=3)
    answers = [web.simulate_post("/predict") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_bucket_fills_again_and_the_longest_unseen_is_forgotten():
    rates = Rates(rate=2.0, burst=1.0)
    assert rates.take("a", 0.0) == 0
    assert rates.take("a", 0.1) == pytest.approx(0.4)
    assert rates.take("a", 0.6) == 0
    for number in range(20_000):
        rates.take(str(number), 1.0)
    assert len(rates.buckets) <= 10_000


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("x", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, local: bool):
    assert is_loopback(host) is local

"""The dashboard as a service: it shows, and nothing else."""

import random

import boards
import pytest
from falcon import testing

from kt.monitors.dashboard import app
from kt.monitors.dashboard.facts import Dashboard

pytest.importorskip("vl_convert", reason="the charts need it: pip install 'kt[dashboard]'")

asked: list[str] = []


def look(window: str) -> Dashboard:
    asked.append(window)
    return boards.deployed()


@pytest.fixture
def web() -> testing.TestClient:
    asked.clear()
    return testing.TestClient(app.create_app(look), headers={"Host": "127.0.0.1:8610"})


def test_every_answer_carries_the_policy(web: testing.TestClient) -> None:
    for path in (
        "/",
        "/dashboard.json",
        "/page.css",
        "/page.js",
        "/icon.svg",
        "/nothing",
        "/?last=x",
    ):
        headers = web.simulate_get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_another_name_is_refused(web: testing.TestClient) -> None:
    for host in ("evil.example", "evil.example:8610", "127.0.0.1.evil.example"):
        assert web.simulate_get("/", headers={"Host": host}).status_code == 421
    for host in ("localhost:8610", "127.0.0.1", "[::1]:8610"):
        assert web.simulate_get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(web: testing.TestClient, method: str) -> None:
    for path in ("/", "/dashboard.json", "/page.js"):
        assert web.simulate_request(method, path, body="{}").status_code == 405


def test_its_numbers_are_those_of_the_facts(web: testing.TestClient) -> None:
    numbers = web.simulate_get("/dashboard.json").json
    assert numbers["models"][0]["variants"][0]["version"] == "v1"
    assert numbers["at"] == boards.iso(0)


def test_a_page_is_looked_at_once_however_many_ask(web: testing.TestClient) -> None:
    for _ in range(3):
        assert "sakt" in web.simulate_get("/?last=24h").text
        assert web.simulate_get("/dashboard.json?last=24h").status_code == 200
    assert asked == ["24h"]
    web.simulate_get("/?last=30d")
    assert asked == ["24h", "30d"]


def test_a_window_that_there_is_not_is_named(web: testing.TestClient) -> None:
    answer = web.simulate_get("/?last=<script>")
    assert answer.status_code == 422
    assert answer.json["field"] == "last"


def test_a_page_and_its_files_are_served(web: testing.TestClient) -> None:
    assert web.simulate_get("/page.js").headers["content-type"].startswith("text/javascript")
    assert web.simulate_get("/page.css").headers["content-type"].startswith("text/css")
    assert web.simulate_get("/icon.svg").headers["content-type"] == "image/svg+xml"
    facts = boards.busy(random.Random(1))
    served = testing.TestClient(app.create_app(lambda _: facts), headers={"Host": "localhost"})
    assert served.simulate_get("/").text.count("<figure") == 13

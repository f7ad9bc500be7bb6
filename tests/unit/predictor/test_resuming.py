"""Over HTTP: a history that goes on, in full, with what is remembered of it, and with a state handed in."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from falcon import testing
from predictors import Made, make

from kt.models import gpcm, sakt
from kt.predictor.app import routes
from kt.predictor.host import Host, make_host
from kt.predictor.states import Remembering

HEADERS = {"Content-Type": "application/json"}
History = list[dict[str, Any]]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path)
    made.add_tutor("v1", gpcm, 1)
    made.add_tutor("v2", sakt, 2)
    made.deploy(1, tutor=made.route("v1"))
    return made


class Face:
    def __init__(self, made: Made, settings: str = "") -> None:
        made.settings("[predictor]\n" + settings)
        self.host: Host = make_host(made.root)
        self.host.open()
        self.client = testing.TestClient(routes(self.host))

    def ask(self, path: str = "/predict", **fields: Any) -> Any:
        body = json.dumps({"student_id": "s-1", "items": ["1", "2"]} | fields)
        return self.client.simulate_post(path, body=body, headers=HEADERS)


def history(count: int, seed: int = 0) -> History:
    rng = random.Random(seed)
    return [{"item": str(rng.randrange(11)), "response": rng.randrange(2)} for _ in range(count)]


def numbers(answer: Any) -> list[float]:
    assert answer.status_code == 200, answer.json
    return [p for one in answer.json["predictions"] for p in one["probabilities"]]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_is_remembered_changes_no_answer(made: Made, version: str) -> None:
    made.deploy(1, tutor=made.route(version))
    with_cache, without = Face(made), Face(made, "state_cache_mb = 0\n")
    whole = history(180)
    for n in range(120, 180, 4):
        for answers in (whole[:n], whole[: n + 1]):
            one, two = with_cache.ask(answers=answers), without.ask(answers=answers)
            assert numbers(one) == pytest.approx(numbers(two), abs=1e-5)
    assert with_cache.host.states.size > 10_000
    assert without.host.states.size == 0
    assert not any(
        isinstance(one.engine, Remembering) for one in without.host.current.ready.values()
    )


def test_steps_are_compiled_where_kt_toml_says_so(made: Made) -> None:
    pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    face = Face(made, "compiled = true\n")
    whole = history(140)
    answers = [face.ask(answers=whole[:n]) for n in range(120, 140)]
    (ready,) = face.host.current.ready.values()
    assert isinstance(ready.engine, Remembering)
    module: Any = ready.engine.engine
    with torch.inference_mode():
        assert module.module.steps(torch.device("cpu"))
    plain = Face(made, "state_cache_mb = 0\n").ask(answers=whole[:139])
    assert numbers(answers[-1]) == pytest.approx(numbers(plain), abs=1e-5)


def test_a_state_handed_in_stands_for_the_history(made: Made) -> None:
    face = Face(made)
    whole = history(170)  # more than the window
    first = face.ask(answers=whole[:50], state=True)
    assert "state" not in face.ask(answers=whole[:50]).json
    state = first.json["state"]
    for n in range(50, 170):
        answer = face.ask(answers=whole[n : n + 1], state=state)
        state = answer.json["state"]
    assert numbers(answer) == pytest.approx(numbers(face.ask(answers=whole)), abs=1e-5)
    assert len(state) < 3_000


def test_a_state_holds_after_a_promotion_and_in_an_experiment(made: Made) -> None:
    """It holds answers, and nothing of the version that gave it."""
    state = Face(made).ask(answers=history(40), state=True).json["state"]
    made.add_tutor("v3", gpcm, 3, window=30)
    made.deploy(2, tutor=made.route("v2", "v3", traffic=100))
    face = Face(made)
    answer = face.ask(answers=[], state=state)
    assert answer.json["version"] == "v3"
    assert "fallback" not in answer.json
    assert numbers(answer) == pytest.approx(numbers(face.ask(answers=history(40))), abs=1e-6)
    longest = face.ask(answers=history(150), state=True)  # of the version that uses more
    again = face.ask(answers=[], state=longest.json["state"]).json["state"]
    assert again == longest.json["state"]


def test_a_state_goes_through_the_other_protocol_that_has_bodies(made: Made) -> None:
    face = Face(made)
    record = {"answers": history(20), "items": ["1"], "state": True}
    body = json.dumps({"dataframe_records": [record]})
    told = face.client.simulate_post("/invocations", body=body, headers=HEADERS).json
    state = told["served_by"][0]["state"]
    assert numbers(face.ask(answers=[], state=state)) == pytest.approx(
        numbers(face.ask(answers=history(20))), abs=1e-6
    )


@pytest.mark.parametrize("state", ["", "x" * 1000, "AAAA", 7, None, {}, "\u00fc"])
def test_what_is_no_state_is_refused(made: Made, state: Any) -> None:
    refused = Face(made).ask(answers=[], state=state)
    assert refused.status_code == 422
    assert refused.json["field"] == "state"
    assert refused.json["detail"].startswith("is no state that a predictor gave")


def test_a_promotion_uses_no_state_of_the_version_before(made: Made) -> None:
    whole = history(140)
    face = Face(made)
    for n in range(130, 140):
        face.ask(answers=whole[:n])
    made.deploy(2, tutor=made.route("v2"))
    face.host.look()
    assert face.host.states.size == 0
    answer = face.ask(answers=whole)
    assert answer.json["version"] == "v2"
    alone = Face(made, "state_cache_mb = 0\n")
    assert numbers(answer) == pytest.approx(numbers(alone.ask(answers=whole)), abs=1e-6)

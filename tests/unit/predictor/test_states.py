import math
import random
import threading
from dataclasses import fields

import numpy as np
import pytest
import torch

from kt.models import gpcm, irt, memory_gru, sakt, tracing, vectors
from kt.predictor.engine import Key
from kt.predictor.engines.torch import Incremental, joined, parted
from kt.predictor.quarantine import Note
from kt.predictor.run import run
from kt.predictor.states import FURTHER, Kept, Remembering, States, further

pytestmark = pytest.mark.usefixtures("one_thread")


KEY = Key("tutor", "v1", "a" * 64)
OTHER = KEY._replace(version="v2")
WINDOW = 24
PAYS = 16  # answers


def past(*events):
    return (np.array(events, np.int64).tobytes(), np.array([e + 10 for e in events]).tobytes())


@pytest.mark.parametrize(
    ("before", "now", "steps"),
    [
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3], [1, 2, 3, 4], 1),
        ([1, 2, 3], [1, 2, 3, 4, 5], 2),
        ([1, 2, 3], [1, 2, 9, 4], None),  # another past
        ([1, 2, 3], [1, 2], None),  # an answer taken back
        ([1, 2], [1, 2, 3, 4, 5], None),  # too far
        ([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], 1),  # the window has slid
        ([1, 2, 3, 4], [2, 3, 4, 5, 6], 2),  # it filled up and slid
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 6], None),
        ([7, 7, 7, 7, 7], [7, 7, 7, 7, 7], 0),
        ([1, 2, 3], [], None),
    ],
)
def test_how_far_a_history_goes_on_from_another(before, now, steps):
    assert further(past(*before), past(*now), len(now), window=5) == steps


def test_where_no_event_leaves_a_state_a_window_that_has_slid_is_another_past():
    assert further(past(1, 2, 3), past(1, 2, 3, 4), 4, math.inf) == 1
    assert further(past(1, 2, 3, 4, 5), past(1, 2, 3, 4, 5), 5, math.inf) == 0
    assert further(past(1, 2, 3, 4, 5), past(2, 3, 4, 5, 6), 5, math.inf) is None


def kept(size):
    return Kept((), {"memory": np.zeros(size, np.uint8)})


def test_what_is_remembered_stays_under_its_bound_and_the_oldest_goes_first():
    states = States(10_000)
    for unit in "abcd":
        states.put(KEY, unit, kept(2_000))
        states.get(KEY, "a")  # asked for again and again
    assert states.size <= 10_000
    assert [unit for unit in "abcd" if states.get(KEY, unit)] == ["a", "c", "d"]
    states.put(KEY, "large", kept(20_000))
    assert states.size == 0
    assert states.get(KEY, "large") is None


def test_the_bound_counts_names_and_units_that_came_once():
    states = States(100_000)
    for number in range(1_000):
        states.put(KEY, f"{number}" * 1_000, Kept())
    assert states.size <= 100_000
    states.put(KEY, "a", kept(50_000))
    states.put(KEY, "a", kept(50_000))  # in place of the first
    assert states.get(KEY, "a")


def test_versions_that_are_not_loaded_are_forgotten():
    states = States(100_000)
    states.put(KEY, "a", kept(10))
    states.put(OTHER, "a", kept(10))
    states.only({OTHER})
    assert states.get(KEY, "a") is None
    assert states.get(OTHER, "a")


def test_states_of_unequal_lengths_are_joined_with_zeros_in_front():
    one = {"answers": np.array([[1, 2]]), "lengths": np.array([2])}
    two = {"answers": np.array([[3, 4, 5]]), "lengths": np.array([3])}
    both = joined([one, two])
    assert both["answers"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert both["lengths"].tolist() == [2, 3]
    again = parted(both, 2)
    assert again[1]["answers"].tolist() == [[3, 4, 5]]
    assert again[1]["answers"].base is None


class Counted(Incremental):
    """An engine that counts what is asked of it."""

    calls: dict[str, int]
    pays = PAYS

    def count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def run(self, arrays):
        self.count("run")
        return super().run(arrays)

    def begin(self, history, asked):
        self.count("begin")
        return super().begin(history, asked)

    def go_on(self, states, events, asked):
        self.count(f"{len(events)} on")
        return super().go_on(states, events, asked)


def remembering(family, seed=0, most=10_000_000, key=KEY, states=None):
    torch.manual_seed(seed)
    of = {"dimension": 4} if family is memory_gru else {"items": 9}
    config = family.Config(window=WINDOW, **of, **family.SIZES.get("small", {}))
    module = family.Model(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    module.requires_grad_(False)
    signature = family.signature(config)
    engine = Counted(None, family, family.FORM, signature, module)
    object.__setattr__(engine, "calls", {})
    note = Note(bytearray(8), 0, threading.Lock())
    return Remembering(engine, family.FORM, signature, note, key, states or States(most))


def request(answers, items=("1", "2"), student="s-1"):
    return tracing.Request(
        student_id=student,
        answers=[{"item": item, "response": response} for item, response in answers],
        items=list(items),
    )


def drawn(rng):
    return str(rng.randrange(11)), rng.randrange(2)


def numbers(predictions):
    return [p for one in predictions for p in one["probabilities"]]


@pytest.mark.parametrize("family", [gpcm, sakt, irt], ids=["gpcm", "sakt", "irt"])
def test_an_answer_does_not_depend_on_what_is_remembered(family):
    """Students ask in batches, alone, again, further, with another past; the window slides."""
    engine = remembering(family)
    rng = random.Random(0)
    pasts = {f"s-{n}": [drawn(rng) for _ in range(5 * n)] for n in range(8)}
    for _ in range(40):
        batch = []
        for student in rng.sample(sorted(pasts), rng.randrange(1, 6)):
            past = pasts[student]
            past += [drawn(rng) for _ in range(rng.choice([0, 1, 1, 1, 2, 5]))]
            if rng.random() < 0.1:
                past[-1:] = [drawn(rng)]
            asked = [str(rng.randrange(11)) for _ in range(rng.randrange(1, 4))]
            batch.append(request(past, asked, rng.choice([student, student, student, None])))
        wanted = run(engine.engine, batch)
        for ours, theirs in zip(run(engine, batch), wanted, strict=True):
            assert ours[0].keys() == theirs[0].keys()
            np.testing.assert_allclose(numbers(ours), numbers(theirs), atol=1e-5)
    calls = engine.engine.calls
    assert calls["1 on"] > 10
    assert calls["0 on"] > 5
    assert calls["begin"] > 5
    assert 0 < engine.states.size < 1_000_000


def test_a_state_is_begun_at_a_unit_s_second_request_and_then_costs_a_step():
    engine = remembering(sakt)
    past = [(str(n % 9), n % 2) for n in range(PAYS)]
    seen = []
    for more in range(4):
        engine.engine.calls.clear()
        run(engine, [request(past + [("3", 1)] * more)])
        seen.append(dict(engine.engine.calls))
    assert seen == [{"run": 1}, {"begin": 1}, {"1 on": 1}, {"1 on": 1}]
    engine.engine.calls.clear()
    run(engine, [request(past + [("3", 1)] * 3, items=["7"])])  # another item, the same past
    assert engine.engine.calls == {"0 on": 1}
    engine.engine.calls.clear()
    run(engine, [request(past + [("3", 1)] * (4 + FURTHER))])
    assert engine.engine.calls == {"begin": 1}


def test_a_document_goes_on_until_it_is_longer_than_the_window_and_is_then_read_in_full():
    engine = remembering(memory_gru)
    plain = Incremental(*(getattr(engine.engine, one.name) for one in fields(Incremental)))
    rng = np.random.default_rng(0)
    document = rng.normal(size=(WINDOW + 3, 4)).tolist()
    seen = []
    for length in (WINDOW - 3, *range(WINDOW - 3, WINDOW + 4)):
        engine.engine.calls.clear()
        asked = [vectors.Request(document="d-1", vectors=document[:length])]
        (ours,), (theirs,) = run(engine, asked), run(plain, asked)
        np.testing.assert_allclose(ours[0]["vector"], theirs[0]["vector"], atol=1e-5)
        seen.append(dict(engine.engine.calls))
    assert seen == [{"run": 1}, {"begin": 1}, *[{"1 on": 1}] * 3, *[{"run": 1}] * 3]
    document[1][2] += 1
    run(engine, [vectors.Request(document="d-1", vectors=document[:WINDOW])])
    assert engine.engine.calls == {"run": 2}


def test_short_histories_and_units_without_a_name_are_run_in_full():
    engine = remembering(sakt)
    for _ in range(3):
        run(engine, [request([("1", 1)] * (PAYS - 1))])
        run(engine, [request([("1", 1)] * PAYS, student=None)])
    assert engine.engine.calls == {"run": 6}


def test_a_state_of_another_version_or_unit_is_never_taken_up():
    states = States(1_000_000)
    one = remembering(sakt, 1, states=states)
    two = remembering(sakt, 2, key=OTHER, states=states)
    past = [(str(n % 9), n % 2) for n in range(PAYS)]
    for _ in range(3):
        run(one, [request(past)])
    run(two, [request(past)])
    assert two.engine.calls == {"run": 1}
    one.engine.calls.clear()
    run(one, [request(past, student="s-2")])
    assert one.engine.calls == {"run": 1}

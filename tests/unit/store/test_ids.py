"""Prediction ids: what is put in comes out, and nothing else is ever believed."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kt.stats.scored import NOTHING, Kind, Scored, Scores, binary, likeliest
from kt.store import ids, secret
from kt.store.ids import FINEST, MOST, Ids, Ticket, Unreadable
from kt.store.secret import Secret

NOW = datetime(2026, 1, 12, 9, 0, tzinfo=UTC)
MINUTE = 29_470_000


def keys(fill: int = 7) -> Secret:
    return Secret(keys=(secret.master(1, NOW, lambda size: bytes([fill]) * size),))


SIGNER = Ids(keys())

Answer = tuple[Kind, list[Scored]]
answers: st.SearchStrategy[Answer] = st.one_of(
    *(
        st.tuples(st.just(kind), st.lists(scored, max_size=9))
        for kind, scored in {
            "probability": st.floats(0, 1).map(binary),
            "category": st.builds(likeliest, st.integers(0, 2**32 - 1), st.floats(0, 1)),
            "number": st.floats(allow_nan=False).map(lambda value: Scored("number", value)),
            "none": st.just(NOTHING),
        }.items()
    )
)


def scores(answer: Answer) -> Scores:
    kind, scored = answer
    return Scores(kind, [one.value for one in scored], [one.category for one in scored])


def why(text: str, signer: Ids = SIGNER) -> str:
    with pytest.raises(Unreadable) as refused:
        signer.read(text)
    return refused.value.why


def one(value: float = 0.75, signer: Ids = SIGNER) -> str:
    return signer.make(5, MINUTE, 127, Scores("probability", [value]))


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@given(answers, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1), st.integers(0, 127))
def test_what_is_put_in_comes_out(answer: Answer, stream: int, minute: int, bucket: int):
    kind, scored = answer
    found = SIGNER.read(SIGNER.make(stream, minute, bucket, scores(answer)))
    assert found[1:5] == (stream, kind, minute, bucket)
    assert len(found.scored) == len(scored)
    for said, meant in zip(found.scored, scored, strict=True):
        assert (said.kind, said.category) == (meant.kind, meant.category)
        if kind == "number":
            assert said.value == meant.value
        elif kind != "none":
            assert abs(said.value - meant.value) <= 0.5001 / FINEST


@given(answers, st.data())
def test_any_flipped_bit_is_refused(answer: Answer, data: st.DataObject):
    whole = bytearray(raw(SIGNER.make(5, MINUTE, 3, scores(answer))))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert why(text_of(whole)) == {0: "version", 1: "key"}.get(bit // 8, "forged")


@given(st.data())
def test_any_changed_character_is_refused(data: st.DataObject):
    text = one()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[place]))
    assert why(text[:place] + other + text[place + 1 :])


@given(st.integers(0, 60), st.sampled_from(["probability", "number"]))
def test_what_is_cut_or_lengthened_is_refused(size: int, kind: Kind):
    text = SIGNER.make(5, MINUTE, 3, Scores(kind, [0.5] * 3))
    assert why(text[: min(size, len(text) - 1)]) in {"malformed", "forged"}
    assert why(text + "A" * (size + 1)) in {"malformed", "forged"}
    assert why(text + "=")


@given(st.one_of(st.text(), st.binary(max_size=200).map(text_of)))
def test_nothing_invented_is_ever_read(text: str):
    assert why(text) in {"malformed", "version", "key", "forged"}


def test_one_id_has_one_text():
    """The last character of base64 may hold bits that belong to no byte."""
    text = one()
    assert len(raw(text)) % 3
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = [last for last in alphabet if raw(text[:-1] + last) == raw(text)]
    assert len(same) > 1
    for last in same:
        if last != text[-1]:
            assert why(text[:-1] + last) == "malformed"


def test_another_workspaces_id_is_forged():
    assert why(one(signer=Ids(keys(8)))) == "forged"


def test_an_id_outlives_a_rotation_until_its_key_is_dropped():
    text = one()
    second = secret.rotate(keys(), NOW, timedelta(days=30))
    assert Ids(second).read(text).stream == 5
    assert raw(one(signer=Ids(second)))[1] == 2, "the newest key signs"
    assert Ids(second).read(one(signer=Ids(second))).stream == 5
    last = secret.rotate(second, NOW + timedelta(days=31), timedelta(days=30))
    assert why(text, Ids(last)) == "key"


def test_a_newer_layout_is_told_from_a_forged_one():
    assert why(text_of(bytes([2]) + raw(one())[1:])) == "version"


def test_who_sees_an_id_learns_nothing_of_it():
    """Neither the variant (the stream) nor the score shows, nor whether two are the same."""
    texts = {one() for _ in range(200)}
    assert len(texts) == 200
    hidden = [raw(text)[ids.OPEN.size : -ids.TAG] for text in texts]
    for column in zip(*hidden, strict=True):
        assert len(set(column)) > 80  # 200 draws of 256 values give 138


def test_one_nonce_twice_does_not_show_what_two_answers_have_in_common():
    again = Ids(keys(), draw=bytes)
    first = raw(again.make(5, MINUTE, 3, Scores("probability", [0.25])))
    second = raw(again.make(5, MINUTE, 3, Scores("probability", [0.75])))
    shared = sum(a == b for a, b in zip(first[8:-10], second[8:-10], strict=True))
    assert shared < 4


def test_two_answers_have_two_ids_though_they_say_the_same():
    assert SIGNER.read(one()).id != SIGNER.read(one()).id


def test_an_answer_with_many_predictions_tells_of_the_first():
    found = SIGNER.read(SIGNER.make(5, MINUTE, 3, Scores("probability", [0.5] * 1_000)))
    assert len(found.scored) == MOST


def test_a_single_prediction_takes_few_characters():
    lengths = {
        kind: len(SIGNER.make(2**63 - 1, MINUTE, 127, Scores(kind, [0.5], [1])))
        for kind in ids.KINDS
    }
    assert lengths == {"none": 44, "probability": 46, "category": 51, "number": 54}


def test_nobody_meets_a_wrong_half_probability():
    below, half = (SIGNER.read(one(value)).scored[0].value for value in (0.5 - 2**-53, 0.5))
    assert below < 0.5 <= half
    assert SIGNER.read(one(1.0 + 1e-9)).scored[0].value == 1.0
    assert SIGNER.read(one(-1e-9)).scored[0].value == 0.0


def test_a_ticket_holds_no_unit():
    assert Ticket._fields == ("id", "stream", "kind", "minute", "bucket", "scored")

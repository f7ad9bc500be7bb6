"""The secret: made once, kept from others, rotated without losing what may still be read."""

import hmac
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kt.errors import Corrupt, Refused, Unavailable
from kt.store import pseudonym, secret
from kt.store.pseudonym import Pseudonyms
from kt.store.secret import Mac, Secret

NOW = datetime(2026, 1, 12, 9, 0, tzinfo=UTC)
HORIZON = timedelta(days=30)


def zeros(size: int) -> bytes:
    return bytes(size)


def made(at: datetime = NOW) -> Secret:
    return Secret(keys=(secret.master(1, at, zeros),))


def test_it_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path):
    first = secret.ensure(tmp_path, NOW)
    assert secret.ensure(tmp_path, NOW + HORIZON) == first == secret.read(tmp_path)
    assert stat.S_IMODE((tmp_path / secret.FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [secret.FILE]


def test_of_many_that_make_it_at_once_one_prevails(tmp_path: Path):
    found: list[Secret] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(secret.ensure(tmp_path, NOW))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({one.newest.secret for one in found}) == 1


def test_where_there_is_none_it_says_what_to_do(tmp_path: Path):
    with pytest.raises(Refused, match=r"no secret\.json") as refused:
        secret.read(tmp_path)
    assert "copy" in refused.value.do


def test_one_that_others_can_read_is_refused(tmp_path: Path):
    secret.ensure(tmp_path, NOW)
    (tmp_path / secret.FILE).chmod(0o644)
    with pytest.raises(Refused, match="others"):
        secret.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kt": 1, "keys": []}', '{"kt": 2, "keys": [1]}']
)
def test_a_damaged_one_is_corrupt(tmp_path: Path, text: str):
    (tmp_path / secret.FILE).write_text(text)
    (tmp_path / secret.FILE).chmod(0o600)
    with pytest.raises(Corrupt):
        secret.read(tmp_path)


def test_no_error_and_no_text_shows_a_key(tmp_path: Path):
    held = secret.ensure(tmp_path, NOW)
    assert held.newest.secret not in repr(held)
    text = (tmp_path / secret.FILE).read_text().replace('"id"', '"number"')
    (tmp_path / secret.FILE).write_text(text)
    with pytest.raises(Corrupt) as corrupt:
        secret.read(tmp_path)
    assert held.newest.secret not in str(corrupt.value)


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path):
    with pytest.raises(Unavailable):
        secret.ensure(Path("/proc"), NOW)


def test_rotation_keeps_what_may_still_be_answered_to(tmp_path: Path):
    first = made()
    second = secret.rotate(first, NOW + timedelta(days=1), HORIZON)
    assert [key.id for key in second.keys] == [1, 2]
    assert second.newest.id == 2
    last_day = secret.rotate(second, NOW + timedelta(days=31), HORIZON)
    assert [key.id for key in last_day.keys] == [1, 2, 3], "1 signed until day 1"
    after = secret.rotate(second, NOW + timedelta(days=31, seconds=1), HORIZON)
    assert [key.id for key in after.keys] == [2, 3]
    secret.write(tmp_path, after)
    assert secret.read(tmp_path) == after


@given(st.lists(st.integers(0, 40), max_size=300))
def test_no_two_keys_share_an_id_however_often_it_rotates(days: list[int]):
    held, now = made(), NOW
    for step in days:
        now += timedelta(days=step)
        held = secret.rotate(held, now, timedelta(days=1), zeros)
        names = [key.id for key in held.keys]
        assert len(set(names)) == len(names)
        if len(names) > 200:
            break


def test_each_purpose_has_a_key_of_its_own():
    key = made().newest
    assert len({key.key(purpose) for purpose in ("prediction-id", "unit", "bucket")}) == 3


@given(st.binary(max_size=64), st.binary(max_size=200))
def test_the_hmac_is_the_standard_one(key: bytes, message: bytes):
    assert Mac(key)(message) == hmac.digest(key, message, "sha256")


def test_a_unit_is_the_same_for_one_key_and_another_for_the_next():
    one, other = made(), secret.rotate(made(), NOW, HORIZON)
    of = Pseudonyms(one).of("s-17")
    assert len(of) == 16
    assert of == Pseudonyms(made()).of("s-17")
    assert of not in {Pseudonyms(one).of("s-18"), Pseudonyms(other).of("s-17")}
    assert pseudonym.every(other, "s-17") == {1: of, 2: Pseudonyms(other).of("s-17")}


def test_units_spread_over_all_buckets():
    names = Pseudonyms(made())
    counts = [0] * pseudonym.BUCKETS
    for unit in range(12_800):
        counts[pseudonym.bucket(names.of(f"s-{unit}"))] += 1
    chi2 = sum((count - 100) ** 2 / 100 for count in counts)
    assert 70 < chi2 < 200  # 127 degrees of freedom


@given(st.text())
def test_any_text_is_a_unit(unit: str):
    assert len(Pseudonyms(made()).of(unit)) == pseudonym.SIZE

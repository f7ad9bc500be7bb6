"""Files of outcomes: every line by itself, and none a bug."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kt.errors import Invalid, Unavailable
from kt.store import lines


def read(path: Path, text: str | bytes) -> list[tuple[int, Any]]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [
        (line.number, "wrong" if isinstance(line.entry, Invalid) else line.entry)
        for line in lines.read(path)
    ]


def entry(outcome: Any, **more: int) -> dict[str, Any]:
    return {"prediction_id": "AQE", "outcome": outcome, **more}


def test_csv_is_read_by_its_header(tmp_path: Path):
    text = 'outcome,prediction_id,place\r\n1,AQE,\r\nTrue, AQE ,2\n\n"[1, null]",AQE,\n0.5,AQE,0'
    assert read(tmp_path / "x.csv", text) == [
        (2, entry(1)),
        (3, entry(True, place=2)),
        (5, entry([1, None])),
        (6, entry(0.5, place=0)),
    ]


def test_json_lines_are_read_as_they_stand(tmp_path: Path):
    text = '{"prediction_id": "AQE", "outcome": 1}\n\n[1]\n{"a": 1, "a": 2}\nNaN\n'
    assert read(tmp_path / "x.jsonl", text) == [(1, entry(1)), (3, [1]), (4, "wrong"), (5, "wrong")]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path):
    assert read(tmp_path / "x.csv", b"\xef\xbb\xbfprediction_id,outcome\nAQE,1\n") == [
        (2, entry(1))
    ]


@pytest.mark.parametrize(
    "text",
    ["AQE", "AQE,1,2", "AQE,", "AQE,yes", 'AQE,"1', "AQE,1e999", "AQE,\x00", "AQE,NaN", "AQE,1 2"],
)
def test_a_line_that_is_wrong_costs_only_itself(tmp_path: Path, text: str):
    found = read(tmp_path / "x.csv", f"prediction_id,outcome\n{text}\nAQE,1\n")
    assert found[-1] == (3, entry(1))
    assert found[0] == (2, "wrong")


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path):
    text = b"prediction_id,outcome\nAQE," + b"1" * 1_000_000 + b"\nAQE,1\n"
    assert read(tmp_path / "x.csv", text) == [(2, "wrong"), (3, entry(1))]
    exactly = b"AQE,1".ljust(lines.LONGEST) + b"\n"
    found = read(tmp_path / "x.csv", b"prediction_id,outcome\n" + exactly + b"AQE,0\n")
    assert found == [(2, "wrong"), (3, entry(0))]


@pytest.mark.parametrize("header", ["", "id,outcome", "prediction_id", "outcome,outcome", "\x00"])
def test_a_file_whose_header_is_wrong_is_refused(tmp_path: Path, header: str):
    with pytest.raises(Invalid, match="columns"):
        read(tmp_path / "x.csv", header + "\nAQE,1\n")


def test_what_is_no_file_of_outcomes_is_told(tmp_path: Path):
    with pytest.raises(Invalid, match="CSV or JSON lines"):
        read(tmp_path / "x.xlsx", "")
    with pytest.raises(Unavailable):
        list(lines.read(tmp_path / "none.csv"))
    with pytest.raises(Unavailable):
        list(lines.read(tmp_path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".csv", ".jsonl"]), st.binary(max_size=300))
def test_no_bytes_are_a_bug(tmp_path: Path, suffix: str, data: bytes):
    head = b"prediction_id,outcome\n" if suffix == ".csv" else b""
    read(tmp_path / f"x{suffix}", head + data)

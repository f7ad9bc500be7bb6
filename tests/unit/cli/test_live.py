"""What is shown on and on."""

import sys

import pytest

from kt.cli import live, output


def test_with_quiet_a_terminal_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output.run, "quiet", True)
    looks = iter("abc")
    with pytest.raises(StopIteration):
        live.show(lambda: ({}, [next(looks)]), 0)
    assert not [*looks]
    assert capsys.readouterr() == ("", "")

"""One table of exit codes, whose meanings never change."""

from kt import errors
from kt.errors import EXIT_CODES, KtError


def test_the_exit_codes_are_these() -> None:
    assert [code for code, _ in EXIT_CODES] == [0, 1, 2, 3, 4, 5, 7, 10, 11, 12, 75, 130]


def test_every_kind_of_error_has_its_code_and_its_status() -> None:
    kinds = {kind.kind: (kind.code, kind.status) for kind in KtError.__subclasses__()}
    assert kinds["invalid"] == (2, 422)
    assert kinds["refused"] == (3, 409)
    assert kinds["corrupt"] == (4, 500)
    assert kinds["unavailable"] == (5, 503)
    assert kinds["undecided"][0] == 7
    assert kinds["unconfirmed"][0] == 75
    assert {code for code, _ in kinds.values()} <= {code for code, _ in EXIT_CODES}


def test_answers_have_codes_of_their_own() -> None:
    found = errors.ACTION_NEEDED, errors.WARNING, errors.CRITICAL, errors.INTERRUPTED
    assert found == (10, 11, 12, 130)


def test_an_error_says_where() -> None:
    assert str(errors.Corrupt("is odd", where="a.json:3", do="mend it")) == "a.json:3: is odd"
    assert str(errors.Refused("not now")) == "not now"

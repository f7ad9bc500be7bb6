"""kt diff, as typed."""

import forge
import pytest
from conftest import Kt

from kt.cli.diff import cell
from kt.registry import record
from kt.workspace import Workspace


@pytest.fixture
def lived(place: Workspace) -> Workspace:
    """A workspace in which v1, v2 and v3 were deployed one after the other."""
    for name in ("v1", "v2", "v3"):
        forge.give(place, forge.Candidate("m", name, record.read(place, "m", name).sha256))
    return place


def test_two_versions(place: Workspace, kt: Kt) -> None:
    forge.version(place, "m", "v4", failed=True)
    result = kt("diff", "m@v1", "m@v4", "--json", at=place).result
    assert (result["left"], result["right"], result["same_weights"]) == ("m@v1", "m@v4", False)
    assert [row["entry"] for row in result["differences"]] == ["gates.latency.passed"]


def test_a_version_alone_is_compared_with_the_active_one(lived: Workspace, kt: Kt) -> None:
    result = kt("diff", "m@v1", "--json", at=lived).result
    assert (result["left"], result["right"]) == ("m@v3", "m@v1")


def test_versions_that_differ_in_nothing_but_weights(place: Workspace, kt: Kt) -> None:
    assert (
        kt("diff", "m@v1", "m@v2", at=place).out
        == "m@v1 and m@v2: nothing differs but other weights\n"
    )


def test_a_cell_is_short_whatever_an_entry_holds() -> None:
    assert cell([0.7583865814696485, 0.7738413547237076]) == "0.758387, 0.773841"
    assert cell([{"number": 1, "loss": 1.0}]) == "1 entry"
    assert cell(["a"] * 5) == "5 entries"
    assert cell(None) == "-"


def test_two_states_by_number_digest_and_time(lived: Workspace, kt: Kt) -> None:
    result = kt("diff", "1", "3", "--json", at=lived).result
    assert [event["version"] for event in result["events"]] == ["v2", "v3"]
    assert result["manifests"]["left"]["models"]["m"]["active"]["version"] == "v1"
    assert any(line.startswith("-") and '"v1"' in line for line in result["diff"])
    from kt import journal

    head = journal.digest(journal.read(lived.root / "deployments/history.json").events[0])
    assert kt("diff", head[:8], "3", "--json", at=lived).result["left"] == 1
    assert kt("diff", "2026-01-01", "3", "--json", at=lived).result["left"] == 0


def test_a_state_alone_is_compared_with_now(lived: Workspace, kt: Kt) -> None:
    out = kt("diff", "2", at=lived).out
    assert out.startswith("+ event 3 ")
    assert kt("diff", "3", at=lived).out == "both are event 3: nothing differs\n"
    assert kt("diff", "3", "2", at=lived).out.startswith("- event 3 ")


@pytest.mark.parametrize(
    "arguments", [("m@v1", "2"), ("2", "m@v1"), ("m@v9", "m@v1"), ("99",), ("zz",), ("x@",)]
)
def test_what_cannot_be_compared_is_invalid(
    lived: Workspace, kt: Kt, arguments: tuple[str, ...]
) -> None:
    assert kt("diff", *arguments, "--json", at=lived).error["code"] == 2

"""The first week of each planted situation; `python bench/month.py` has the whole month, with more looks a day."""

import pytest
from left_alone import DAY, SITUATIONS, LeftAlone


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_it_ends_as_it_must_and_the_journals_tell_why(tmp_path, situation):
    step = 6 if situation.alerts else 12  # hours
    found = LeftAlone(tmp_path / "w", situation, step).live_through(situation.days * DAY)
    assert not found.differs(situation, situation.days * DAY), "\n".join(found.lines)

"""Keys are made and revoked by one command at a time, whatever else goes on in the workspace."""

import pytest
from conftest import Kt

from kt import change, locks
from kt.workspace import Workspace


@pytest.fixture
def impatient(place: Workspace) -> Workspace:
    path = place.root / "kt.toml"
    path.write_text(f"lock_wait = 0\n{path.read_text()}")
    return Workspace(place.root)


def test_two_commands_that_change_the_keys_take_turns(impatient: Workspace, kt: Kt) -> None:
    """Of two that had read the same file the second would write it without what the first has made."""
    with locks.holding(impatient.local / "keys", "kt key, process 7"):
        late = kt("key", "new", at=impatient)
    assert late.code == 5
    assert late.err.startswith("kt: the keys are being changed by kt key, process 7\n")
    assert not (impatient.root / "keys.json").exists()
    assert kt("key", "new", at=impatient).code == 0


def test_a_key_is_revoked_while_another_command_holds_the_workspace(
    impatient: Workspace, kt: Kt
) -> None:
    made = kt("key", "new", "--json", at=impatient).result["id"]
    with change.locked(impatient, "deploy"):
        assert kt("key", "revoke", made, at=impatient).code == 0
    (known,) = kt("key", "list", "--json", at=impatient).result["keys"]
    assert known["revoked_at"]

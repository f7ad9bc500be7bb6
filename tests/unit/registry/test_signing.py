"""A signature is made and checked by ssh-keygen itself; without one that counts nothing is served, if kt.toml says so."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import forge
import machines
import pytest
from conftest import Kt, git
from machines import Two

from kt import staging
from kt.deployments import audit, deploy, verify
from kt.errors import Invalid, KtError, Refused, Unavailable
from kt.predictor.host import make_host
from kt.registry import checkpoint, record, register, signing
from kt.registry.record import RECORD, SIGNATURE
from kt.registry.register import Request
from kt.workspace import Workspace

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not here")

REQUIRED = 'git = "off"\n[signing]\nrequire_signature = true\n'


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of ana, who may sign, and of eve, who may not; and who may sign."""
    folder = tmp_path_factory.mktemp("keys")
    for who in ("ana", "eve"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", folder / who],
            check=True,
        )
    public = (folder / "ana.pub").read_text().rpartition(" ")[0]
    (folder / "allowed_signers").write_text(f"ana@example.org {public}\n")
    return folder


@pytest.fixture
def place(place: Workspace, keys: Path) -> Workspace:
    shutil.copy(keys / "allowed_signers", place.root)
    return place


def folder(place: Workspace, version: str) -> Path:
    return record.folder(place, "m", version)


def required(place: Workspace, more: str = "") -> Workspace:
    (place.root / "kt.toml").write_text(REQUIRED + more)
    return Workspace(place.root)


def sign(place: Workspace, keys: Path, version: str, who: str = "ana") -> None:
    deploy.sign(place, "m", version, keys / who)


def given(place: Workspace, version: str, traffic: float | None = None) -> deploy.Done:
    named = deploy.version_of(place, "m", version)
    return forge.give(place, named, traffic, "x" if traffic else "")


def test_a_signed_version_says_by_whom(workspace: Workspace, keys: Path, kt: Kt) -> None:
    shutil.copy(keys / "allowed_signers", workspace.root)
    ran = kt("sign", "m@v2", "--key", str(keys / "ana"), at=workspace)
    assert ran.out == "m@v2 is signed by ana@example.org.\n"
    key = ("--key", str(keys / "ana"))
    assert not kt("sign", "m@v2", *key, "--json", at=workspace).result["changed"]
    assert kt("sign", "m@v2", *key, "--dry-run", "--exit-code", at=workspace).code == 0
    assert kt("sign", "m@v3", *key, "--dry-run", "--exit-code", at=workspace).code == 10
    assert git(workspace.root, "log", "-1", "--format=%s") == "m: sign v2"
    assert git(workspace.root, "show", "--stat", "--format=").startswith(
        "registry/m/v2/" + SIGNATURE
    )
    assert "signed      ana@example.org" in kt("show", "m@v2", at=workspace).out
    assert "signed" not in kt("show", "m@v1", at=workspace).out
    rows = kt("models", "m", "--json", at=workspace).result["versions"]
    assert {row["version"]: row["signed_by"] for row in rows} == {
        "v1": None, "v2": "ana@example.org", "v3": None,
    }  # fmt: skip
    assert "SIGNED" in kt("models", "m", at=workspace).out
    assert kt("verify", at=workspace).code == 0


def test_it_is_checked_by_hand_as_the_page_says(place: Workspace, keys: Path) -> None:
    sign(place, keys, "v1")
    command = "ssh-keygen -Y verify -n kt-version -f ../../../allowed_signers -I ana@example.org -s record.json.sig < record.json"
    subprocess.run(command, shell=True, check=True, cwd=folder(place, "v1"), capture_output=True)


def harmed(place: Workspace, keys: Path, how: str) -> None:
    """v1 with a signature that does not count."""
    sign(place, keys, "v1", "eve" if how == "by nobody who may" else "ana")
    path = folder(place, "v1") / SIGNATURE
    match how:
        case "none":
            path.unlink()
        case "of another version":
            sign(place, keys, "v2")
            shutil.copy(folder(place, "v2") / SIGNATURE, path)
        case "garbage":
            path.write_text("a signature")
        case "of something else":
            path.unlink()
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", keys / "ana"]
            subprocess.run(
                [*command, folder(place, "v1") / RECORD], check=True, capture_output=True
            )
        case "of an earlier record":
            known = record.read(place, "m", "v1").model_copy(update={"scores": {"auc": 0.99}})
            (folder(place, "v1") / RECORD).write_bytes(record.dump(known))
        case "nobody is named":
            (place.root / "allowed_signers").unlink()


HARMS = {
    "none": "m@v1 is not signed",
    "by nobody who may": "m@v1 is signed by nobody whom allowed_signers names",
    "of another version": "m@v1 has a signature that does not fit",
    "garbage": "m@v1 is signed by nobody",
    "of something else": "m@v1 has a signature that does not fit",
    "of an earlier record": "m@v1 has a signature that does not fit",
    "nobody is named": "m@v1 is signed, and allowed_signers does not say by whom",
}


@pytest.mark.parametrize("how", HARMS)
def test_what_is_not_signed_by_one_who_may_gets_no_traffic(
    how: str, place: Workspace, keys: Path, kt: Kt
) -> None:
    harmed(place, keys, how)
    strict = required(place)
    with pytest.raises(Refused) as error:
        given(strict, "v1")
    assert error.value.what.startswith(HARMS[how])
    assert error.value.what.endswith("kt.toml says require_signature")
    assert error.value.do
    assert not (place.root / "deployments" / "history.json").exists()
    found = kt("verify", "--json", at=strict)
    told = [one["what"] for one in found.result["findings"]]
    assert (how == "none") is not any(HARMS[how] in what for what in told)


def test_a_promotion_and_a_rollback_ask_for_it_too(place: Workspace, keys: Path, kt: Kt) -> None:
    for version in ("v1", "v2", "v3"):
        sign(place, keys, version)
    strict = required(place)
    given(strict, "v1")
    given(strict, "v2")
    given(strict, "v3", 10.0)
    for version in ("v1", "v3"):
        (folder(place, version) / SIGNATURE).unlink()
    deploy.ramp(strict, "x", 20.0, forge.STAMP)
    for command in (("promote", "x", "--force", "--reason", "r"), ("rollback", "v1")):
        ran = kt(*command, at=strict)
        assert ran.code == Refused.code
        assert "is not signed" in ran.err
    assert kt("verify", at=strict).code
    assert forge.back(strict).event  # the experiment ends: v2 is signed


def prepared(place: Workspace, path: Path) -> str:
    """kt deploy FILE, in this process."""
    request = Request(path, model="m", by="ana", at=forge.STAMP.at)
    active = audit.read(place)[1].serving("m").active
    parents = {"m": active.version} if active else {}
    with staging.staging(place) as staged, checkpoint.opening(path) as (file, source):
        ready = register.prepare(place, request, file, source, staged, parents, lambda *_: None)
        return deploy.deploy(place, ready, forge.STAMP, traffic=None, experiment="", dry_run=False).version  # fmt: skip


def test_a_new_version_is_signed_with_the_key_in_kt_toml(
    place: Workspace, keys: Path, checkpoints: Path
) -> None:
    with pytest.raises(Refused, match="m@v4 is not signed") as error:
        prepared(required(place), checkpoints / "1.pt")
    assert "[signing] key" in error.value.do
    strict = required(place, f'key = "{keys / "ana"}"\n')
    assert prepared(strict, checkpoints / "1.pt") == "v4"
    known = record.read(strict, "m", "v4")
    assert signing.standing(strict, known).by == "ana@example.org"


def test_a_predictor_loads_signed_versions_alone(
    place: Workspace, keys: Path, checkpoints: Path
) -> None:
    """The setting is kt.toml's: whoever can write a manifest cannot do without a signature."""
    settings = f'git = "off"\n[signing]\nkey = "{keys / "ana"}"\n'
    (place.root / "kt.toml").write_text(settings)
    prepared(Workspace(place.root), checkpoints / "1.pt")
    strict = required(place)
    host = make_host(strict.root, "http://here")
    host.open()
    assert host.state.status == "ok"
    (place.root / "kt.toml").write_text('git = "off"\n')
    prepared(Workspace(place.root), checkpoints / "2.pt")
    host.look()
    assert "m@v5 is not signed" in host.state.reason
    assert host.current.manifest.models["m"].active.version == "v4"
    sign(place, keys, "v5", "eve")
    host._retry = (0.0, 1.0)
    host.look()
    assert "signed by nobody whom allowed_signers names" in host.state.reason
    sign(place, keys, "v5")
    host._retry = (0.0, 1.0)
    host.look()
    assert host.state.status == "ok"
    assert host.current.manifest.models["m"].active.version == "v5"


@pytest.fixture
def two(workspace: Workspace, kt: Kt, keys: Path) -> Two:
    shutil.copy(keys / "allowed_signers", workspace.root)
    git(workspace.root, "add", "allowed_signers")
    return machines.two(workspace, kt)


def test_signatures_travel_with_their_versions(two: Two, keys: Path, kt: Kt) -> None:
    sign(two.ours, keys, "v1")
    machines.register(two.ours, "v4")
    sign(two.ours, keys, "v4")
    assert kt("push", at=two.ours).code == 0
    assert kt("pull", at=two.theirs).code == 0
    for version in ("v1", "v4"):
        known = record.read(two.theirs, "m", version)
        assert signing.standing(two.theirs, known).by == "ana@example.org"
    assert machines.clean(two.theirs, kt)


def test_a_pull_takes_no_signature_away(two: Two, keys: Path, kt: Kt) -> None:
    sign(two.ours, keys, "v1")
    kt("push", at=two.ours)
    kt("pull", at=two.theirs)
    git(two.ours.root, "rm", "--quiet", f"registry/m/v1/{SIGNATURE}")
    git(two.ours.root, "commit", "--quiet", "-m", "gone")
    git(two.ours.root, "push", "--quiet", "origin", "HEAD")
    ran = kt("pull", at=two.theirs)
    assert ran.code == Refused.code
    assert "signatures never go" in ran.err
    assert (two.theirs.root / "registry/m/v1" / SIGNATURE).exists()


def test_a_forced_pull_keeps_the_signatures_here(two: Two, keys: Path, kt: Kt) -> None:
    for place, version in ((two.ours, "v2"), (two.theirs, "v3")):
        forge.give(place, machines.named(place, version))
    kt("push", at=two.theirs)
    sign(two.ours, keys, "v1")
    assert kt("pull", "--force", "--reason", "theirs stands", at=two.ours).code == 0
    known = record.read(two.ours, "m", "v1")
    assert signing.standing(two.ours, known).by == "ana@example.org"
    assert machines.clean(two.ours, kt)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "which key?"),
        (["--key", "nowhere"], "nowhere: cannot sign: "),
    ],
)
def test_a_key_that_cannot_sign_is_named(
    given: list[str], said: str, place: Workspace, kt: Kt
) -> None:
    ran = kt("sign", "m@v1", *given, at=place)
    assert ran.code == Invalid.code
    assert said in ran.err
    assert ran.err.count("\n") == 2
    assert not (folder(place, "v1") / SIGNATURE).exists()


def test_a_key_that_does_not_count_signs_and_says_so(place: Workspace, keys: Path, kt: Kt) -> None:
    ran = kt("sign", "m@v1", "--key", str(keys / "eve"), at=place)
    assert ran.code == 0
    assert "add your key to allowed_signers" in ran.err


def test_without_ssh_keygen_it_is_said(
    place: Workspace, keys: Path, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(place, keys, "v1")
    strict = required(place)
    monkeypatch.setenv("PATH", str(place.root))
    errors: list[KtError] = []
    for act in (lambda: sign(strict, keys, "v2"), lambda: given(strict, "v1")):
        with pytest.raises(Unavailable, match="ssh-keygen is not installed") as error:
            act()
        errors.append(error.value)
    assert all(error.do for error in errors)
    (finding,) = verify.signatures(strict, [])
    assert "ssh-keygen is not installed" in finding.what


def test_nothing_is_asked_for_where_nothing_is_set(place: Workspace, kt: Kt) -> None:
    done: Any = given(place, "v1")
    assert done.event["version"] == "v1"
    assert kt("verify", at=place).code == 0

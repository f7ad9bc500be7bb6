"""Who stands for a version: its record, signed with an ssh key by ssh-keygen(1).

    registry/<model>/<version>/record.json.sig    over record.json, which holds the weights' sha256
    allowed_signers                               whose keys count: ssh-keygen(1), ALLOWED SIGNERS

The same by hand, for who trusts no kt:

    ssh-keygen -Y verify -n kt-version -f allowed_signers -I WHO -s record.json.sig < record.json

Whether a version must be signed stands in kt.toml alone, so that no manifest can do without.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from kt import files
from kt.config import Signing
from kt.errors import Corrupt, Invalid, KtError, Refused, Unavailable
from kt.registry import record
from kt.registry.record import RECORD, SIGNATURE
from kt.workspace import Workspace

NAMESPACE = "kt-version"  # a signature under another one is of something else
NAME_THEM = "name who may sign, one a line: ana@example.org ssh-ed25519 AAAA…"
SECONDS = 60.0  # a person may have to type a passphrase, or touch a key


def sign(data: bytes, key: Path) -> bytes:
    """A signature of a record's bytes. key: a private key, or a public one whose other half ssh-agent holds.

    Raises Invalid where ssh-keygen cannot use the key.
    """
    done = ssh_keygen("sign", "-n", NAMESPACE, "-f", str(key), data=data)
    if done.returncode:
        raise Invalid(
            f"cannot sign: {last_line(done.stderr)}",
            where=str(key),
            do="name a key of yours: --key ~/.ssh/id_ed25519",
        )
    return done.stdout


def check(
    workspace: Workspace,
    settings: Signing,
    model: str,
    version: str,
    sha256: str,
    folder: Path | None = None,
) -> str:
    """Who has signed a version with these weights. folder: where its record lies, if it is only staged.

    Raises Refused where nobody has, or nobody whose key counts; Corrupt where the record is another.
    """
    own = record.folder(workspace, model, version)
    place = folder or own
    with files.named("read", place / RECORD):
        data = (place / RECORD).read_bytes()
    if record.parse(data, own / RECORD).sha256 != sha256:
        raise Corrupt("names other weights", where=str(own / RECORD), do=record.RESTORE)
    if not (place / SIGNATURE).is_file():
        raise Refused(f"{model}@{version} is not signed", do=f"sign it: kt sign {model}@{version}")
    try:
        return signer(data, place / SIGNATURE, workspace.root / settings.allowed)
    except Refused as error:
        raise Refused(f"{model}@{version} {error.what}", do=error.do) from error


def signer(data: bytes, signature: Path, allowed: Path) -> str:
    """Whose signature it is. Raises Refused where it is nobody's who may sign, or of something else."""
    if not allowed.is_file():
        raise Refused(
            f"is signed, and {allowed.name} does not say by whom",
            do=NAME_THEM,
        )
    about = ("-f", str(allowed), "-s", str(signature))
    found = ssh_keygen("find-principals", *about)
    who = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not who:
        raise Refused(
            f"is signed by nobody whom {allowed.name} names",
            do="let somebody sign it whom it names: kt sign MODEL@VERSION",
        )
    done = ssh_keygen("verify", "-n", NAMESPACE, "-I", who[0], *about, data=data)
    if done.returncode:
        raise Refused(
            f"has a signature that does not fit: {last_line(done.stderr)}",
            do="see what has changed: git log -p -- registry",
        )
    return who[0]


def ssh_keygen(
    verb: str, *arguments: str, data: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", verb, *arguments],  # noqa: S607  # wherever the user's PATH has it
            input=data,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unavailable(
            "ssh-keygen is not installed, signatures are its work",
            do="install OpenSSH 8.9 or later",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"ssh-keygen did not answer in {SECONDS:g} s",
            do="try again; a key with a passphrase must be in ssh-agent",
        ) from error


def last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "ssh-keygen failed")[
        :200
    ]


@dataclass(frozen=True)
class Standing:
    """Who has signed a version, or what is wrong with its signature; neither where it has none."""

    by: str = ""
    problem: str = ""

    def __str__(self) -> str:
        return f"NOT GOOD: {self.problem}" if self.problem else self.by


def standing(workspace: Workspace, known: record.VersionRecord) -> Standing:
    model, version = known.model, known.version
    if not (record.folder(workspace, model, version) / SIGNATURE).is_file():
        return Standing()
    try:
        return Standing(
            by=check(workspace, workspace.settings.signing, model, version, known.sha256)
        )
    except KtError as error:
        return Standing(problem=error.what)

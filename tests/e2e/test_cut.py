"""A connection to the store that is cut at any byte: nothing by half at either end, and again works."""

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forge
import machines
import pytest
import s3fs
from conftest import ROOT, Kt, git
from machines import Two, clean, head, register

from kt import journal
from kt.deployments import audit
from kt.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BIG = 300_000  # bytes of weights: more than the sockets' buffers pass on at once
# bytes after which each connection is reset: in the request's or answer's head, in its body, near its end
FEW = [("up", 150_000), ("down", 1), ("down", 150_000)]
MORE = [("up", 1), ("up", 400), ("down", 300)]


@pytest.fixture(params=["tests/cutting.py", "../shared/judges/reliability/cutproxy.py"])
def proxy(request: pytest.FixtureRequest) -> Path:
    path = (ROOT / str(request.param)).resolve()
    if not path.exists():
        pytest.skip("there is no ../shared beside the repository")
    return path


@contextmanager
def cutting(proxy: Path, endpoint: str, way: str, after: int) -> Iterator[str]:
    """The store's address through the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, str(proxy), "--listen", str(port), "--to", endpoint.removeprefix("http://"),
        "--cut", way, "--cut-after", str(after),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.kill()


def stored() -> dict[str, str]:
    """What the store has, by its name: the digest of its bytes."""
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    return {
        path.rpartition("/")[2]: hashlib.sha256(store.cat_file(path)).hexdigest()
        for path in store.ls("models/team/weights")
    }


def served_is_stored(two: Two) -> None:
    """What the shared history names is in the store; what is there is what its name says."""
    there = stored()
    assert all(name == digest for name, digest in there.items())
    events = json.loads(git(two.bare, "show", "HEAD:deployments/history.json"))
    journal.check(events, two.bare)
    assert {event["sha256"] for event in events} <= there.keys()


def test_a_connection_that_is_cut_leaves_nothing_by_half_and_again_works(
    proxy: Path,
    endpoint: str,
    workspace: Workspace,
    kt: Kt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = machines.two(workspace, kt, "s3://models/team")
    failed = []
    cuts = FEW if proxy.is_relative_to(ROOT) else FEW + MORE
    for number, (way, after) in enumerate(cuts, 4):
        forge.give(two.ours, register(two.ours, f"v{number}", BIG))
        for verb, place in (("push", two.ours), ("pull", two.theirs)):
            before = audit.read(place)[0].seq
            with cutting(proxy, endpoint, way, after) as url, monkeypatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", url)
                s3fs.S3FileSystem.clear_instance_cache()
                cut = kt(verb, at=place)
            assert cut.code in (0, 5), cut.err
            failed += [(verb, way)] if cut.code else []
            if cut.code:
                assert audit.read(place)[0].seq == before
                assert clean(place, kt)
            served_is_stored(two)
            again = kt(verb, at=place)
            assert again.code == 0, again.err
            served_is_stored(two)
        assert head(two.theirs) == head(two.ours)
        assert clean(two.theirs, kt)
    # what a pull sends is little: whether its answer comes before the reset is the kernel's choice
    assert set(failed) >= {("push", "up"), ("push", "down"), ("pull", "down")}

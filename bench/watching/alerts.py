"""Does an alert arrive once, whatever happens: a dead webhook, a full disk, a locked database, a clock set back?

    python bench/monitoring.py alerts      about a minute; a full disk needs root, who may mount one of 24 MB

Time is simulated, all else is real. Errors begin while the webhook is dead; then the disk is full for
five minutes, the tables are locked for one, the clock goes back an hour; then the webhook lives again
and the errors end. Ends with 1 where not exactly one message of each came.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import forge  # noqa: E402

from kt.deployments import audit  # noqa: E402
from kt.errors import KtError  # noqa: E402
from kt.monitors import check  # noqa: E402
from kt.monitors.live import live  # noqa: E402
from kt.monitors.sinks import webhook  # noqa: E402
from kt.store import connect, database  # noqa: E402
from kt.store.batch import Batch, Traffic  # noqa: E402
from kt.store.traffic import append  # noqa: E402
from kt.workspace import Workspace  # noqa: E402


class Receiver(BaseHTTPRequestHandler):
    got: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append(body["title"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


class Scene:
    """A workspace, the time of day in it, and what failed of its checks."""

    def __init__(self, root: Path, port: int) -> None:
        forge.workspace(root)
        hook = f'[[sink]]\nname = "webhook"\nurl = "http://127.0.0.1:{port}/"\n'
        hook += 'http = true\nallow = ["127.0.0.1"]\n'
        (root / "kt.toml").write_text(f'git = "off"\n{hook}')
        self.place = Workspace(root)
        self.now = datetime(2026, 11, 26, 6, tzinfo=UTC)
        self.number = 0
        self.failed: list[str] = []
        forge.give(self.place, forge.version(self.place, "m", "v1"))

    def minute(self, failed: int) -> None:
        """A minute of 100 answers, recorded as a predictor would and checked as cron would."""
        self.now += timedelta(minutes=1)
        at = int(self.now.timestamp()) // 60
        (who,) = live(audit.read(self.place)[1])
        traffic = Traffic(assigned=100, served=100 - failed, failed=failed)
        batch = Batch({who.stream.id: who.stream}, {(who.stream.id, at - 1): traffic})
        self.number += 1
        with suppress(KtError):  # a predictor keeps it and tries again
            store = connect.open(self.place.root, self.place.settings)
            append(store, "bench", self.number, batch, at)
        try:
            check.check(self.place, self.now)
        except KtError as error:
            self.failed.append(str(error))

    def minutes(self, n: int, failed: int = 0) -> None:
        for _ in range(n):
            self.minute(failed)


@contextmanager
def disk() -> Iterator[tuple[Path, bool]]:
    """A folder on a disk of its own, and whether it could be had."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    own = shutil.which("mount") is not None and not subprocess.run(mount).returncode
    try:
        yield folder, own
    finally:
        if own:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def fill(folder: Path) -> None:
    with (folder / "big").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def main() -> int:
    webhook.WAIT = 0.01
    database.WAIT = 0.2
    server = HTTPServer(("127.0.0.1", 0), Receiver, bind_and_activate=False)
    server.server_bind()  # nobody listens yet
    with disk() as (folder, own):
        scene = Scene(folder / "w", server.server_address[1])
        scene.minutes(5)
        scene.minutes(6, failed=50)
        said(scene, "the webhook is dead")
        if own:
            fill(folder)
            scene.minutes(5, failed=50)
            (folder / "big").unlink()
        said(scene, "the disk was full" if own else "no full disk: that needs root")
        holder = sqlite3.connect(folder / "w" / "kt.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        scene.minutes(1, failed=50)
        holder.close()
        said(scene, "the tables were locked")
        scene.now -= timedelta(hours=1)
        scene.minutes(10, failed=50)
        said(scene, "the clock went back an hour")
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        scene.minutes(20, failed=50)
        said(scene, "the webhook lives")
        scene.now += timedelta(minutes=40)
        scene.minutes(15)
        said(scene, "the errors ended")
    for title in Receiver.got:
        print(title)
    kinds = [title.partition(" ")[0] for title in Receiver.got]
    return kinds != ["CRITICAL", "RESOLVED"]


def said(scene: Scene, what: str) -> None:
    print(f"{what:<32} told {len(Receiver.got)}, checks that failed {len(scene.failed)}")


if __name__ == "__main__":
    sys.exit(main())

"""Where alerts are told: each file is a sink, bounded in time, and none leads into the own network by surprise."""

import hashlib
import hmac
import itertools
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kt import plugins
from kt.errors import Invalid, KtError, Refused, Unavailable
from kt.monitors import message as messages
from kt.monitors import outgoing, secret
from kt.monitors.alerts import Item
from kt.monitors.events import Ended, Opened
from kt.monitors.sinks import command, email, file, log, webhook

FOLDER = "monitors.sinks"
TIME = "2026-11-26T06:00:00Z"


def opened(metric: str = "accuracy", severity: Any = "critical", model: str = "m") -> Opened:
    return Opened(
        seq=4, at=TIME, by="kt", prev="a" * 64, model=model, metric=metric, version="v1", variant="active",
        deployment=1, severity=severity, value=0.7124, level=0.75, n=1540,
    )  # fmt: skip


ALERT = Item("opened", opened())
END = Ended(
    seq=5, at=TIME, by="kt", prev="a" * 64, model="m", metric="accuracy", kind="resolved", alert=4,
    value=0.81,
)  # fmt: skip


def message(*items: Item) -> messages.Message:
    return messages.grouped(items or [ALERT], TIME)[0]


@pytest.mark.parametrize("name", plugins.names(FOLDER))
def test_every_file_is_a_sink(name: str, tmp_path: Path) -> None:
    module = plugins.load(FOLDER, name, tmp_path, ("Settings", "send"))
    assert module.__doc__
    with pytest.raises(ValueError, match="extra"):
        module.Settings.model_validate({"nobody_knows_this": 1})


def test_a_message_says_what_where_and_how_much() -> None:
    assert message().title == "CRITICAL m@v1: accuracy 0.712"
    assert message().text.endswith("(alert 0.750): 0.712 at 2026-11-26T06:00:00Z, n = 1,540")
    over = message(Item("resolved", opened(), END))
    assert over.title == "RESOLVED m@v1: accuracy 0.810 resolved"
    document = message().document()
    assert document["severity"] == "critical"
    assert document["alerts"][0]["id"] == 4
    assert json.loads(json.dumps(document)) == document


def test_one_message_tells_all_that_one_check_found_of_a_deployment() -> None:
    slow = Item("opened", opened("latency", "warning"))
    other = Item("opened", opened(model="n"))
    found = messages.grouped([slow, other, ALERT], TIME)
    assert [one.title for one in found] == [
        "CRITICAL m@v1: latency 0.712 ms; accuracy 0.712",
        "CRITICAL n@v1: accuracy 0.712",
    ]
    assert found[0].key != found[1].key or found[0].model != found[1].model


def test_nobodys_name_begins_a_line_or_moves_a_cursor() -> None:
    nasty = message(Item("opened", opened("drift_a\n\x1b[2JCRITICAL\u202e")))
    assert "\x1b" not in nasty.text
    assert "\u202e" not in nasty.text
    assert nasty.text.count("\n") == 1


def test_log_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log.send(message(), log.Settings(), tmp_path)
    assert capsys.readouterr().err == f"kt: {TIME} CRITICAL m@v1: accuracy 0.712\n"


def test_a_line_is_on_the_disk_when_it_counts_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[Path]()
    named = Path("/proc/self/fd")
    monkeypatch.setattr(os, "fsync", lambda one: synced.append((named / str(one)).readlink()))
    file.send(message(), file.Settings(path="a.jsonl"), tmp_path)
    assert synced == [tmp_path / "a.jsonl", tmp_path]


def test_file_appends_lines_and_never_glues_one_to_a_torn_one(tmp_path: Path) -> None:
    settings = file.Settings(path="a.jsonl")
    file.send(message(), settings, tmp_path)
    path = tmp_path / "a.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as torn:
        torn.write(b'{"half":')
    file.send(message(), settings, tmp_path)
    first, _, last = path.read_text().splitlines()
    assert json.loads(first) == json.loads(last) == message().document()
    with pytest.raises(Unavailable, match="cannot write"):
        file.send(message(), file.Settings(path="no/such/folder"), tmp_path)


def test_command_gets_json_and_no_shell(tmp_path: Path) -> None:
    code = "import sys; open('got', 'w').write(sys.stdin.read() + sys.argv[1])"
    command.send(
        message(), command.Settings(command=[sys.executable, "-c", code, "$(id)"]), tmp_path
    )
    assert (tmp_path / "got").read_text() == json.dumps(
        message().document(), separators=(",", ":"), ensure_ascii=False
    ) + "$(id)"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import sys; print('no route', file=sys.stderr); sys.exit(3)", "exited 3: no route"),
        ("import time; time.sleep(60)", "took over 0.5 s"),
        ("import os, time; os.fork() or time.sleep(60); time.sleep(60)", "took over 0.5 s"),
    ],
)
def test_a_command_that_fails_or_hangs_is_named_and_ended(
    code: str, what: str, tmp_path: Path
) -> None:
    settings = command.Settings(command=[sys.executable, "-c", code], timeout=0.5)
    if "exit" in code:
        settings.timeout = 20
    with pytest.raises(Unavailable, match=what):
        command.send(message(), settings, tmp_path)
    with pytest.raises(Invalid, match="cannot run /no/such"):
        command.send(message(), command.Settings(command=["/no/such"]), tmp_path)


class Receiver(BaseHTTPRequestHandler):
    status = 200
    got: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((dict(self.headers), body))
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(b"x" * 100_000)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    got: list[tuple[dict[str, str], bytes]] = []
    handler = type("Handler", (Receiver,), {"status": status, "got": got})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook?a=1", got
        finally:
            server.shutdown()
            thread.join()


def local(url: str, **more: Any) -> webhook.Settings:
    return webhook.Settings(url=url, http=True, allow=["127.0.0.0/8"], **more)


def test_webhook_posts_signed_json_that_slack_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    with receiver() as (url, got):
        webhook.send(message(), local(url, secret="env:HOOK_SECRET"), tmp_path)
    ((headers, body),) = got
    assert json.loads(body)["text"].startswith("CRITICAL m@v1")
    signed = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Kt-Signature"] == f"sha256={signed}"
    assert headers["Host"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("status", "tries", "kind"), [(500, 3, Unavailable), (302, 1, Refused), (404, 1, Refused)]
)
def test_webhook_tries_three_times_and_follows_no_redirect(
    status: int, tries: int, kind: type[KtError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "WAIT", 0.0)
    with receiver(status) as (url, got), pytest.raises(kind, match=str(status)):
        webhook.send(message(), local(url), tmp_path)
    assert len(got) == tries


def test_webhook_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "WAIT", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1: Connection refused"):
        webhook.send(message(), local(f"http://127.0.0.1:{port}/"), tmp_path)


def drip(connection: socket.socket) -> None:
    """A byte of the answer now and then: never too slow for a socket's own time-out."""
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(ord("x"))):
        connection.send(bytes([byte]))
        time.sleep(0.05)


def silence(connection: socket.socket) -> None:
    while connection.recv(1_000):  # until the other side gives up
        pass


@pytest.mark.parametrize("behave", [drip, silence])
def test_a_webhook_that_is_slow_is_cut_off(
    behave: Callable[[socket.socket], None], tmp_path: Path
) -> None:
    class Slow(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                behave(self.request)
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        to = outgoing.target(
            f"http://127.0.0.1:{server.server_address[1]}/", ["127.0.0.1"], plain=True
        )
        # neither of them ever comes to an end: what is not cut off does not come back
        with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
            outgoing.post(to, b"{}", {}, 0.5)
        server.shutdown()


OWN = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254",
    "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]",
    "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[ff02::1]", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
def test_an_address_of_the_own_network_is_refused(host: str) -> None:
    with pytest.raises((Refused, Unavailable)) as error:
        outgoing.target(f"https://{host}/hook")
    if isinstance(error.value, Refused):
        assert "own machine or network" in error.value.what


@pytest.mark.parametrize(
    "url",
    ["", "hook", "ftp://example.org/", "file:///etc/passwd", "https://", "https://a:b@example.org/",
     "https://[::1", "https://example.org:99999/", "https:///path"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        outgoing.target(url)


def test_http_needs_to_be_allowed() -> None:
    with pytest.raises(Refused, match="http is not allowed"):
        outgoing.target("http://93.184.216.34/")


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that leads to the world when it is checked and home when it is used leads to the world."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 443))]

    def connect(address: tuple[str, int], *_: object) -> socket.socket:
        assert address == ("93.184.216.34", 443)
        raise OSError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unavailable):
        outgoing.post(outgoing.target("https://hook.example.org/x"), b"", {})
    assert asked == ["hook.example.org"]


def test_every_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (host, 443)) for host in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(Refused, match=r"is 10\.0\.0\.1"):
        outgoing.target("https://hook.example.org/")
    assert outgoing.target("https://hook.example.org/", ["10.0.0.0/8"]).address == "93.184.216.34"


class Mail(socketserver.StreamRequestHandler):
    """As much of a mail server as a client of it needs."""

    got: list[str]

    def handle(self) -> None:
        say = self.wfile.write
        say(b"220 here\r\n")
        while line := self.rfile.readline().strip():
            if line.lower() == b"data":
                say(b"354 go on\r\n")
                text = b""
                while not text.endswith(b"\r\n.\r\n"):
                    text += self.rfile.readline()
                self.got.append(text.decode())
            if line.lower() == b"quit":
                say(b"221 bye\r\n")
                return
            say(b"250 yes\r\n")


def test_email_is_sent_and_two_of_the_same_are_one(tmp_path: Path) -> None:
    got: list[str] = []
    handler = type("Handler", (Mail,), {"got": got})
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        settings = email.Settings(
            host="127.0.0.1", port=server.server_address[1], tls="none", sender="kt@example.org",
            to=["ana@example.org"],
        )  # fmt: skip
        email.send(message(), settings, tmp_path)
        email.send(message(), settings, tmp_path)
        server.shutdown()
    assert "Subject: CRITICAL m@v1: accuracy 0.712" in got[0]
    assert "\nDate: " in got[0]
    known = [line for text in got for line in text.splitlines() if line.startswith("Message-ID")]
    assert known[0] == known[1]
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1: "):
        email.send(message(), settings, tmp_path)


def test_a_secret_is_named_in_kt_toml_and_never_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="env:NAME or file:PATH"):
        webhook.Settings(url="https://example.org/", secret="hunter2")
    monkeypatch.setenv("KT_HOOK", " abc \n")
    assert secret.read("env:KT_HOOK", tmp_path) == "abc"
    with pytest.raises(Invalid, match="the variable KT_NOTHING is not set"):
        secret.read("env:KT_NOTHING", tmp_path)
    path = tmp_path / "hook"
    path.write_text("abc\n")
    path.chmod(0o640)
    with pytest.raises(Refused, match="others may read this secret"):
        secret.read("file:hook", tmp_path)
    path.chmod(0o600)
    assert secret.read("file:hook", tmp_path) == "abc"
    with pytest.raises(Unavailable, match="No such file"):
        secret.read("file:nothing", tmp_path)

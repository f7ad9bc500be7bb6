"""Messages on their way to the sinks: kept in the tables until they are told, each sink's in order.

A message is claimed for a while before it is sent and removed after: whoever is killed between the two
leaves it to be sent once more, and never loses it. What fails is tried again, later each time. Sinks do
not wait for each other: each has a thread of its own.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from kt import plugins
from kt.config import Plugin
from kt.errors import Invalid, KtError
from kt.monitors import message as messages
from kt.monitors.message import Message
from kt.store import notices
from kt.store.database import Store
from kt.store.notices import Notice
from kt.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy import Connection

FOLDER = "monitors.sinks"
HOLDS = ("Settings", "send")
CLAIM = 60  # seconds that a message is one process's to send, at least
LATER = 60  # seconds until it is tried again, twice as many each time
LATEST = 900  # seconds, at most
KEEP = 7 * 86_400  # seconds: what nobody took until then is given up


@dataclass(frozen=True)
class Sink:
    """A `[[sink]]` of kt.toml. name: its plugin's, numbered where there are several of it."""

    name: str
    plugin: Any
    settings: BaseModel

    @property
    def claim(self) -> int:
        """Seconds that it may take to send a message."""
        return max(CLAIM, 4 * int(getattr(self.settings, "timeout", 0)))


@dataclass(frozen=True)
class Waiting:
    """Messages that a sink has not taken. since: seconds; tries: of the oldest, and what it said last."""

    sink: str
    n: int
    since: float
    tries: int
    error: str


def sinks(workspace: Workspace) -> list[Sink]:
    """Those of kt.toml, checked. Raises Invalid."""
    seen: Counter[str] = Counter()
    out = []
    for table in workspace.settings.sink:
        seen[table.name] += 1
        n = seen[table.name]
        out.append(sink(workspace, table, table.name if n == 1 else f"{table.name}-{n}"))
    return out


def sink(workspace: Workspace, table: Plugin, name: str) -> Sink:
    module = plugins.load(FOLDER, table.name, workspace.root, HOLDS)
    try:
        return Sink(name, module, module.Settings.model_validate(table.settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Invalid(
            f"sink {name}: {where}: {first['msg']}",
            where="kt.toml",
            do="mend it in kt.toml; see: kt config sink",
        ) from error


def put(connection: "Connection", known: Sequence[Sink], new: Sequence[Message], now: int) -> None:
    """Each message for each sink; what was for sinks that kt.toml names no more is forgotten."""
    names = [each.name for each in known]
    notices.forget(connection, names)
    notices.put(connection, names, [packed(one.document(), "") for one in new], now)


def packed(document: Mapping[str, Any], error: str) -> str:
    return json.dumps({"message": document, "error": error})


def deliver(
    store: Store, workspace: Workspace, known: Sequence[Sink], now: int, patience: float
) -> list[str]:
    """Send what is due, and wait so many seconds for it; what takes longer goes on by itself.

    The sinks that did not take theirs, each with the reason.
    """
    said: list[str] = []
    threads = [
        threading.Thread(target=drain, args=(store, workspace, each, now, said), daemon=True)
        for each in known
        if due(store, each, now)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return list(said)


def due(store: Store, to: Sink, now: int) -> Notice | None:
    """A sink's oldest message, if it is due. A time far ahead was set by a clock that was wrong."""
    one = notices.first(store, to.name)
    return None if one is None or now < one.due <= now + max(LATEST, to.claim) else one


def drain(store: Store, workspace: Workspace, to: Sink, now: int, said: list[str]) -> None:
    """Send a sink's messages, in order, as long as it takes them."""
    try:
        while (one := due(store, to, now)) and notices.claim(store, one, now + to.claim):
            document = json.loads(one.document)["message"]
            error = send(workspace, to, messages.load(document))
            if not error:
                notices.remove(store, one)
                continue
            said.append(f"{to.name}: {error}")
            if now - one.at > KEEP:
                notices.remove(store, one)
            else:
                later = now + min(LATEST, LATER * 2**one.tries)
                notices.put_off(store, one, later, packed(document, error))
            return
    except KtError as error:  # of the tables: what was sent is sent once more
        said.append(f"{to.name}: {error}")


def send(workspace: Workspace, to: Sink, one: Message) -> str:
    """What went wrong, empty where nothing did. A sink may be foreign code: whatever it raises is said."""
    try:
        to.plugin.send(one, to.settings, workspace.root)
    except Exception as error:  # noqa: BLE001  # as above
        return str(error)[:300] or type(error).__name__
    return ""


def waiting(store: Store) -> list[Waiting]:
    """What each sink has not taken yet."""
    out: dict[str, Waiting] = {}
    for one in notices.waiting(store):
        if one.sink in out:
            out[one.sink] = replace(out[one.sink], n=out[one.sink].n + 1)
        else:
            out[one.sink] = Waiting(
                one.sink, 1, one.at, one.tries, json.loads(one.document)["error"]
            )
    return list(out.values())

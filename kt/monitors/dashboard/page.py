"""The dashboard as HTML: one file that loads nothing, or a page that is served with its own style and script.

What is one file carries its policy with it, with the hashes of the style and the script in it; what is
served has it as a header (app.py). Names and reasons come from other people: they are escaped by the
template, and control and direction characters in them shown as escapes.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from kt import __version__
from kt.monitors.dashboard.facts import WINDOWS, Dashboard
from kt.monitors.dashboard.sections import section
from kt.monitors.dashboard.wording import COUNTS, WORDS, ago, measure, minute, shown

if TYPE_CHECKING:
    from jinja2 import Template

RENEW = 60  # seconds until a served page asks again


def one_file(of: Dashboard, window: str) -> str:
    """The whole page in one file, which opens from a disk and loads nothing."""
    style, script = asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{hashed(style)}'; script-src '{hashed(script)}';"
        " base-uri 'none'; form-action 'none'"
    )
    return page(of, [(window, True)], policy, Markup(style), Markup(script))  # noqa: S704  # our own files


def served(of: Dashboard, window: str) -> str:
    """The page as it is served, beside /page.css and /page.js."""
    return page(of, [(name, name == window) for name in WINDOWS])


def page(
    of: Dashboard,
    windows: Sequence[tuple[str, bool]],
    policy: str = "",
    style: str = "",
    script: str = "",
) -> str:
    text: str = template().render(
        of=of,
        windows=windows,
        policy=policy,
        style=style,
        script=script,
        version=__version__,
        renew=RENEW,
        fresh=freshness(of),
        open=[one for one in of.alerts if one.until is None],
        past=[one for one in of.alerts if one.until is not None],
        models=[section(of, model, place) for place, model in enumerate(of.models, 1)],
        counts=[(COUNTS.get(name, name), n) for name, n in sorted(of.counts.items()) if n],
    )
    return text


@cache
def template() -> "Template":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    env = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "words": lambda status: WORDS.get(status, status),
        "time": minute,
        "ago": ago,
        "shown": shown,
        "title_of": lambda metric: measure(metric).title,
    }
    return env.get_template("page.html")


@cache
def asset(name: str) -> str:
    return resources.files("kt.monitors.dashboard").joinpath(name).read_text()


def hashed(text: str) -> str:
    """As a policy names a style or a script that may be in the page."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def printable(value: Any) -> Any:
    """A text without characters that move a cursor or turn a line around; Markup is ours, and stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value
    )


def freshness(of: Dashboard) -> str:
    recorded = (
        f"Newest request recorded {ago(of.last, of.at)} ago" if of.last else "No request recorded"
    )
    return f"{recorded}; " + (
        f"judged {ago(of.checked, of.at)} ago." if of.checked else "not judged yet."
    )

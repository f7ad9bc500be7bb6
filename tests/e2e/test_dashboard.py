"""The dashboard in a browser: no error and nothing blocked, on a phone, in the dark, by keyboard alone."""

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import boards
import pytest
from conftest import Kt

from kt.monitors.dashboard import app, page
from kt.monitors.dashboard.facts import Dashboard

pytest.importorskip("vl_convert", reason="the charts need it: pip install 'kt[dashboard]'")
webdriver = pytest.importorskip("selenium.webdriver", reason="it drives the browser")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium and chromedriver"),
]

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Browser:
    """Chromium, with what these tests ask of it."""

    def __init__(self, profile: Path) -> None:
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, url: str, width: int = 1280, *, dark: bool = False) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get_log("browser")
        self.driver.get(url)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def fits(self) -> bool:
        """Whether there is nothing beside the window to scroll to."""
        page = "document.documentElement"
        return bool(self.run(f"{page}.scrollWidth <= {page}.clientWidth"))

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def tree(self) -> list[dict[str, Any]]:
        """What a screen reader meets: (role, name) of all that is not ignored."""
        self.driver.execute_cdp_cmd("Accessibility.enable", {})
        nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                "description": node.get("description", {}).get("value", ""),
            }
            for node in nodes
            if not node["ignored"]
        ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("page"), boards.busy(random.Random(1)))


def saved(folder: Path, facts: Dashboard) -> str:
    path = folder / "page.html"
    path.write_text(page.one_file(facts, "7d"))
    return path.as_uri()


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[str, list[Dashboard]]]:
    """An address, and the facts that are shown there: they may be changed."""
    facts = [boards.busy(random.Random(1))]

    def look(_: str) -> Dashboard:
        return replace(facts[0])

    service: Any = app.create_app(look)
    with make_server("127.0.0.1", 0, service, WSGIServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", facts
        server.shutdown()
        thread.join()


def test_a_file_shows_everything_without_an_error(browser: Browser, busy: str) -> None:
    browser.open(busy)
    assert browser.errors() == []
    assert browser.run("document.querySelectorAll('figure svg path').length") > 50
    # the style in the page is in force, and so is the script
    assert browser.run("getComputedStyle(document.querySelector('.charts')).display") == "grid"
    assert browser.run("document.querySelector('.plot').tabIndex") == 0


@pytest.mark.parametrize("facts", [boards.NOTHING, boards.deployed()])
def test_an_empty_page_has_no_error_either(
    browser: Browser, tmp_path: Path, facts: Dashboard
) -> None:
    for width in (390, 1280):
        browser.open(saved(tmp_path, facts), width)
        assert browser.errors() == []
        assert browser.run("document.querySelectorAll('.empty').length") >= 3
        assert browser.fits()


def test_what_others_have_written_does_not_run(browser: Browser, tmp_path: Path) -> None:
    facts = boards.busy(random.Random(1), model=boards.EVIL, reason=boards.EVIL)
    facts = replace(facts, workspace=boards.EVIL, attention=(boards.EVIL,))
    browser.open(saved(tmp_path, facts), 390)
    assert browser.errors() == []
    assert browser.run("document.images.length") == 0
    assert "onerror=alert(1)" in browser.run("document.querySelector('h1').textContent")
    assert browser.fits()


@pytest.mark.parametrize("width", [320, 390, 768, 1920])
def test_a_page_is_never_wider_than_its_window(browser: Browser, busy: str, width: int) -> None:
    browser.open(busy, width)
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.fits()


# of what is drawn on the cards and of what is written on them
CONTRAST = """(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parse(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parse(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const worst = [];
  for (const element of document.querySelectorAll("h1, h2, h3, h4, p, dt, dd, .badge, summary, b, figure text")) {
    const style = getComputedStyle(element);
    const colour = element.matches("text") ? style.fill : style.color;
    const [a, b] = [light(colour), light(behind(element.closest("div, p, li, figure, body")))];
    worst.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.slice(0, 40), colour]);
  }
  return worst.sort((one, other) => one[0] - other[0])[0];
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_by_day_and_by_night(browser: Browser, busy: str, dark: bool) -> None:
    browser.open(busy, dark=dark)
    red, *_ = browser.run(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red < 60) == dark
    contrast, *what = browser.run(CONTRAST)
    assert contrast >= 4.5, what  # WCAG 2.2, AA


def test_the_keyboard_reaches_and_reads_every_chart(browser: Browser, busy: str) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(busy)
    stops = []
    for _ in range(80):
        browser.press(Keys.TAB)
        stop = browser.run(
            "[document.activeElement.className, document.activeElement.tagName,"
            " document.activeElement.closest('figure')?.id]"
        )
        if stop[1] == "BODY":
            break
        stops.append(stop)
    charts = browser.run("[...document.querySelectorAll('figure')].map(each => each.id)")
    assert [figure for name, _, figure in stops if name == "plot"] == charts
    assert [figure for _, tag, figure in stops if tag == "SUMMARY" and figure] == charts

    browser.run("document.querySelector('#m1-4 .plot').focus()")  # accuracy
    told = "document.querySelector('#m1-4 .readout').textContent"
    browser.press(Keys.HOME)
    first = browser.run(told)
    assert first.startswith("19 Nov 07:00 · active ")
    browser.press(Keys.ARROW_RIGHT)
    assert browser.run(told).startswith("19 Nov 08:00 · active ")
    browser.press(Keys.END)
    assert "treatment" in browser.run(told)
    assert browser.run("document.querySelectorAll('.cursor').length") == 1
    browser.press(Keys.TAB)
    browser.press(Keys.ENTER)
    assert browser.run("document.querySelector('#m1-4-numbers').open")
    assert browser.run("document.querySelectorAll('.cursor').length") == 0
    assert browser.errors() == []


def test_a_pointer_reads_the_point_that_is_nearest(browser: Browser, busy: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.open(busy)
    plot = browser.driver.find_element("css selector", "#m1-4 .plot")
    browser.run("document.querySelector('#m1-4').scrollIntoView({block: 'center'})")
    half = browser.run("document.querySelector('#m1-4 svg').getBoundingClientRect().width / 2")
    # the middle of the plot lies right of the picture's own, which has the axis at its left
    ActionChains(browser.driver).move_to_element_with_offset(
        plot, int(half * 32 / 390), 0
    ).perform()
    assert browser.run("document.querySelector('#m1-4 .readout').textContent").startswith("22 Nov")


def test_everything_that_can_be_met_has_a_name(browser: Browser, busy: str) -> None:
    browser.open(busy)
    nodes = browser.tree()
    pictures = [node for node in nodes if node["role"] in ("image", "img")]
    assert len(pictures) == 13
    for node in nodes:
        if node["role"] in (
            "image",
            "img",
            "link",
            "button",
            "region",
            "navigation",
            "heading",
            "group",
            "table",
        ):
            assert node["name"] or node["role"] in ("group", "table"), node
    accuracy = next(node for node in pictures if node["name"] == "Accuracy")
    assert "Degraded below 80 %" in accuracy["description"]
    assert "treatment v5: from " in accuracy["description"]
    assert browser.run("document.documentElement.lang") == "en"


def test_a_served_page_passes_its_policy_and_renews_itself(
    browser: Browser, served: tuple[str, list[Dashboard]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, facts = served
    monkeypatch.setattr(app, "FRESH", 0.0)
    browser.open(url)
    assert browser.errors() == []
    browser.run("document.querySelector('#m1-4-numbers').open = true")
    browser.run("document.querySelector('#m1-5 .plot').focus()")
    facts[0] = replace(facts[0], workspace="renewed")
    browser.driver.execute_async_script("renew().then(arguments[0])")
    assert browser.run("document.querySelector('h1').textContent") == "renewed"
    assert browser.run("document.title").startswith("renewed")
    assert browser.run("document.querySelector('#m1-4-numbers').open")
    assert browser.run("document.activeElement.closest('figure').id") == "m1-5"
    assert browser.run("document.activeElement.className") == "plot"
    assert browser.errors() == []
    browser.driver.find_element("link text", "24h").click()
    assert browser.run("document.querySelector('[aria-current]').textContent") == "24h"
    assert browser.errors() == []


def test_the_page_is_written_and_served_by_the_command(
    kt: Kt, tmp_path: Path, browser: Browser
) -> None:
    """In a workspace where nothing is deployed yet."""
    assert kt("init", str(tmp_path / "w")).code == 0
    out = tmp_path / "page.html"
    assert kt("dashboard", "--out", str(out), at=tmp_path / "w").code == 0
    browser.open(out.as_uri())
    assert "Nothing is deployed yet" in browser.run("document.body.textContent")
    assert browser.errors() == []
    command = [sys.executable, "-m", "kt", "dashboard", "--serve", "--port", "0", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path / "w", stdout=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout
        address = json.loads(serving.stdout.readline())["result"]["address"]
        browser.open(address)
        assert "Nothing is deployed yet" in browser.run("document.body.textContent")
        assert browser.errors() == []
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=30) == 0

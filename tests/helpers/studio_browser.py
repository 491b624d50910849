"""Serve the studio on a free port of this machine, and look at it with a real browser."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import uvicorn

from helpers.sampling import sampled
from ltxplugins.studio.app import make_app
from ltxplugins.studio.safety import Admission
from ltxplugins.studio.serve import _listen
from ltxplugins.studio.workspace import Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {1280: 800, 390: 844}
"""The widths that every screen is looked at, in CSS pixels, with their heights."""
LOOKS = sampled([(width, colours) for width in WIDTHS for colours in ("light", "dark")], 2, lambda look: look)
"""Widths with colors, of which every run of the tests takes each width and each color."""
TOKEN = "a-token-of-the-tests"

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@attrs.frozen
class Served:
    """A studio that is served.

    Attributes:
        address: such as "http://127.0.0.1:41234".
        app: the application, whose `state.studio` is the studio.
    """

    address: str
    app: Any

    @property
    def entrance(self) -> str:
        """The address that admits a browser."""
        return f"{self.address}/?token={TOKEN}"

    @property
    def cookies(self) -> dict[str, str]:
        return {f"ltx_studio_{self.address.rpartition(':')[2]}": TOKEN}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve the studio of a folder from a thread of this process."""
    listening = _listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = make_app(Workspace(folder), Admission(TOKEN, port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start a headless Chromium, and return its Playwright browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Any, studio: Served, width: int = 1280, refused: str = "", **context: Any) -> Iterator[Any]:
    """Open a page that the studio admits, and show at its end that the browser's console had no error to report.

    Args:
        browser: the browser.
        studio: the studio that is served.
        width: of the window, one of `WIDTHS`.
        refused: the status of the requests that the studio refuses in this test, such as "409"; "" for none.
        context: what Playwright's `new_context` takes, such as color_scheme.
    """
    errors: list[str] = []

    def is_refusal(text: str) -> bool:
        return bool(refused) and f"status of {refused}" in text

    window = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, **context)
    page = window.new_page()
    page.set_default_timeout(60_000)  # the machine may be busy
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" and not is_refusal(message.text) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(studio.entrance)
    try:
        yield page
        assert errors == []
    finally:
        window.close()


OUTSIDE = """() => [...document.querySelectorAll("main :is(input, select, textarea, button, a.button)")].filter((control) => {
  const own = control.getBoundingClientRect(), frame = control.closest("fieldset, .card, main").getBoundingClientRect();
  return own.width && control.checkVisibility() && own.right > frame.right + 1;
}).map((control) => control.outerHTML.slice(0, 120))"""
"""JavaScript that returns the controls that reach beyond the fieldset, the card or the page that they are in."""


def faults(page: Any) -> list[str]:
    """Return what axe-core finds wrong with a page, whether the page is wider than its window, and which controls stick out of their frame.

    Each is one line: the rule, what it asks for, and the elements.
    """
    from axe_playwright_python.sync_playwright import Axe

    found = [
        f"{each['id']}: {each['help']}: {'; '.join(node['html'][:120] for node in each['nodes'][:5])}"
        for each in Axe().run(page).response["violations"]
    ]
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    outside = [f"sticks out of its frame: {html}" for html in page.evaluate(OUTSIDE)]
    return [*found, *([f"the page is {wide} pixels wider than its window"] if wide > 0 else []), *outside]

"""The screens as a browser shows them: every one at both widths, light and dark, without an error and without a fault that axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.studio_browser import LOOKS, Served, faults, needs_browser, opened, served
from ltxplugins.studio.screens import SCREENS

pytestmark = needs_browser


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("empty")) as studio:
        yield studio


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_every_screen_of_an_empty_folder_is_readable(browser: Any, empty: Served, width: int, colours: str) -> None:
    with opened(browser, empty, width, color_scheme=colours) as page:
        for screen in SCREENS:
            page.goto(f"{empty.address}/{screen.name}")
            assert page.locator("h1").count() == 1
            assert page.locator("nav [aria-current=page]").inner_text() == screen.title
            assert faults(page) == [], screen.name


def test_the_colours_that_one_chooses_stay(browser: Any, empty: Served) -> None:
    with opened(browser, empty, color_scheme="light") as page:
        page.get_by_role("button", name="Dark or light").click()
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_the_keyboard_alone_reaches_every_screen(browser: Any, empty: Served) -> None:
    with opened(browser, empty) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        for screen in SCREENS:
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == screen.title
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{SCREENS[-1].name}")

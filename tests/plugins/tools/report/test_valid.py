"""The page is valid HTML: by a strict parser, and by the rules of content that the elements of ltx's pages have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import pytest
from PIL import Image

from helpers.made_run import HOSTILE, STEPS, made_run, media, metrics
from ltxplugins.tools.report.markup import tag
from ltxplugins.tools.report.write import write_report

PHRASING = frozenset(["a", "audio", "br", "button", "code", "i", "img", "script", "small", "span", "strong", "svg", "text", "video"])
"""Elements of our pages that stand within a line."""

PHRASING_ONLY = frozenset(["a", "button", "code", "h1", "h2", "h3", "i", "p", "pre", "small", "span", "summary", "strong"])
INTERACTIVE = frozenset({"a", "button", "details", "audio", "video"})
CHILDREN = {
    "table": {"thead", "tbody", "tr"},
    "thead": {"tr"},
    "tbody": {"tr"},
    "tr": {"th", "td"},
    "ul": {"li"},
    "html": {"head", "body"},
    "head": {"meta", "title", "style"},
}


def name_of(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def is_svg(element: Element) -> bool:
    return "svg" in str(element.tag).partition("}")[0]


def parsed(page: str) -> Element:
    """The document; a mistake that a browser would mend is an error."""
    return html5lib.HTMLParser(strict=True).parse(page)


def faults(root: Element) -> Iterator[str]:
    """What the standard forbids of what a parser takes."""
    ids: set[str] = set()
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        name, children = name_of(element), [name_of(child) for child in element if isinstance(child.tag, str)]
        if (told := element.get("id")) is not None:
            if told in ids or not told or any(map(str.isspace, told)):
                yield f"the id {told!r} is there twice, or none"
            ids.add(told)
        if is_svg(element):
            continue
        if name in CHILDREN and not set(children) <= CHILDREN[name]:
            yield f"{name} holds {children}"
        if name in PHRASING_ONLY and not set(children) <= PHRASING:
            yield f"{name} holds {children}"
        if name == "figure" and ("figcaption" in children[1:-1] or children.count("figcaption") > 1):
            yield f"figure holds {children}"
        if name == "details" and (children[:1] != ["summary"] or children.count("summary") > 1):
            yield f"details holds {children}"
        if name in ("a", "button") and any(name_of(inner) in INTERACTIVE for inner in element.iter() if inner is not element):
            yield f"{name} holds something to press"
        yield from labels(name, element)
    for element in root.iter():
        for key in ("href", "data-same"):
            told = (element.get(key) or "").removeprefix("#")
            if told and told not in ids:
                yield f"{key} points to {told}, which is not there"


def labels(name: str, element: Element) -> Iterator[str]:
    """What is missing for somebody who does not see the page, and attributes that an element must have."""
    if name == "img" and (element.get("alt") is None or not element.get("src")):
        yield f"an image without {'text' if element.get('src') else 'a source'}"
    if name in ("audio", "video") and not element.get("aria-label"):
        yield f"{name} without a name"
    if name == "button" and not "".join(element.itertext()).strip():
        yield "a button without a name"
    if name in ("h1", "h2", "h3", "title", "summary") and not "".join(element.itertext()).strip():
        yield f"an empty {name}"


def pages(folder: Path) -> Iterator[str]:
    """A page with all its parts, with pictures and names that try to break out; and pages of runs that have little."""
    full = folder / "a run"
    lines = media(full, ("a red disc", HOSTILE))
    for step in (0, STEPS):
        Image.new("RGB", (32, 32), "red").save(full / "samples" / f"step_{step:06d}_9.png")
        lines.append({"step": step, "sample": "a picture", "path": f"samples/step_{step:06d}_9.png"})
    yield write_report(made_run(full, lines=[*metrics(), *lines], preprocessing={"lora_trigger": HOSTILE})).read_text()
    # The first picture of all is shown twice: on the first screen, and in its row.
    yield write_report(made_run(folder / "pictures", lines=_of_pictures(folder / "pictures"))).read_text()
    yield write_report(made_run(folder / "begun", lines=[], status="running")).read_text()
    yield write_report(made_run(folder / "stopped", lines=metrics(3, held_out=()), status="stopped", training_strategy={})).read_text()


def _of_pictures(folder: Path) -> list[dict[str, object]]:
    (folder / "samples").mkdir(parents=True)
    for step in (0, STEPS):
        Image.new("RGB", (32, 32), "red").save(folder / "samples" / f"step_{step:06d}_1.png")
    drawn = [{"step": step, "sample": "a picture", "path": f"samples/step_{step:06d}_1.png"} for step in (0, STEPS)]
    return [*metrics(), *drawn]


def test_pages_are_valid_html(tmp_path: Path) -> None:
    for page in pages(tmp_path):
        assert list(faults(parsed(page))) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<figure><figcaption>a</figcaption><p>b</p></figure>", None),
        ("<figure><p>b</p><figcaption>a</figcaption><p>b</p></figure>", "figure holds ['p', 'figcaption', 'p']"),
        ("<div id=a></div><div id=a></div>", "the id 'a' is there twice, or none"),
        ("<img src=a>", "an image without text"),
        ("<img alt=a>", "an image without a source"),
        ("<h2><div>a</div></h2>", "h2 holds ['div']"),
        ("<button><a href='#b' id=b>a</a></button>", "button holds something to press"),
        ("<a href='#nowhere'>a</a>", "href points to nowhere, which is not there"),
    ],
)
def test_the_rules_find_what_they_are_for(body: str, fault: str | None) -> None:
    page = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>a</title></head><body>{body}</body></html>"
    assert list(faults(parsed(page))) == ([] if fault is None else [fault])


def test_what_a_browser_would_mend_is_not_valid() -> None:
    page = f"<!doctype html><html><head><title>a</title></head><body>{tag('p', tag('div', 'a'))}</body></html>"
    with pytest.raises(html5lib.html5parser.ParseError):
        parsed(page)

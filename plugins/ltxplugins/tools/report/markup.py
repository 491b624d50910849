"""HTML made of pieces: everything that is not markup already is escaped, so that no name, caption or path can become
part of the page's code.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

from ltxcore.api.commands import leaving

VOID = frozenset({"img", "meta", "br", "circle", "line", "path", "rect", "source"})
"""The elements without an end tag, and the SVG elements that have no content."""


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def text(content: object) -> Markup:
    """Turn anything into HTML, in the form in which it may leave the machine; markup is left as it is."""
    return content if isinstance(content, Markup) else Markup(html.escape(leaving(str(content))))


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: the name of the element.
        content: the content of the element; nothing for None.
        attributes: `class_` is written class, `data_step` data-step; left out where None or False, without a value where True.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in VOID and not content:
        return Markup(f"<{name}{written}>" if name in ("img", "meta", "br", "source") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Iterable[object], between: str = "") -> Markup:
    """Join pieces one after the other; None is skipped."""
    return Markup(text(between).join(text(piece) for piece in content if piece is not None))


def data(value: Any, /, **attributes: object) -> Markup:
    """Write a value for scripts to read. HTML escapes have no effect within a script element, so the characters that
    could end it are written as JSON escapes.
    """
    written = json.dumps(leaving(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Markup(written), type="application/json", **attributes)


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    said = str(value)
    return f' {name}="{html.escape(said if said.startswith("data:") else leaving(said), quote=True)}"'

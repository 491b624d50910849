"""Build HTML from pieces. Everything that is not already markup is escaped, so that no name, caption or path can become
part of the page's code.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

from ltxcore.api.commands import leaving

VOID = frozenset({"img", "meta", "br", "circle", "line", "path", "rect", "source"})
"""The elements without an end tag, and the SVG elements without content."""


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def text(content: object) -> Markup:
    """Turn any value into HTML, in a form that may leave the machine; markup does not change."""
    return content if isinstance(content, Markup) else Markup(html.escape(leaving(str(content))))


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: the name of the element.
        content: the pieces of the element's content; None is skipped.
        attributes: the attributes. `class_` is written as class, and `data_step` as data-step. None and False leave an
            attribute out, and True writes it without a value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in VOID and not content:
        return Markup(f"<{name}{written}>" if name in ("img", "meta", "br", "source") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Iterable[object], between: str = "") -> Markup:
    """Join pieces one after the other; None is skipped."""
    return Markup(text(between).join(text(piece) for piece in content if piece is not None))


def data(value: Any, /, **attributes: object) -> Markup:
    """Write a value for scripts to read. HTML escapes have no effect in a script element, so characters that could end
    the element are written as JSON escapes.
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

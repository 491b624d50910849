"""Read the kinds of values that a key of the old configuration may have, as leniently as ltx-trainer does.

Where a number is expected, ltx-trainer converts text to a number. This is why `1e-4`, which YAML 1.1 reads as text,
works as a learning rate. This module does the same. Where text is expected, it uses the text exactly as written, even
if YAML reads it as another type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api.config import described
from ltxplugins.tools.convert.tree import Items, Scalar, Table, Tree

TRUE, FALSE = {"true", "yes", "on", "y", "t", "1"}, {"false", "no", "off", "n", "f", "0"}

Kind = Callable[[Tree], Any]
"""A function that reads a value, or raises `Wrong`."""


@attrs.frozen
class Wrong(Exception):
    """An error for a value that is not of the expected kind.

    Attributes:
        what: what is wrong with the value.
        line: the line of the value in the file.
    """

    what: str
    line: int


def spoken(tree: Tree) -> str:
    """Describe a value for a message."""
    if isinstance(tree, Scalar):
        return "null" if tree.value is None else described(tree.text if isinstance(tree.value, str) else tree.value)
    if isinstance(tree, Table):
        return "a mapping"
    return "a list" if tree.values else "an empty list"


def is_null(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and tree.value is None


def _scalar(tree: Tree, wanted: str) -> Scalar:
    if not isinstance(tree, Scalar) or tree.value is None:
        raise Wrong(f"must be {wanted}, not {spoken(tree)}", tree.line)
    return tree


def number(tree: Tree) -> float:
    """Read a finite number, even if YAML reads it as text."""
    scalar = _scalar(tree, "a number")
    try:
        if isinstance(scalar.value, bool):
            raise ValueError
        value = float(scalar.value)
    except (ValueError, TypeError, OverflowError):
        raise Wrong(f"must be a number, not {spoken(tree)}", tree.line) from None
    if not math.isfinite(value):
        raise Wrong(f"must be a finite number, not {scalar.text}", tree.line)
    return value


def whole(tree: Tree) -> int:
    """Read a whole number; `2000.0` is also accepted."""
    scalar = _scalar(tree, "a whole number")
    if isinstance(scalar.value, int) and not isinstance(scalar.value, bool):
        return scalar.value
    try:
        value = number(tree)
    except Wrong:
        value = math.nan
    if math.isnan(value) or value != math.floor(value):
        raise Wrong(f"must be a whole number, not {spoken(tree)}", tree.line)
    return int(value)


def steps(tree: Tree) -> int | float:
    """Read a number of steps, or a share of all steps: below 1, or with a percent sign."""
    scalar = _scalar(tree, "a number of steps")
    if scalar.text.endswith("%"):
        return number(Scalar(scalar.line, scalar.text[:-1], scalar.text[:-1])) / 100
    value = number(tree)
    return int(value) if value == int(value) else value


def truth(tree: Tree) -> bool:
    """Read a truth value, written in any way that YAML or ltx-trainer accepts."""
    scalar = _scalar(tree, "true or false")
    word = scalar.text.strip().lower()
    if word not in TRUE | FALSE:
        raise Wrong(f"must be true or false, not {spoken(tree)}", tree.line)
    return word in TRUE


def text(tree: Tree) -> str:
    """Read text as it was written: `no` is "no", not false."""
    return _scalar(tree, "text").text


def choice(*names: str) -> Kind:
    """Return a kind that reads one of several words."""
    wanted = " or ".join(f'"{name}"' for name in names)

    def read(tree: Tree) -> str:
        scalar = _scalar(tree, wanted)
        if scalar.text not in names:
            raise Wrong(f"must be {wanted}, not {spoken(tree)}", tree.line)
        return scalar.text

    return read


def many(kind: Kind, length: int | None = None) -> Kind:
    """Return a kind that reads a list, of a fixed length if `length` is given."""

    def read(tree: Tree) -> list[Any]:
        if not isinstance(tree, Items):
            raise Wrong(f"must be a list, not {spoken(tree)}", tree.line)
        if length is not None and len(tree.values) != length:
            raise Wrong(f"must be a list of {length}, not of {len(tree.values)}", tree.line)
        return [kind(inner) for inner in tree.values]

    return read


def path(tree: Tree) -> Path:
    """Read a path."""
    found = _scalar(tree, "a path").text
    if not found:
        raise Wrong("is an empty path", tree.line)
    return Path(found)


def plain(tree: Tree) -> Any:
    """Read any value as YAML does, but convert text that spells a number to this number."""
    if isinstance(tree, Table):
        return {key: plain(inner) for key, inner in tree.values.items()}
    if isinstance(tree, Items):
        return [plain(inner) for inner in tree.values]
    try:
        return whole(tree)
    except Wrong:
        pass
    try:
        return number(tree)
    except Wrong:
        return tree.value if isinstance(tree.value, (bool, type(None))) else tree.text

"""How a table of the run file declares a key: its default, its range, its unit, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

Finding = tuple[tuple[str | int, ...], str, str]
"""What `problems()` of a table lists: key path inside the table, what is wrong, and the remedy."""

Reads = Literal["file", "folder", "either"]


@attrs.frozen
class Bounds:
    """A range that a number, or every number of a list, must lie in. None is always in range."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __call__(self, _: Any, field: attrs.Attribute[Any], value: Any) -> None:
        for number in value if isinstance(value, (list, tuple)) else [value]:
            fault = self.fault(number)
            if fault:
                raise ValueError(f"{fault}, not {number}")

    def fault(self, number: Any) -> str:
        """What `number` must be and is not; empty if it is in range, or is no number."""
        if not isinstance(number, (int, float)):
            return ""
        if self.at_least is not None and not number >= self.at_least:
            return f"must be at least {_shown(self.at_least)}"
        if self.above is not None and not number > self.above:
            return f"must be above {_shown(self.above)}"
        if self.at_most is not None and not number <= self.at_most:
            return f"must be at most {_shown(self.at_most)}"
        if self.below is not None and not number < self.below:
            return f"must be below {_shown(self.below)}"
        return ""


def _shown(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def key(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    unit: str = "",
    factory: Any = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    reads: Reads | None = None,
    refused: Mapping[str, tuple[str, str]] | None = None,
) -> Any:
    """A key of a table.

    Args:
        default: its value when the file does not say; without one (and without `factory`) the key is required.
        help: what it is for, one line.
        unit: of its number: "pixels", "seconds", "latent frames", ...
        factory: makes the default.
        at_least, above, at_most, below: its range.
        reads: the key names an input that must exist: a file, a folder, or either.
        refused: texts that are none of its values, but asked for elsewhere: why each is none, and the remedy.
    """
    bounds = Bounds(at_least, above, at_most, below)
    validator = bounds if bounds != Bounds() else None
    metadata = {name: value for name, value in (("help", help), ("unit", unit), ("reads", reads), ("refused", refused)) if value}
    if factory is not None:
        return attrs.field(factory=factory, validator=validator, metadata=metadata)
    return attrs.field(default=default, validator=validator, metadata=metadata)


def filled(default: Any = None) -> Any:
    """A field that is no key: structuring fills it in."""
    return attrs.field(default=default, metadata={"filled": True})


def is_key(field: attrs.Attribute[Any]) -> bool:
    """Whether a field of a table is a key of the run file."""
    return field.init and not field.metadata.get("filled", False)

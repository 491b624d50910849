"""What was found wrong, told once with where it shows."""

from __future__ import annotations

import re

import attrs

from ltxcore.errors import listed


@attrs.define
class Findings:
    """Faults of one plugin, in the order they were found: by their text without numbers, the first text, and where it shows."""

    faults: dict[str, tuple[str, list[str]]] = attrs.field(factory=dict)

    def note(self, fault: str, label: str = "") -> None:
        """Write a fault down; the same fault in other places, where it may have other numbers, is told once."""
        _, places = self.faults.setdefault(re.sub(r"\d+", "", fault), (fault, []))
        if label and label not in places:
            places.append(label)

    def tell(self, what: str) -> None:
        """Raise what was found.

        Raises:
            AssertionError: if there is any.
        """
        if self.faults:
            lines = [f"  - {fault}{f'; seen on {listed(places, 2)}' if places else ''}" for fault, places in self.faults.values()]
            raise AssertionError("\n".join([what, *lines]))

"""Change the text of a caption, and show what changed in it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

import attrs

from ltxcore.dataset.captions import without_opening

AROUND = 30
"""The number of letters that are shown on either side of a change."""


@attrs.frozen
class CaptionEdit:
    """A change of captions: its parts, in the order in which they are applied.

    Attributes:
        strip_openings: whether stock phrases are removed from the beginning.
        replace: patterns, each with the template that replaces what it finds.
        prefix: a text to put before captions that do not begin with it.
        suffix: a text to put after captions that do not end with it.
    """

    strip_openings: bool = False
    replace: tuple[tuple[re.Pattern[str], str], ...] = ()
    prefix: str = ""
    suffix: str = ""

    def __call__(self, caption: str) -> str:
        """Return a caption with the change applied."""
        if self.strip_openings:
            caption = without_opening(caption)
        for pattern, template in self.replace:
            caption = pattern.sub(template, caption)
        if not caption.startswith(self.prefix):
            caption = self.prefix + caption
        return caption if caption.endswith(self.suffix) else caption + self.suffix


def before_and_after(old: str, new: str) -> tuple[str, str]:
    """Return a caption before and after a change, with brackets around the parts that differ, and without the parts that are far from
    them.
    """
    first, second = (re.findall(r"\w+|\s+|.", text) for text in (old, new))
    parts: list[tuple[bool, str, str]] = []
    for kind, begin, end, other_begin, other_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        one, other = "".join(first[begin:end]), "".join(second[other_begin:other_end])
        same = kind == "equal" and not (one.isspace() and parts)  # a space between two changes belongs to them
        if parts and not same and not parts[-1][0]:
            parts[-1] = False, parts[-1][1] + one, parts[-1][2] + other
        else:
            parts.append((same, one, other))
    before, after = "", ""
    for number, (same, one, other) in enumerate(parts):
        kept = _shortened(one, starts=not number, ends=number == len(parts) - 1) if same else ""
        before += kept or (f"[{one}]" if one else "")
        after += kept or (f"[{other}]" if other else "")
    return before, after


def _shortened(text: str, *, starts: bool, ends: bool) -> str:
    """Return unchanged text without the part that is far from a change."""
    before, after = "" if starts else text[:AROUND], "" if ends else text[-AROUND:]
    return text if len(text) <= len(before) + len(after) + AROUND else f"{before}...{after}"

"""The openings of captions that models write: "The video shows ..." says nothing of what is in it, and would be in every caption of a set."""

from __future__ import annotations

import re

_IT = r"(?:video(?: clip)?|clip|footage|film|scene|shot|sequence|image|picture|photo(?:graph)?|audio(?: clip)?|recording)"
_SHOWS = (
    r"(?:shows?|showcases|showing|depicts|depicting|displays|features|captures|portrays|presents|illustrates|contains|focuses on"
    r"|(?:begins|starts|opens) with|opens on)"
)
_SEEN = r"(?:(?:we|you)(?: can)? see|there (?:is|are))"

OPENINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Each is tried once, in this order: an answer to whoever asked, then what the caption is of, then who looks at it.
        r"(?:sure|certainly|of course)[,.!]\s+",
        r"here(?:'s| is) (?:a|an|the|your) (?:[\w-]+ ){0,4}(?:caption|description)[^:\n]{0,40}:\s*",
        rf"(?:in|throughout) (?:the|this) {_IT}(?:,\s+(?:{_SEEN}\s+)?|\s+{_SEEN}\s+)",
        rf"(?:the|this|an?) {_IT} (?:that )?{_SHOWS}(?:[:,]\s*|\s+)",
        r"(?:we|you)(?: can)? see\s+",
    )
)


def without_opening(caption: str) -> str:
    """A caption without its stock opening, the next word with a capital; as it is where there is none, or where nothing would be left."""
    rest = caption.strip()
    for opening in OPENINGS:
        found = opening.match(rest)
        rest = rest[found.end() :] if found else rest
    return caption if rest in ("", caption.strip()) else rest[0].upper() + rest[1:]

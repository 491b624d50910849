"""The lines of a manifest, which are JSON objects, one appended for each finished sample.

A line that cannot be read, such as the incomplete last line of a killed process, counts as not written. The facts about its sample are then
taken from the header of the sample's own file.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.encoded.stored import AXES_OF_PICTURES, LONGEST_TEXT, MODALITY_OF_LATENTS, MODALITY_OF_MASK, RATES, most_bytes
from ltxcore.files import read_regular, write_whole
from ltxcore.protocols import MODALITIES, Entry

LATEST = 1e11
"""The time of a line is ignored if it is at or beyond this time, in seconds."""

FACTS = frozenset(field.name for field in attrs.fields(Entry))
"""The names of the facts of an entry."""

TICK = 1e-3
"""The seconds by which a line is dated after the latest line before it, if the clock shows an earlier time."""


@attrs.frozen
class Line:
    """An entry with its sample's name, as a line of a manifest or an index holds it.

    Attributes:
        name: the sample's name.
        entry: the known facts about it.
        time: the time when the line was written, in seconds. Since clocks jump, the later line in a file counts whatever its time.
        changed: in an index, the time when the sample's file last changed, in nanoseconds.
        removed: whether the sample was removed from the folder.
    """

    name: str
    entry: Entry
    time: float = attrs.field(factory=time.time)
    changed: int = 0
    removed: bool = False


def append_lines(path: Path, lines: Iterable[Line]) -> None:
    """Append lines to a file in a single write, and keep them apart from an incomplete line that a killed process left.

    Raises:
        OSError: the file cannot be written.
    """
    text = "".join(json.dumps(_to_json(line)) + "\n" for line in lines)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                text = "\n" + text
        file.write(text.encode())
        os.fsync(file.fileno())


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Replace a file by one with these lines.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(path, "".join(json.dumps(_to_json(line)) + "\n" for line in lines).encode())


def read_lines(path: Path) -> Iterator[Line]:
    """Read the readable lines of a file, in order.

    Raises:
        OSError: the file cannot be read.
    """
    read_regular(path, 0)  # this refuses a pipe, whose reading may wait forever
    with path.open("rb") as file:
        for text in file:
            line = line_of(text)
            if line is not None:
                yield line


def entry_from(told: Mapping[str, Any]) -> Entry:
    """Make an entry from the keys of a JSON object that are its facts.

    Raises:
        KeyError: there is no shape.
        TypeError: a list is something else.
    """
    found = {key: value for key, value in told.items() if key in FACTS}
    return Entry(**{**found, "shape": tuple(found["shape"]), "widths": tuple(found.get("widths", ()))})


def _to_json(line: Line) -> dict[str, Any]:
    return {"name": line.name, **attrs.asdict(line.entry), "time": line.time, "changed": line.changed, "removed": line.removed}


def line_of(text: bytes) -> Line | None:
    """Return the line that a text holds; None if it cannot be read."""
    try:
        told = json.loads(text)
        line = Line(
            told["name"],
            entry_from(told),
            told.get("time", 0.0),
            told.get("changed", 0),
            told.get("removed", False),
        )
        return line if _is_sound(line) else None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return None


def _is_sound(line: Line) -> bool:
    entry = line.entry
    texts = (line.name, entry.fingerprint, entry.origin, entry.encoder, entry.kind, entry.modality, entry.checksum, entry.column)
    return (
        all(isinstance(value, str) for value in texts)
        and bool(os.fsencode(line.name))
        and all(type(size) is int and size > 0 for size in (*entry.shape, *entry.widths))
        and (entry.rate is None or (isinstance(entry.rate, (int, float)) and RATES[0] <= entry.rate <= RATES[1]))
        and type(entry.finite) is bool
        and type(entry.bytes) is int
        and -(2**63) <= entry.bytes < 2**63
        and isinstance(line.time, (int, float))
        and 0 <= line.time < LATEST
        and type(line.changed) is int
        and -(2**63) <= line.changed < 2**63
        and type(line.removed) is bool
        and (line.removed or _is_sample(entry))
    )


def _is_sample(entry: Entry) -> bool:
    """Return whether an entry has the shape that its kind requires."""
    axes = len(entry.shape)
    if entry.kind == "text":
        modalities = entry.modality.split("+")
        is_text = axes == 1 and entry.shape[0] <= LONGEST_TEXT
        return is_text and set(modalities) <= set(MODALITIES) and len(entry.widths) in (0, len(modalities))
    if entry.kind == "values":
        return not entry.modality and math.prod(entry.shape) <= most_bytes(entry.bytes)
    known = {"latents": MODALITY_OF_LATENTS, "mask": MODALITY_OF_MASK, "pictures": {AXES_OF_PICTURES: "video"}}.get(entry.kind, {})
    return known.get(axes) == entry.modality and math.prod(entry.shape) <= most_bytes(entry.bytes)

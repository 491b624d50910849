"""Conditions as the form has them, and as `ltx sample` and run files take them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import MODALITIES, LtxError, Problem
from ltxcore.api.config import parsed_toml, value_text
from ltxplugins.studio.workspace import Workspace


@attrs.frozen
class Kind:
    """A kind of condition that the form knows.

    Attributes:
        title: the name that the user reads.
        drop: a description of the file that the user gives.
        key: the key that names the file; "" if it is the name of the modality.
        modality: the only modality that the condition works on; "" if the user chooses.
        has_mask: whether the condition takes a mask.
    """

    title: str
    drop: str
    key: str = ""
    modality: str = ""
    has_mask: bool = False


KINDS = {
    "first_frame": Kind("First frame", "an image, or a clip whose first frame is used", key="image_or_video", modality="video"),
    "prefix": Kind("Beginning (prefix)", "the clip or the sound that the sample begins with"),
    "suffix": Kind("End (suffix)", "the clip or the sound that the sample ends with"),
    "reference": Kind("Reference", "the clip or the sound to refer to"),
    "mask": Kind("Mask", "the clip or the sound of which a part is generated again", has_mask=True),
    "audio_to_video": Kind("Sound for the video", "the sound that the video is made for", key="audio", modality="audio"),
    "video_to_audio": Kind("Clip for the sound", "the clip that the sound is made for", key="video", modality="video"),
}
OTHER = "other"
"""The kind of a condition that is written as `--condition` takes it."""
FIELDS = ("c_kind", "c_modality", "c_file", "c_mask", "c_spans", "c_keys")
PAIR = re.compile(r'\s*([\w.-]+)\s*=\s*("(?:[^"\\]|\\.)*"|\'[^\']*\'|\[[^\]]*\]|[^,]*)\s*(?:,|$)')
"""A key and its value in the text of a condition."""
LONGEST = 4000
"""The maximum number of characters of a condition that the user writes."""


@attrs.frozen
class Row:
    """A condition of the form.

    Attributes:
        kind: one of `KINDS`, or "other".
        modality: the modality that the condition works on, if the user chooses.
        file: the image, clip or sound, relative to the opened folder.
        mask: the mask, relative to the opened folder.
        spans: the spans of a sound to generate again, as the user marked them: "0.5-1.2, 2-2.5" in seconds.
        keys: further keys, `KEY=VALUE,...`.
    """

    kind: str
    modality: str = ""
    file: str = ""
    mask: str = ""
    spans: str = ""
    keys: str = ""

    @classmethod
    def read_all(cls, fields: Mapping[str, Sequence[str]]) -> tuple[Row, ...]:
        """Read the conditions from the fields that a browser sent, or that a job kept."""
        lists = [fields.get(name, ()) for name in FIELDS]
        return tuple(cls(*values) for values in zip(*lists, strict=False))

    @staticmethod
    def fields_of(rows: Sequence[Row]) -> dict[str, list[str]]:
        """Return the fields from which `read_all` makes the same conditions."""
        return {name: list(values) for name, values in zip(FIELDS, zip(*map(attrs.astuple, rows), strict=True), strict=False)}

    @property
    def about(self) -> Kind:
        return KINDS.get(self.kind, Kind("Other condition", ""))

    @property
    def works_on(self) -> str:
        """The modality that the condition works on."""
        return self.about.modality or (self.modality if self.modality in MODALITIES else "video")

    def table(self, workspace: Workspace, beside: Path | None = None) -> dict[str, Any]:
        """Return the condition as a run file has it.

        Args:
            workspace: the opened folder.
            beside: the folder that paths begin at; None for the opened folder.

        Raises:
            LtxError: a path lies outside the opened folder.
        """
        if self.kind == OTHER:
            return pairs(self.keys)
        table: dict[str, Any] = {"type": self.kind}
        start = workspace.root if beside is None else beside
        for key, name in ((self.about.key or self.works_on, self.file), ("mask", self.mask)):
            if name and (key != "mask" or self.about.has_mask):
                table[key] = Path(os.path.relpath(workspace.path(name), start)).as_posix()
        return table | pairs(self.keys)

    def text(self, workspace: Workspace) -> str:
        """Return the condition as `--condition` takes it."""
        return ",".join(f"{key}={value_text(value)}" for key, value in self.table(workspace).items())

    def faults(self, workspace: Workspace) -> Iterator[Problem]:
        """Yield what is wrong with the condition, as far as no file is opened."""
        if len(self.keys) > LONGEST or "\0" in self.keys:
            yield Problem("is too long", self.about.title, "Write KEY=VALUE, separated by commas.")
            return
        if self.keys and not pairs(self.keys):
            yield Problem(f'"{self.keys}" is not KEY=VALUE,...', self.about.title, "Write for example downscale_factor=2.")
        if self.kind == OTHER:
            if "type" not in pairs(self.keys):
                yield Problem(
                    "does not say its type", self.about.title, "Write type=NAME,KEY=VALUE,... as `ltx sample --condition` takes it."
                )
            return
        if self.kind not in KINDS:
            yield Problem(f'there is no kind of condition "{self.kind}"', remedy="Reload the page.")
            return
        wanted = [("file", self.file), *([("mask", self.mask)] if self.about.has_mask else [])]
        for what, name in wanted:
            if not name:
                yield Problem(f"has no {what}", self.about.title, _MISSING[what])
                continue
            try:
                there = workspace.path(name).is_file()
            except LtxError as error:
                yield from (attrs.evolve(problem, where=self.about.title) for problem in error.problems)
                continue
            if not there:
                yield Problem(f"there is no file {name}", self.about.title, _MISSING[what])


_MISSING = {
    "file": "Drop a file on the condition, or remove the condition.",
    "mask": "Paint a mask on the frame, mark a span of the sound, or drop a mask.",
}


def pairs(text: str) -> dict[str, Any]:
    """Return the keys and values of `KEY=VALUE,...`; empty if the text is not of this form. A value that TOML does not know is a text."""
    found: dict[str, Any] = {}
    place = 0
    while place < len(text):
        match = PAIR.match(text, place)
        if match is None or match.end() == place:
            return {}
        found[match[1]] = _value(match[2].strip())
        place = match.end()
    return found


def _value(text: str) -> Any:
    try:
        return parsed_toml(f"value = {text}", Path("condition"))["value"]
    except (LtxError, KeyError):
        return text


def rows_of(texts: Iterable[str]) -> tuple[Row, ...]:
    """Return the conditions that `--condition` would take as rows without files, for the user to fill in."""
    rows = []
    for text in texts:
        table = pairs(text)
        kind = str(table.pop("type", ""))
        if kind not in KINDS:
            rows.append(Row(OTHER, keys=text))
            continue
        modality = next((name for name in MODALITIES if name in table), "")
        for key in (KINDS[kind].key, "mask" if KINDS[kind].has_mask else "", *MODALITIES, "include_in_output"):
            table.pop(key, None)
        rows.append(Row(kind, modality, keys=",".join(f"{key}={value_text(value)}" for key, value in table.items())))
    return tuple(rows)


def dropped(name: str) -> Row:
    """Return the condition for a file that was dropped beside all conditions: an image is the first frame, a sound is what the video is
    made for, and a clip is what the sample begins with.
    """
    ending = Path(name).suffix.lower()
    if ending in (".png", ".jpg", ".jpeg", ".webp", ".gif"):
        return Row("first_frame", "video", name)
    return Row("audio_to_video", "audio", name) if ending in (".wav", ".mp3", ".flac", ".ogg", ".m4a") else Row("prefix", "video", name)


def spans_of(text: str) -> list[tuple[float, float]]:
    """Return the spans of "0.5-1.2, 2-2.5" in seconds, in order; empty if the text is not of this form."""
    found = []
    for part in text.split(","):
        begin, hyphen, end = part.strip().partition("-")
        try:
            span = (float(begin), float(end))
        except ValueError:
            return []
        if not hyphen or not 0 <= span[0] < span[1] < 1e6:
            return []
        found.append(span)
    return sorted(found)

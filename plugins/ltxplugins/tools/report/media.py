"""The samples in a page, which are in the page itself as long as they are small, and otherwise beside it."""

from __future__ import annotations

import base64
import os.path
from pathlib import Path
from urllib.parse import quote

import attrs

from ltxcore.api import DataError
from ltxplugins.tools.report.markup import Markup, joined, tag
from ltxplugins.tools.report.spectrogram import spectrogram

TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""The types of files that are shown or played, by suffix: those that ltx writes, and those that other plugins may."""

LARGEST = 16
"""The size in MB above which a file is kept beside the page whatever the limit."""

MEGABYTE = 10**6

BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEAAAAALAAAAAABAAEAAAIBAAA="
"""An empty picture, which a script replaces by one that the page already contains."""


@attrs.define
class Shelf:
    """The source of a page's media, which decides what goes into the page and what stays beside it.

    Attributes:
        page: the file that is written.
        limit: the MB of media that may go into it; further media are named by their paths.
    """

    page: Path
    limit: float
    _used: int = attrs.field(default=0, init=False)
    _taken: dict[Path, str] = attrs.field(factory=dict, init=False)

    def player(self, path: Path, label: str) -> Markup | None:
        """Return an element that shows or plays a file; None for a file that is not a media file.

        A file is put into the page only once; where it appears again, the script points to the first one.
        """
        kind = TYPES.get(path.suffix.lower())
        if kind is None:
            return None
        first = path not in self._taken
        if first:
            self._taken[path] = f"medium{len(self._taken)}"
        known = self._taken[path]
        where = {"src": self._source(path, kind), "id": known} if first else {"data_same": known}
        if kind.startswith("image/"):
            return tag("img", **{"src": BLANK, **where}, alt=label, class_="medium")
        heard = self._picture(path, label)
        if kind.startswith("audio/"):
            return tag("div", heard, tag("audio", controls=True, preload="auto", aria_label=label, **where), class_="medium sound")
        shown = tag("video", controls=True, loop=True, playsinline=True, preload="auto", aria_label=label, **where)
        return tag("div", shown, heard, class_="medium film")

    def _source(self, path: Path, kind: str) -> str:
        size = path.stat().st_size
        if size > LARGEST * MEGABYTE or self._used + size > self.limit * MEGABYTE:
            return quote(Path(os.path.relpath(path, self.page.parent)).as_posix())
        self._used += size
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"

    def _picture(self, path: Path, label: str) -> Markup | None:
        """Draw the audio of a file as a picture, with a line that moves while it plays; None if it has no audio."""
        try:
            png = spectrogram(path)
        except DataError:
            return None
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        return tag("div", joined([tag("img", src=source, alt=f"spectrogram: {label}"), tag("i")]), class_="spectrogram")

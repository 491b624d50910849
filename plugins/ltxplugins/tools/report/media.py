"""Put the media of a page into the page itself if they are small, or else link to the files beside the page."""

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
"""The types of files that are shown or played, by extension. They include files that other plugins may write."""

LARGEST = 16
"""The size in MB above which a file always stays beside the page, whatever the limit."""

MEGABYTE = 10**6

BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEAAAAALAAAAAABAAEAAAIBAAA="
"""An empty picture, which a script replaces with a picture that the page already contains."""


@attrs.define
class Shelf:
    """The media of a page. It decides which files go into the page and which stay beside it.

    Attributes:
        page: the file of the page.
        limit: the maximum number of MB of media in the page; further media are linked by their paths.
    """

    page: Path
    limit: float
    _used: int = attrs.field(default=0, init=False)
    _taken: dict[Path, str] = attrs.field(factory=dict, init=False)

    def player(self, path: Path, label: str) -> Markup | None:
        """Return an element that shows or plays a file; None for a file that is not a media file.

        A file is put into the page only once. Where it appears again, the script uses the first copy.
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
        """Draw the audio of a file as a picture, with a line that moves during playback; None if the file has no audio."""
        try:
            png = spectrogram(path)
        except DataError:
            return None
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        return tag("div", joined([tag("img", src=source, alt=f"spectrogram: {label}"), tag("i")]), class_="spectrogram")

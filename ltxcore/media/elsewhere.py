"""Functions that recognize files which are not media but lead to other files.

A row names one media file. Any other files that were read with it would be neither hashed nor moved with the dataset.

FFmpeg follows playlists and scripts whatever their file names are. This module recognizes them by their first words, so that they can be
refused with an explanation. Files that are not recognized are stopped by `options`, which allow FFmpeg no format that opens another file,
and no protocol but that of local files.
"""

from __future__ import annotations

import functools
import re

HEAD = 1 << 13
"""The number of bytes at the beginning of a file that `lead` looks at."""

_FOLLOWING = frozenset(
    {"concat", "dash", "hls", "image2pipe", "imf", "mlv", "rtp", "rtsp", "sap", "sbg", "sdp", "vobsub", "webm_dash_manifest"}
)
"""The demuxers that open or listen to whatever a file names, or that synthesize audio from a script."""

_DEVICES = frozenset({"alsa", "fbdev", "kmsgrab", "lavfi", "oss", "video4linux2,v4l2", "x11grab"})
_TEXT_AS_PICTURES = frozenset({"tty", "bin", "xbin", "adf", "idf"})
"""The demuxers that render any text file as pictures of a terminal."""

_NAME_THEM = "Name the files that it refers to."
_LEADS = (
    (r"#extm3u", "a playlist (M3U, as HLS has them)"),
    (r"\[playlist\]", "a playlist (PLS)"),
    (r"\[reference\]", "a playlist (ASX)"),
    (r"ffconcat\b|(?:#[^\n]*\n\s*)*file\s+['\"]?[^\s<{]+['\"]?\s*(?:\n|$)", "a list of files to be joined (ffconcat)"),
    (r"v=0\s+o=", "the description of a stream (SDP)"),
    (r"(?:rtsp|rtmp|mms|https?|ftp)://", "an address"),
    (r"\[internetshortcut\]", "a link to an address"),
    (
        r"(?:(?:rem|title|performer|songwriter|catalog|cdtextfile) [^\n]*\n\s*)*file \"[^\n]*\" (?:wave|mp3|aiff|binary)",
        "a list of tracks (CUE)",
    ),
    (r"(?:<[!?][^>]*>\s*)*<asx", "a playlist (ASX)"),
    (r"(?:<[!?][^>]*>\s*)*<smil", "a playlist (SMIL)"),
    (r"(?:<[!?][^>]*>\s*)*<playlist", "a playlist (XSPF)"),
    (r"(?:<[!?][^>]*>\s*)*<mpd\b", "a playlist (DASH)"),
    (r"(?:<[!?][^>]*>\s*)*<smoothstreamingmedia", "a playlist (Smooth Streaming)"),
    (r"(?:<[!?][^>]*>\s*)*<(?:\w+:)?(?:compositionplaylist|assetmap)", "a playlist (IMF)"),
)
_STANDING_FOR_IT = (
    (r"version https://git-lfs", "a pointer of Git LFS", "Get the file itself: git lfs pull"),
    (r"<!doctype html|<html", "a web page", "Download the file itself."),
)


def lead(head: bytes) -> tuple[str, str] | None:
    """Recognize, by its first bytes, a file that leads to a media file or stands for one.

    The result is what the file is, and what to do about it; None for any other file.

    Args:
        head: the first `HEAD` bytes of the file, or all of a smaller one.
    """
    for mark, coding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"), (b"", "latin-1")):
        if head.startswith(mark):
            text = head[len(mark) :].decode(coding, errors="replace").lstrip().lower()
            break
    if not text[:1] or text[0] not in "#[<abcdefghijklmnopqrstuvwxyz":
        return None
    known = (*((pattern, what, _NAME_THEM) for pattern, what in _LEADS), *_STANDING_FOR_IT)
    return next(((what, remedy) for pattern, what, remedy in known if re.match(pattern, text)), None)


@functools.cache
def options() -> dict[str, str]:
    """Return options for opening a file, which limit FFmpeg's formats and protocols, and which say that a name never stands for several
    files.

    Since FFmpeg cannot forbid formats, all its formats except those listed above are allowed by name.
    """
    import av

    formats = av.formats_available - _FOLLOWING - _DEVICES - _TEXT_AS_PICTURES
    return {"format_whitelist": ",".join(sorted(formats)), "protocol_whitelist": "file", "pattern_type": "none"}

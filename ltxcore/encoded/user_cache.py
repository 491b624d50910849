"""The folder of files that can be made again, in a user's home."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """Return the folder `ltx` in XDG_CACHE_HOME, by default ~/.cache; for a user without a home, it is in the system's temporary folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named) / "ltx"
    try:
        return Path.home() / ".cache" / "ltx"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "ltx"


def index_in_cache(folder: Path) -> Path:
    """Return the path in the cache, without an ending, for the index of a folder of samples that cannot be written."""
    return user_cache() / "index" / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]

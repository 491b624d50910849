"""The folder of files that can be made again, in a user's home."""

from __future__ import annotations

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

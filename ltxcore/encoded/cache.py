"""Where files lie that can be made again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """The folder `ltx` in XDG_CACHE_HOME, by default in ~/.cache; for a user without a home, in the system's temporary folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named) / "ltx"
    try:
        return Path.home() / ".cache" / "ltx"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "ltx"

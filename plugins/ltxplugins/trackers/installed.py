"""Whether the package that a tracker sends its numbers to is there."""

from __future__ import annotations

import importlib.util


def missing(package: str, spoken: str) -> list[tuple[tuple[str, ...], str, str]]:
    """What a tracker's `problems()` says where `package` is not installed; nothing where it is.

    A folder of that name where the program was started is no package: trackers leave such folders.
    """
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:
        return []
    what = f"the tracker for {spoken} needs the package {package}, which is not installed"
    return [((), what, f'Install it: pip install "ltx[{package}]"')]

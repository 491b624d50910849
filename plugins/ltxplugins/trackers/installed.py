"""Check that the package to which a tracker sends its numbers is installed."""

from __future__ import annotations

import importlib.util


def missing(package: str, spoken: str) -> list[tuple[tuple[str, ...], str, str]]:
    """Return a problem if the `package` of a tracker is not installed; otherwise, return an empty list.

    A folder of that name in the working directory does not count as the package, because trackers leave such folders
    behind.
    """
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:
        return []
    what = f"the tracker for {spoken} needs the package {package}, which is not installed"
    return [((), what, f'Install it: pip install "ltx[{package}]"')]

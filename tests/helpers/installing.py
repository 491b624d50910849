"""Small distributions, installed as pip leaves them: modules, and a `*.dist-info` folder with metadata and entry points."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs


@attrs.frozen
class Site:
    """A folder on `sys.path`."""

    folder: Path

    def install(self, distribution: str, points: Mapping[str, str] | str, files: Mapping[str, str], version: str = "1.0") -> None:
        """Install a distribution: its entry points of the group `ltx` (or the whole text of their file), and its modules by path."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        listed = points if isinstance(points, str) else "[ltx]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        info.joinpath("entry_points.txt").write_text(listed)
        for path, source in files.items():
            self.folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            self.folder.joinpath(path).write_text(source)
        importlib.invalidate_caches()


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A folder on `sys.path` for as long as the block lasts; modules imported from it are forgotten then."""
    folder.mkdir()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield Site(folder)
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]

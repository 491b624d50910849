"""The schemas of run files, with the keys of the Python files that they name and that the user lets the studio execute."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltxcore.api import PluginError
from ltxplugins.studio.jobs import read_json, write_json
from ltxplugins.studio.programs import answer
from ltxplugins.studio.studio import Studio


class Schemas:
    """The output of `ltx schema`, which is made once for each set of Python files in their present state."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._lock = threading.Lock()
        self._found: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def of(self, plugins: tuple[Path, ...]) -> Mapping[str, Any]:
        """Return the schema with the keys of Python files, which are executed by a process of its own.

        Raises:
            PluginError: a file is broken.
        """
        with self._lock:
            key = tuple(map(fingerprint, plugins))
            if key not in self._found:
                options = [word for plugin in plugins for word in ("--plugin", str(plugin))]
                told = answer(self._studio, ["schema", *options])
                if told.status:
                    raise PluginError(
                        f"the keys of the plugins cannot be read: {told.errors.strip()}", remedy="Fix the Python files, or remove them."
                    )
                self._found[key] = json.loads(told.text)
            return self._found[key]

    # ---- which files may be executed

    def trusted(self, plugins: tuple[Path, ...]) -> bool:
        """Return whether the user lets the studio execute these files as they are now."""
        known = read_json(self._file).get("files", [])
        return all(fingerprint(plugin) in known for plugin in plugins)

    def trust(self, plugins: tuple[Path, ...]) -> None:
        """Let these files be executed from now on, until they change."""
        self._studio.workspace.own("run-file")
        known = read_json(self._file).get("files", [])
        write_json(self._file, {"files": sorted({*known, *map(fingerprint, plugins)})})

    @property
    def _file(self) -> Path:
        return self._studio.workspace.state / "run-file" / "plugins.json"


def plugins_of(document: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Return the Python files that a run file names and that are there.

    Args:
        document: the values of the run file.
        folder: where relative paths start.
    """
    named = document.get("plugins")
    texts = [each for each in named if isinstance(each, str) and each and "\0" not in each] if isinstance(named, list) else []
    return tuple(path for path in (folder / text for text in texts) if path.is_file())


def fingerprint(path: Path) -> str:
    """Return a digest of a file's path and content."""
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    return hashlib.sha256(f"{path.resolve()}\0".encode() + content).hexdigest()

"""The folder that the studio was opened on: the paths that may be read and written, and the place of the studio's own files."""

from __future__ import annotations

from pathlib import Path

from ltxcore.api import ConfigError, DataError

STATE = ".studio"
"""The folder of the studio's own files, in the folder that it was opened on."""


class Workspace:
    """A folder that the user opened, and the paths inside it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.state = self.root / STATE

    def path(self, name: str) -> Path:
        """Return the path of a name relative to the root, or of an absolute one.

        Raises:
            DataError: the path, after links are followed, is outside the root.
        """
        if "\0" in name:
            raise DataError("a path cannot hold a null character", remedy="Give the path of a file or folder.")
        found = (self.root / name).resolve()
        if not found.is_relative_to(self.root):
            remedy = "Start `ltx studio` on a folder that holds it, or put it into the opened folder."
            raise DataError(f"{name} is outside the folder that was opened, {self.root}", remedy=remedy)
        return found

    def name(self, path: Path) -> str:
        """Return a path in the form that it has in the studio's addresses: relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def own(self, *parts: str) -> Path:
        """Return a folder for the studio's own files, which is made if it does not exist.

        Raises:
            ConfigError: the folder cannot be made.
        """
        folder = self.state.joinpath(*parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignored = self.state / ".gitignore"
            if not ignored.exists():
                ignored.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write to {folder}: {error.strerror}", remedy="Open a folder that you may write to.") from error
        return folder

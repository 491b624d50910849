"""The run files of a workspace: which there are, their texts, and the texts that are not saved yet."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil  # type: ignore[import-untyped, unused-ignore]

from ltxcore.api import ConfigError, DataError, LtxError
from ltxcore.api.commands import not_written, write_whole
from ltxcore.api.config import parsed_toml, text_of
from ltxplugins.studio.jobs import read_json, write_json
from ltxplugins.studio.workspace import Workspace

DEEPEST = 4
"""How many folders deep run files are looked for."""
MOST_FOLDERS = 2000
"""How many folders are looked into, so that a folder of encoded clips does not hold up the page."""
LARGEST = 2**20
"""The maximum size in bytes of a file that is looked at."""
BESIDE = ".studio-"
"""The beginning of the names of files that are written beside a run file for a moment; see `beside`."""


@attrs.frozen
class Listed:
    """A run file in the list.

    Attributes:
        name: the path of the file, relative to the opened folder.
        mode: a description of what is trained, such as "LoRA on video and audio"; "" if the file cannot be read.
        model: the value of model.model_path.
        steps: the value of optimization.steps; "" for the default.
        changed: when the file was last written, in seconds since 1970.
        is_draft: whether the file has changes that are not saved.
        is_of_run: whether a run wrote the file into its output folder.
    """

    name: str
    mode: str
    model: str
    steps: str
    changed: float
    is_draft: bool
    is_of_run: bool


@attrs.frozen
class Opened:
    """The text of a run file as it is edited.

    Attributes:
        text: the text, with lines that end in a line feed.
        base: the digest of the file that the text was made from; "" if there was no such file.
        is_draft: whether the text differs from the file.
        at: when the draft was kept, in seconds since 1970.
    """

    text: str
    base: str
    is_draft: bool
    at: float = 0.0


class Changed(ConfigError):
    """The file is not the one that was opened.

    Attributes:
        text: the present text of the file.
    """

    text: str = ""


class RunFiles:
    """The run files of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def all(self) -> list[Listed]:
        """Return the run files of the workspace, those that changed last first."""
        found = [listed for path in _toml_files(self.workspace.root) if (listed := self._listed(path)) is not None]
        return sorted(found, key=lambda listed: (listed.is_of_run, -listed.changed))

    def path(self, name: str) -> Path:
        """Return the path of a run file, which need not exist yet.

        Raises:
            DataError: the name does not end in ".toml", or lies outside the workspace, or in the studio's own folder.
        """
        path = self.workspace.path(name)
        if path.suffix != ".toml" or path.is_relative_to(self.workspace.state) or path.name.startswith("."):
            raise DataError(f"{name} is not the name of a run file", remedy='Give a name that ends in ".toml".')
        return path

    def open(self, name: str) -> Opened:
        """Return the text of a run file, or the draft that was made from it.

        Raises:
            ConfigError: the file is missing and has no draft, or it is not text.
        """
        path, draft = self.path(name), read_json(self._draft(name))
        if draft and isinstance(draft.get("text"), str):
            text = _text(path) if path.exists() else None
            if text != draft["text"]:
                return Opened(draft["text"], draft["base"], True, draft["at"])
        return Opened(_text(path), digest(path), False)

    def keep(self, name: str, text: str, base: str) -> bool:
        """Keep a text that is not saved yet as a draft, and return whether it differs from the file."""
        path = self.path(name)
        if path.exists() and _text(path) == text:
            self.forget(name)
            return False
        self.workspace.own("run-file", "drafts")
        write_json(self._draft(name), {"name": name, "text": text, "base": base, "at": time.time()})
        return True

    def forget(self, name: str) -> None:
        """Remove the draft of a run file."""
        self._draft(name).unlink(missing_ok=True)

    def save(self, name: str, text: str, base: str) -> str:
        """Write a run file whole, and return its digest. Lines keep the endings that the file had.

        Args:
            name: the name of the run file.
            text: the new text of the run file.
            base: the digest of the file that may be replaced.

        Raises:
            Changed: the file no longer has the digest `base`.
            ConfigError: the file cannot be written.
        """
        path = self.path(name)
        now = digest(path)
        if now != base:
            error = Changed(
                f"{name} was changed by another program since it was opened here"
                if now
                else f"{name} was removed since it was opened here",
                remedy="Compare the two, then overwrite the file or take its text. Your text is kept as a draft until then.",
            )
            error.text = _text(path) if now else ""
            raise error
        ends = "\r\n" if path.exists() and b"\r\n" in path.read_bytes() else "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text.replace("\n", ends).encode())
        except OSError as error_:
            raise ConfigError.of([not_written(error_, str(path), "the file is as it was")]) from error_
        self.forget(name)
        return digest(path)

    def beside(self, name: str, text: str) -> Path:
        """Write a text beside a run file for a moment, so that a command reads it as that file: relative paths start from the same folder.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        path = self.path(name)
        for left in path.parent.glob(f"{BESIDE}*.toml"):  # of a server that was killed
            server = re.match(r"\d+", left.name.removeprefix(BESIDE))
            if server is None or not psutil.pid_exists(int(server[0])):
                left.unlink(missing_ok=True)
        made = path.with_name(f"{BESIDE}{os.getpid()}-{time.time_ns()}.toml")
        try:
            made.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise ConfigError.of([not_written(error, str(made), "nothing was planned")]) from error
        return made

    def saved(self, name: str) -> str:
        """Return the text of a run file as it is on disk.

        Raises:
            ConfigError: the file is missing, or it is not text.
        """
        return _text(self.path(name))

    def base(self, name: str) -> str:
        """Return the digest of a run file as it is now."""
        return digest(self.path(name))

    def _draft(self, name: str) -> Path:
        key = hashlib.sha256(self.workspace.name(self.path(name)).encode()).hexdigest()[:32]
        return self.workspace.state / "run-file" / "drafts" / f"{key}.json"

    def _listed(self, path: Path) -> Listed | None:
        name = self.workspace.name(path)
        try:
            stat = path.stat()
            text = text_of(path) if stat.st_size <= LARGEST else ""
        except (OSError, LtxError):
            return None
        is_draft = self._draft(name).exists()
        try:
            document = parsed_toml(text, path)
        except LtxError:
            looks_like_one = "[model]" in text or "[training_strategy]" in text
            return Listed(name, "", "", "", stat.st_mtime, is_draft, False) if looks_like_one or is_draft else None
        if not document.keys() & {"model", "training_strategy"}:
            return None
        model, steps = _inside(document, "model", "model_path"), _inside(document, "optimization", "steps")
        is_of_run = text.startswith("# The whole run:")
        return Listed(name, _mode(document), str(model or ""), str(steps or ""), stat.st_mtime, is_draft, is_of_run)


def digest(path: Path) -> str:
    """Return a digest of a file; "" if there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _text(path: Path) -> str:
    return text_of(path).replace("\r\n", "\n").replace("\r", "\n")


def _toml_files(root: Path) -> Iterator[Path]:
    left, seen = [(root, 0)], 0
    while left and seen < MOST_FOLDERS:
        folder, depth = left.pop(0)
        seen += 1
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                left += [(Path(entry.path), depth + 1)] if depth < DEEPEST else []
            elif entry.name.endswith(".toml") and entry.is_file() and Path(entry.path).resolve().is_relative_to(root):
                yield Path(entry.path)


def _mode(document: dict[str, Any]) -> str:
    kind = "full fine-tuning" if _inside(document, "model", "training_mode") == "full" else "LoRA"
    strategy = document.get("training_strategy")
    tables = [name for name in ("video", "audio") if isinstance(strategy, dict) and isinstance(strategy.get(name), dict)]
    made = [name for name in tables if _inside(document, "training_strategy", name, "is_generated") is True]
    given = [name for name in tables if name not in made]
    words = [" and ".join(made), *([f"from {' and '.join(given)}"] if made and given else [])]
    return f"{kind}: {' '.join(words)}" if made else kind


def _inside(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value

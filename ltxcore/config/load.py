"""A run file, read, checked and resolved."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli

from ltxcore.config.locate import Lines, locate
from ltxcore.config.reading import KeyPath, Mistake, spelled
from ltxcore.config.render import render
from ltxcore.config.schema import RunFile
from ltxcore.config.settings import apply_settings, parse_key
from ltxcore.config.structure import structure
from ltxcore.errors import ConfigError, Problem
from ltxcore.registry import Registry
from ltxcore.registry import load as load_plugins


@attrs.frozen
class Places:
    """Where key paths are: in the file, or on the command line."""

    path: Path
    lines: Lines
    settings: tuple[KeyPath, ...] = ()

    def of(self, key: KeyPath) -> str:
        """`run.toml:12: a.b[0].c`, or `--set: a.b[0].c` for what the command line says."""
        if any(key[: len(setting)] == setting for setting in self.settings):
            return f"--set: {spelled(key)}"
        place = f"{self.path}:{self.lines.of(key)}"
        return f"{place}: {spelled(key)}" if key else place


@attrs.frozen
class LoadedRun:
    """A run file that is in order.

    Attributes:
        path: of the file, as it was given.
        config: what it says, with defaults; input paths are absolute.
        registry: the plugins that are there, those of the run file included.
    """

    path: Path
    config: RunFile
    registry: Registry
    places: Places = attrs.field(repr=False)

    def where(self, key: str) -> str:
        """The place of a key for a message: "run.toml:12: training_strategy.audio"; list entries are written `a.0` or `a[0]`."""
        return self.places.of(tuple(int(part) if part.isdecimal() else part for part in parse_key(key)))

    def resolved(self) -> str:
        """The run file with every value spelled out and absolute input paths; loads again to an equal config."""
        return render(self.config)


def load_run(path: Path, settings: Sequence[str] = ()) -> LoadedRun:
    """Read a run file.

    Args:
        path: the file.
        settings: `a.b=c` of `--set`, written over the file's values.

    Raises:
        ConfigError: with every mistake that can be found without opening a sample.
    """
    path = Path(path)
    text = _text(path)
    data = _parsed(text, path)
    places = Places(path, locate(text), tuple(apply_settings(data, settings)))
    folder = path.absolute().parent
    registry = load_plugins(local=_plugin_files(data, folder))
    config, mistakes = structure(data, registry, folder)
    mistakes = [*_broken_files(data, folder, registry), *mistakes]
    if mistakes or config is None:
        ordered = sorted(mistakes, key=lambda mistake: places.lines.of(mistake.path))
        raise ConfigError.of(Problem(mistake.what, places.of(mistake.path), mistake.remedy) for mistake in ordered)
    return LoadedRun(path, config, registry, places)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), remedy="Save it as UTF-8.") from error
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise ConfigError(reason, where=str(path), remedy="Name a run file, such as examples/audio_inpainting.toml.") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        said = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        if said is None:
            raise ConfigError(f"is not TOML: {error}", where=str(path)) from error
        line = said[2] or max(1, len(text.rstrip().splitlines()))
        column = f", at column {said[3]}" if said[3] else ", at the end"
        raise ConfigError(f"is not TOML: {said[1][:1].lower()}{said[1][1:]}{column}", where=f"{path}:{line}") from error


def _plugin_files(data: dict[str, Any], folder: Path) -> list[Path]:
    """Files of `plugins` that are there; what else is wrong with that key is found with all other keys."""
    named = data.get("plugins")
    names = [name for name in named if isinstance(name, str) and name] if isinstance(named, list) else []
    files = [Path(os.path.normpath(folder / Path(name).expanduser())) for name in names]
    return [file for file in files if file.is_file()]


def _broken_files(data: dict[str, Any], folder: Path, registry: Registry) -> list[Mistake]:
    files = [str(os.path.normpath(folder / Path(name).expanduser())) for name in data.get("plugins", []) if isinstance(name, str)]
    return [
        Mistake(("plugins", files.index(broken.origin.plugin)), f"the plugin {broken.origin.plugin} is broken: {broken.reason}")
        for broken in registry.broken
        if broken.origin.distribution == "local file" and broken.origin.plugin in files
    ]

"""Reading, checking and resolving a run file, and finding the places in it of mistakes that are found later."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from ltxcore.config.locate import Lines, locate
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.reading import KeyPath, Mistake, Unreadable, spelled
from ltxcore.config.render import render
from ltxcore.config.run_file import RunFile
from ltxcore.config.settings import apply_settings, parse_key
from ltxcore.config.structure import RunReader, structure, structurer_of
from ltxcore.config.toml import parsed_toml
from ltxcore.errors import ConfigError, LtxError, Problem
from ltxcore.files import is_file, path_from, text_in, why_unread
from ltxcore.redact import HIDDEN, hide_those_of, is_hidden
from ltxcore.registry import Registry
from ltxcore.registry import load as load_plugins

HEADER = "# The whole run: every value spelled out, input paths absolute."

KEY = re.compile(rf"({'|'.join(field.name for field in attrs.fields(RunFile))})((?:\.\w+)*)(.*)", re.DOTALL)


@attrs.frozen
class Places:
    """The places of keys: a line of the file, or the command line."""

    path: Path
    lines: Lines
    settings: tuple[KeyPath, ...] = ()

    def of(self, key: KeyPath) -> str:
        """Return the place of a key for a message: `run.toml:12: a.b[0].c`, or `--set: a.b[0].c` if the command line sets it."""
        line = self.line(key)
        place = f"{self.path}:{line}" if line else "--set"
        return f"{place}: {spelled(key)}" if key else place

    def line(self, key: KeyPath) -> int:
        """Return the line of a key in the file; 0 if the command line sets the key."""
        return 0 if self.is_set(key) else self.lines.of(key)

    def has(self, key: KeyPath) -> bool:
        """Return whether the file or the command line sets the key, rather than leaving it at its default."""
        return self.is_set(key) or key in self.lines.known

    def is_set(self, key: KeyPath) -> bool:
        """Return whether the command line sets the key, or a table or list that contains it."""
        return any(key[: len(setting)] == setting for setting in self.settings)


@attrs.frozen
class LoadedRun:
    """A run file that has been read and has no mistakes.

    Attributes:
        path: the path of the file, as it was given.
        config: the values, with defaults; input paths are absolute.
        registry: the installed plugins, and those of the run file.
    """

    path: Path
    config: RunFile
    registry: Registry
    places: Places = attrs.field(repr=False)

    def where(self, key: str) -> str:
        """Return the place of a key for a message: "run.toml:12: training_strategy.audio"; list entries are written `a.0` or `a[0]`."""
        return self.places.of(tuple(int(part) if part.isdecimal() else part for part in parse_key(key)))

    def resolved(self) -> str:
        """Return the text of the run file with every value spelled out and input paths absolute; loading it again gives an equal config."""
        return f"{HEADER}\n{render(self.config)}"


class UnreadPlugins(ConfigError):
    """Raised when no mistake was found, but some names may come from the files that the run file's `plugins` lists, which were not run."""


@attrs.frozen
class ReadRun:
    """A run file that has been read, with or without mistakes.

    Attributes:
        loaded: the values; keys that are wrong, or that name missing files, are unknown (`config.parts`).
        problems: everything that is wrong with its keys.
        unread: names that were not checked, because they can only come from plugins that were not run.
    """

    loaded: LoadedRun
    problems: tuple[Problem, ...]
    unread: tuple[Problem, ...]


def load_run(path: Path, settings: Sequence[str] = (), *, elsewhere: Collection[str] = ()) -> LoadedRun:
    """Read a run file, running the Python files that its `plugins` names.

    Args:
        path: the file.
        settings: the settings `a.b=c` of `--set`, written over the file's values.
        elsewhere: tables whose input paths are on another machine and need not exist here.

    Raises:
        ConfigError: with every mistake that can be found without opening a sample.
    """
    read = read_run(path, settings, elsewhere=elsewhere)
    if problems := (*read.problems, *read.unread):
        raise ConfigError.of(problems)
    return read.loaded


def read_run(path: Path, settings: Sequence[str] = (), *, elsewhere: Collection[str] = (), runs_plugins: bool = True) -> ReadRun:
    """Read a run file as far as possible, whatever is wrong with its keys. It takes the arguments of `load_run`.

    Args:
        runs_plugins: whether the files of `plugins` are run; if not, what they would add is not checked.

    Raises:
        ConfigError: it is not TOML, or a setting is malformed.
    """
    path = Path(path)
    text = text_of(path)
    data = parsed_toml(text, path)
    places = Places(path, locate(text), tuple(apply_settings(data, settings)))
    hide_those_of(data)
    folder = path.absolute().parent
    local, _ = plugin_files(data, folder)  # faults of its texts are found with those of all other keys
    run = [file for file in local.values() if runs_plugins and is_file(file)]
    unread = tuple(file for file in local.values() if file not in run)
    registry = attrs.evolve(load_plugins(local=run), unread=unread, imports=runs_plugins)
    config, found = structure(data, registry, folder, elsewhere, in_parts=True)
    wrong, remedy = broken_plugins(local.values(), registry), "Fix the file, or remove it from the list."
    broken = [Mistake(("plugins", index), wrong[file], remedy) for index, file in local.items() if file in wrong]
    found = sorted([*broken, *_lost_secrets(data), *found], key=lambda mistake: places.line(mistake.path))
    told = {mistake: Problem(mistake.what, places.of(mistake.path), mistake.remedy) for mistake in found}
    if config is None:
        raise ConfigError.of(told.values())
    return ReadRun(
        LoadedRun(path, config, registry, places),
        tuple(problem for mistake, problem in told.items() if not mistake.unread),
        tuple(problem for mistake, problem in told.items() if mistake.unread),
    )


def preprocessing_of(settings: Sequence[str]) -> PreprocessingTable:
    """Return the `[preprocessing]` table with only these settings (such as `skip_audio=true` or
    `preprocessing.skip_audio=true`) applied over its defaults.

    Raises:
        ConfigError: for every setting that is not one of its keys, or has a value that the key does not take.
    """
    data: dict[str, Any] = {}
    apply_settings(data, [setting.strip().removeprefix("preprocessing.") for setting in settings])
    return _preprocessing(lambda reader: reader.structurer.converter.structure(data, PreprocessingTable), lambda key: f"--set: {key}")


def with_source(table: PreprocessingTable) -> PreprocessingTable:
    """Return the `[preprocessing]` table of a command's options with the source that it names.

    Raises:
        ConfigError: there is no such source, or its parameters are wrong.
    """
    return _preprocessing(lambda reader: reader.preprocessing(table), lambda key: f"--{key.replace('_', '-')}")


def _preprocessing(read: Callable[[RunReader], PreprocessingTable], place: Callable[[str], str]) -> PreprocessingTable:
    structurer = structurer_of(load_plugins(), Path.cwd(), start="the working directory")
    try:
        with structurer.reading.at("preprocessing"):
            table = read(RunReader(structurer))
    except Unreadable:
        table = None
    mistakes = structurer.reading.mistakes
    if mistakes or table is None:
        raise ConfigError.of(Problem(mistake.what, place(spelled(mistake.path[1:])), mistake.remedy) for mistake in mistakes)
    return table


def text_of(path: Path, remedy: str = "Name a run file; `ltx new` writes one.") -> str:
    """Read the text of a file.

    Raises:
        ConfigError: it is not there, cannot be read, or is not UTF-8.
    """
    try:
        return text_in(path)
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(why_unread(error), where=str(path), remedy=remedy) from error


def plugin_files(document: Mapping[str, Any], folder: Path) -> tuple[dict[int, Path], dict[int, str]]:
    """Return the files that the key `plugins` names, by index, and the faults of texts that do not name a file. Values
    that are not text are reported with the other keys.

    Args:
        document: a run file, or another file with that key.
        folder: the folder where relative paths start.
    """
    named = document.get("plugins")
    files, faults = dict[int, Path](), dict[int, str]()
    for index, name in enumerate(named) if isinstance(named, list) else ():
        if isinstance(name, str):
            try:
                file = path_from(folder, name)
                if not name:
                    raise ValueError(f"there is no file {file}")
                files[index] = file
            except ValueError as error:
                faults[index] = str(error)
    return files, faults


def broken_plugins(files: Iterable[Path], registry: Registry) -> dict[Path, str]:
    """Return, for each file that is not a plugin, the reason why."""
    reasons = {broken.origin.plugin: broken.reason for broken in registry.broken if broken.origin.distribution == "local file"}
    return {file: f"the plugin {file} is broken: {reasons[str(file)]}" for file in files if str(file) in reasons}


def _lost_secrets(value: Any, path: KeyPath = ()) -> Iterator[Mistake]:
    """Find the keys in an output folder's run file whose secrets were left out when it was written."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, (dict, list)):
            yield from _lost_secrets(inner, (*path, key))
        elif is_hidden(key, inner):
            remedy = f"Set it again: --set {spelled((*path, key))}=... The run file in an output folder does not keep it."
            yield Mistake((*path, key), f"{HIDDEN} was written here in place of a password or key", remedy)


class HasPlaces(Protocol):
    """A protocol of files that have been read and know the places of their keys."""

    def where(self, key: str) -> str:
        """Return the place of a key for a message."""
        ...


def located(error: LtxError, loaded: HasPlaces) -> LtxError:
    """Return an error with file and line added where it names a key of the file."""

    def place(where: str) -> str:
        found = KEY.fullmatch(where)
        return loaded.where(found[1] + found[2]) + found[3] if found else where

    return type(error).of(attrs.evolve(problem, where=place(problem.where)) for problem in error.problems)

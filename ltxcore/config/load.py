"""Read, check and resolve a run file, and find the lines of mistakes that are discovered later."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from ltxcore.config.locate import Lines, locate
from ltxcore.config.preprocessing import PreprocessingTable, option_of
from ltxcore.config.reading import KeyPath, Mistake, Unreadable, spelled
from ltxcore.config.render import render
from ltxcore.config.run_file import RunFile
from ltxcore.config.settings import apply_settings, parse_key
from ltxcore.config.structure import RunReader, structure, structurer_of
from ltxcore.config.toml import parsed_toml
from ltxcore.config.trainers import ENDINGS, trainer_of
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
        """Return the line of a key in the file; 0 if only the command line sets the key, or something in it."""
        return 0 if self.is_set(key) or (key not in self.lines.known and self._sets_in(key)) else self.lines.of(key)

    def has(self, key: KeyPath) -> bool:
        """Return whether the file or the command line sets the key."""
        return self.is_set(key) or key in self.lines.known

    def is_set(self, key: KeyPath) -> bool:
        """Return whether the command line sets the key, or a table or list that contains it."""
        return any(key[: len(setting)] == setting for setting in self.settings)

    def _sets_in(self, key: KeyPath) -> bool:
        return bool(key) and any(setting[: len(key)] == key for setting in self.settings)


@attrs.frozen
class LoadedRun:
    """A run file without mistakes, after it was read.

    Attributes:
        path: the path of the file, as it was given.
        config: the values, including defaults; input paths are absolute.
        registry: the installed plugins, and those of the run file.
        at: the key of the file from which a table was read, if this is not the table's own key: in a run that was reduced to one of its
            sets, the table "data" was read from "data.sets.0".
    """

    path: Path
    config: RunFile
    registry: Registry
    places: Places = attrs.field(repr=False)
    at: Mapping[str, str] = attrs.field(factory=dict)

    def where(self, key: str) -> str:
        """Return the place of a key for a message: "run.toml:12: training_strategy.audio"; list entries are written `a.0` or `a[0]`."""
        table, dot, rest = key.partition(".")
        return self.places.of(
            tuple(int(part) if part.isdecimal() else part for part in parse_key(f"{self.at.get(table, table)}{dot}{rest}"))
        )

    def resolved(self) -> str:
        """Return the text of the run file with every value spelled out and absolute input paths; loading this text gives an equal
        config.
        """
        return f"{HEADER}\n{render(self.config)}"


class UnreadPlugins(ConfigError):
    """Raised if no mistake was found, but some names may come from files in the run file's `plugins`, which were not run."""


@attrs.frozen
class ReadRun:
    """A run file after it was read, with or without mistakes.

    Attributes:
        loaded: the run file; keys with wrong values or missing files are unknown (`config.parts`).
        problems: every mistake in its keys.
        unread: names that were not checked, because only plugins that were not run can define them.
    """

    loaded: LoadedRun
    problems: tuple[Problem, ...]
    unread: tuple[Problem, ...]


def load_run(path: Path, settings: Sequence[str] = (), *, elsewhere: Collection[str] = ()) -> LoadedRun:
    """Read a run file, and run the Python files in its list `plugins`.

    Args:
        path: the file.
        settings: the settings `a.b=c` of `--set`, which override the file's values.
        elsewhere: tables whose input paths are on another machine and need not exist here.

    Raises:
        ConfigError: the file has mistakes; the error lists every mistake that can be found without opening a sample.
    """
    read = read_run(path, settings, elsewhere=elsewhere)
    if problems := (*read.problems, *read.unread):
        raise ConfigError.of(problems)
    return read.loaded


def read_run(path: Path, settings: Sequence[str] = (), *, elsewhere: Collection[str] = (), runs_plugins: bool = True) -> ReadRun:
    """Read a run file as far as possible, even if some keys are wrong. The other arguments are those of `load_run`.

    Args:
        runs_plugins: whether the files in `plugins` are run; if not, names that they might add are not checked.

    Raises:
        ConfigError: the file is not TOML, or a setting is malformed.
    """
    path = Path(path)
    text = text_of(path)
    data = _document(text, path)
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


def _document(text: str, path: Path) -> dict[str, Any]:
    """Return the document of a run file, and refuse configurations of other trainers."""
    remedy = f"To make a run file from a configuration of another trainer: ltx convert {path} -o run.toml"
    try:
        data = parsed_toml(text, path)
    except ConfigError as error:
        if path.suffix.lower() in ENDINGS:
            raise ConfigError.of(attrs.evolve(problem, remedy=problem.remedy or remedy) for problem in error.problems) from error
        raise
    if trainer := trainer_of(data):
        raise ConfigError(f"is a configuration of {trainer}, not a run file", where=str(path), remedy=remedy)
    return data


def preprocessing_of(settings: Sequence[str], registry: Registry) -> PreprocessingTable:
    """Return the default `[preprocessing]` table with these settings applied, such as `skip_audio=true` or
    `preprocessing.skip_audio=true`, and with a source of the registry if they name one.

    Raises:
        ConfigError: some settings are not keys of the table, or have values that the keys do not accept.
    """
    data: dict[str, Any] = {}
    apply_settings(data, [setting.strip().removeprefix("preprocessing.") for setting in settings])
    return _preprocessing(
        registry, lambda reader: reader.structurer.converter.structure(data, PreprocessingTable), lambda key: f"--set: {key}"
    )


def with_source(table: PreprocessingTable, registry: Registry) -> PreprocessingTable:
    """Return the `[preprocessing]` table of a command's options with a registry, and with the source that the table names.

    Raises:
        ConfigError: there is no source of that name, or the parameters are wrong.
    """
    return _preprocessing(registry, lambda reader: reader.preprocessing(table), option_of)


def _preprocessing(registry: Registry, read: Callable[[RunReader], PreprocessingTable], place: Callable[[str], str]) -> PreprocessingTable:
    structurer = structurer_of(registry, Path.cwd(), start="the working directory")
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
        ConfigError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return text_in(path)
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), remedy="Save the file as UTF-8.") from error
    except OSError as error:
        raise ConfigError(why_unread(error), where=str(path), remedy=remedy) from error


def plugin_files(document: Mapping[str, Any], folder: Path) -> tuple[dict[int, Path], dict[int, str]]:
    """Return the files that the key `plugins` names, by index, and the faults of entries that do not name a file. Entries that
    are not text are reported with the mistakes in other keys.

    Args:
        document: a run file, or another file with the key `plugins`.
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
    """Return the reason for each file that is not a plugin."""
    reasons = {broken.origin.plugin: broken.reason for broken in registry.broken if broken.origin.distribution == "local file"}
    return {file: f"the plugin {file} is broken: {reasons[str(file)]}" for file in files if str(file) in reasons}


def _lost_secrets(value: Any, path: KeyPath = ()) -> Iterator[Mistake]:
    """Find the keys of an output folder's run file whose values, being secrets, were not written."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, (dict, list)):
            yield from _lost_secrets(inner, (*path, key))
        elif is_hidden(key, inner):
            remedy = f"Set it again: --set {spelled((*path, key))}=... The run file in an output folder does not keep it."
            yield Mistake((*path, key), f"{HIDDEN} was written here in place of a password or key", remedy)


class HasPlaces(Protocol):
    """The protocol of a file that has been read and that knows the places of its keys."""

    def where(self, key: str) -> str:
        """Return the place of a key for a message."""
        ...


def located(error: LtxError, loaded: HasPlaces) -> LtxError:
    """Return an error in which every key of the file is preceded by the file and the line."""

    def place(where: str) -> str:
        found = KEY.fullmatch(where)
        return loaded.where(found[1] + found[2]) + found[3] if found else where

    return type(error).of(attrs.evolve(problem, where=place(problem.where)) for problem in error.problems)

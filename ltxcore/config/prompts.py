"""The samples for `ltx sample` to generate: a prompt, or a file of prompts, with the conditions and options of the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import attrs
import tomli

from ltxcore.conditions import AskedCondition
from ltxcore.config.load import broken_plugins, plugin_files, text_of
from ltxcore.config.locate import Lines, locate
from ltxcore.config.reading import KeyPath, Mistake, Unreadable, spelled
from ltxcore.config.run_file import ModelTable, RunFile
from ltxcore.config.sample_tables import SampleReader
from ltxcore.config.settings import parse_key, parse_value
from ltxcore.config.structure import structurer_of
from ltxcore.config.structurer import Structurer
from ltxcore.config.toml import DEEP, LARGE, REMEDY_OF_DEEP, REMEDY_OF_LARGE, document_of, excesses, parsed_toml
from ltxcore.config.validation_samples import Freeze, ValidationSample, ValidationTable
from ltxcore.errors import ConfigError, Problem
from ltxcore.files import is_file
from ltxcore.registry import Registry
from ltxcore.registry import load as load_plugins

FILES = (".toml", ".jsonl")
"""The file extensions that mark a file of prompts."""

TABLE, SAMPLES = "validation", "samples"

_OF_A_RUN = {field.name for field in attrs.fields(RunFile)} - {field.name for field in attrs.fields(ValidationTable)}
"""The keys that only a run file has, and no file with the keys of `[validation]` alone."""

OPENING = re.compile(r"[\[{\"']")
"""The characters that can begin a list, a table or a quoted string."""


@attrs.frozen
class Source:
    """The file or command line that samples were read from.

    Attributes:
        path: the file; None for a prompt on the command line.
        lines: the lines of the file's keys or, in a JSONL file, of its samples.
        prefix: the key path of the table in the file that holds the samples.
        counts: for each sample, the number of conditions that the file gives it; the conditions of the command line come after these. Empty
            until the numbers are known.
        options: the values that the command line sets, by key.
        conditions: the conditions, as they are written on the command line.
    """

    path: Path | None
    lines: Lines
    prefix: KeyPath = (TABLE,)
    counts: tuple[int, ...] = ()
    options: Mapping[str, Any] = attrs.field(factory=dict)
    conditions: tuple[str, ...] = ()

    def of(self, key: KeyPath) -> str:
        """Return the place of a key `validation....`, in the file or on the command line."""
        inner = key[1:] if key[:1] == (TABLE,) else key
        if self.counts and len(inner) > 3 and inner[0] == "samples" and inner[2] == "conditions":
            added = int(inner[3]) - self.counts[int(inner[1])]
            if added >= 0:
                return self._option(added, inner[4:])
        if key[:1] == ("--condition",):
            return self._option(int(key[1]), key[2:]) if len(key) > 1 else "--condition"
        if inner[:1] and inner[0] in self.options:
            return f"--{str(inner[0]).replace('_', '-')}"
        if self.path is None:
            return spelled(inner[2:] if inner[:1] == ("samples",) else inner)
        if self.path.suffix == ".jsonl":
            inside = f": {spelled(inner[2:])}" if len(inner) > 2 else ""
            return f"{self.path}:{self.lines.of(inner[:2])}{inside}" if inner[:1] == ("samples",) else str(self.path)
        own = (*self.prefix, *inner) if key[:1] == (TABLE,) else key
        return f"{self.path}:{self.lines.of(own)}: {spelled(own)}" if own else str(self.path)

    def _option(self, index: int, inner: KeyPath) -> str:
        return f"--condition {self.conditions[index]}" + (f": {spelled(inner)}" if inner else "")


@attrs.frozen
class LoadedSamples:
    """The samples to generate.

    Attributes:
        table: the samples, in the form of `[validation]` of a run file.
        said: the keys of the table that the file or the command line sets.
        model: the model of the file, if the file is a run file.
        registry: the installed plugins, those of the run file and those of the command line.
    """

    table: ValidationTable
    said: frozenset[str]
    model: ModelTable | None
    registry: Registry
    source: Source = attrs.field(repr=False)

    def where(self, key: str) -> str:
        """Return the place of a key `validation....` for a message."""
        return self.source.of(tuple(int(part) if part.isdecimal() else part for part in parse_key(key)))


def load_samples(
    what: str, *, conditions: Sequence[str] = (), options: Mapping[str, Any] | None = None, plugins: Sequence[Path] = ()
) -> LoadedSamples:
    """Read the samples to generate.

    Args:
        what: a prompt, or the path of a file: a run file or another TOML file with the table `[validation]`, or a JSONL file with
            the keys of a sample on each line.
        conditions: the texts `key=value,key=value` of `--condition`, which are added to every sample; paths start at the working
            directory.
        options: keys of `[validation]` that the command line sets; they override those of the file, but not the keys that a
            single sample sets.
        plugins: Python files that add conditions.

    Raises:
        ConfigError: there are mistakes; the error lists every mistake that can be found without opening a medium.
    """
    path = Path(what) if Path(what).suffix.lower() in FILES else None
    document, source = _read(path, what)
    table = document.get(TABLE, {})
    table = {**table, **(options or {})} if isinstance(table, dict) else table  # anything else is refused below
    folder = Path.cwd() if path is None else path.absolute().parent
    registry = _plugins(document, folder, plugins)
    source = attrs.evolve(source, options=options or {}, conditions=tuple(conditions))
    found, model, mistakes = _structured(document | {TABLE: table}, _options(conditions), registry, folder)
    if mistakes or found is None:
        raise ConfigError.of(Problem(mistake.what, source.of(mistake.path), mistake.remedy) for mistake in mistakes)
    if not found.samples:
        place = source.of((TABLE,))
        raise ConfigError("has no samples to generate", where=place, remedy='Write [[validation.samples]], each with a prompt = "...".')
    counts = tuple(len(sample.conditions) + len(sample.frozen) - len(conditions) for sample in found.samples)
    return LoadedSamples(found, frozenset(table), model, registry, attrs.evolve(source, counts=counts))


def _read(path: Path | None, what: str) -> tuple[dict[str, Any], Source]:
    """Read a document with `[validation]`, and return it with its source."""
    if path is None:
        return {TABLE: {"samples": [{"prompt": what}]}}, Source(None, Lines({}))
    text = text_of(path, "Name a TOML or JSONL file of prompts, or write a prompt.")
    if path.suffix.lower() == ".jsonl":
        return _of_lines(text, path)
    document = parsed_toml(text, path)
    if TABLE in document:
        return document, Source(path, locate(text))
    if SAMPLES not in document and document.keys() & _OF_A_RUN:
        remedy = f'Give a prompt in place of the file, or write [[{TABLE}.{SAMPLES}]] in it, each with a prompt = "...".'
        raise ConfigError(f"this run file has no table [{TABLE}]", where=str(path), remedy=remedy)
    return {TABLE: document}, Source(path, locate(text), prefix=())


def _of_lines(text: str, path: Path) -> tuple[dict[str, Any], Source]:
    """Return a document made from a JSONL file, with one sample for each line that is not empty, and the document's source."""
    samples, lines, problems = [], {}, []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        sample, problem = _of_line(line)
        samples.append(sample)
        if problem is not None:
            problems.append(attrs.evolve(problem, where=f"{path}:{number}"))
        lines["samples", len(samples) - 1] = number
    if problems:
        raise ConfigError.of(problems)
    return {TABLE: {"samples": samples}}, Source(path, Lines(cast(Any, lines)))


def _of_line(line: str) -> tuple[Any, Problem | None]:
    """Return the object on a line of JSON, or the reason why it cannot be read."""
    try:
        sample = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, Problem(f"is not JSON: {error.msg}, at column {error.colno}")
    except RecursionError:
        return {}, Problem(DEEP, remedy=REMEDY_OF_DEEP)
    except ValueError:  # a number with thousands of digits, which Python does not read
        return {}, Problem(LARGE, remedy=REMEDY_OF_LARGE)
    return sample, next((Problem(what, remedy=remedy) for _, what, remedy in excesses(sample)), None)


def _plugins(document: Mapping[str, Any], folder: Path, others: Sequence[Path]) -> Registry:
    """Load the installed plugins with those that a run file names and `others`.

    Raises:
        ConfigError: files are missing or are not plugins; the error lists all of them.
    """
    named, faults = plugin_files(document, folder)
    if faults:
        raise ConfigError.of(Problem(fault, "plugins") for fault in faults.values())
    files = [*named.values(), *(plugin.absolute() for plugin in others)]
    registry = load_plugins(local=[file for file in files if is_file(file)])
    wrong = [f"there is no file {file}" for file in files if not is_file(file)]
    wrong += broken_plugins(files, registry).values()
    if wrong:
        raise ConfigError.of(Problem(what, "plugins") for what in wrong)
    return registry


def _options(conditions: Sequence[str]) -> list[dict[str, Any]]:
    """Parse texts of the form `key=value,key=value` into tables.

    Raises:
        ConfigError: some texts do not have this form; the error lists all of them.
    """
    tables, problems = [], []
    for text in conditions:
        try:
            tables.append(pairs_of(text))
        except ValueError as error:
            remedy = "Write --condition type=first_frame,image_or_video=a.png."
            problems.append(Problem(str(error), f"--condition {text}", remedy))
    if problems:
        raise ConfigError.of(problems)
    return tables


def pairs_of(text: str) -> dict[str, Any]:
    """Parse a text of the form `key=value,key=value` into a table.

    Raises:
        ValueError: the text does not have this form.
    """
    return dict(_pair(part) for part in _parts(text))


def _pair(part: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    if not equals or not name.strip():
        raise ValueError(f'"{part}" is not key=value')
    return name.strip(), parse_value(value)


def _parts(text: str) -> list[str]:
    """Split a text at its commas, but not at commas inside a TOML value, even an unfinished one."""
    first, *others = text.split(",")
    parts = [first]
    for piece in others:
        if _goes_on(parts[-1], piece):
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts


def _goes_on(part: str, piece: str) -> bool:
    """Return whether the value in a part of the text is unfinished and therefore includes the text after the next comma."""
    begun = OPENING.search(part, part.find("=") + 1)
    if begun is None:
        return False
    try:
        document_of(f"value = {part[begun.start() :]}")
    except tomli.TOMLDecodeError as error:
        return str(error).endswith("(at end of document)") or "=" not in piece
    return False


def _structured(
    document: Mapping[str, Any], extra: list[dict[str, Any]], registry: Registry, folder: Path
) -> tuple[ValidationTable | None, ModelTable | None, list[Mistake]]:
    """Return the samples with the conditions of the command line, the model of a run file, and every mistake."""
    structurer = structurer_of(registry, folder, start="that file")
    reading = structurer.reading
    table = model = None
    if "model" in document:
        with suppress(Unreadable), reading.at("model"):
            model = structurer.converter.structure(document["model"], ModelTable)
    with suppress(Unreadable), reading.at(TABLE):
        table = structurer.converter.structure(document[TABLE], ValidationTable)
    reader = SampleReader(Structurer(registry, Path.cwd(), reading, start="the working directory"))
    with suppress(Unreadable), reading.at("--condition"):
        added = reader.conditions(extra)
        if table is not None:
            table = attrs.evolve(table, samples=[_with(sample, added, reader.frozen) for sample in table.samples])
    return table, model, reading.mistakes


def _with(sample: ValidationSample, conditions: Sequence[AskedCondition], frozen: Sequence[Freeze]) -> ValidationSample:
    """Return a sample with the conditions of the command line added after its own."""
    count = len(sample.conditions) + len(sample.frozen)
    return attrs.evolve(
        sample,
        conditions=[*sample.conditions, *(attrs.evolve(each, index=count + each.index) for each in conditions)],
        frozen=[*sample.frozen, *(attrs.evolve(each, index=count + each.index) for each in frozen)],
    )

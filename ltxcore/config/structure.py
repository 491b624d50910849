"""From TOML tables to the run file's attrs classes, with every mistake found on the way."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import cattrs

from ltxcore.conditions import ConditionUse
from ltxcore.config.plain import plain
from ltxcore.config.reading import Mistake, Reading, Unreadable
from ltxcore.config.sample_tables import SampleReader
from ltxcore.config.samples import ValidationSample
from ltxcore.config.scalars import described, is_a, refuse_type, register_scalars, wanted
from ltxcore.config.schema import SHIPPED_MODELS, FlowMatchingTable, ModelPath, RunFile
from ltxcore.config.tables import Key, keys_of, training_keys
from ltxcore.errors import LtxError, suggestion
from ltxcore.registry import Registry, roles_of

COMPARED = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}


def structure(data: Mapping[str, Any], registry: Registry, folder: Path) -> tuple[RunFile | None, list[Mistake]]:
    """The run file, if it could be read at all, and every mistake in it.

    Args:
        data: the TOML document.
        registry: where the names of strategies, conditions, samplers and trackers are looked up.
        folder: of the run file; relative input paths start there.
    """
    structurer = Structurer(registry, folder)
    try:
        run = structurer.converter.structure(dict(data), RunFile)
    except Unreadable:
        run = None
    return run, structurer.reading.mistakes


@attrs.define
class Structurer:
    """Hooks of a cattrs converter for tables and for what plugins name."""

    registry: Registry
    folder: Path
    reading: Reading = attrs.field(factory=Reading)
    converter: cattrs.Converter = attrs.field(factory=lambda: cattrs.Converter(detailed_validation=False))

    def __attrs_post_init__(self) -> None:
        register_scalars(self.converter, self.reading)
        self.converter.register_structure_hook_func(attrs.has, lambda value, cls: self.table(value, cls))
        self.converter.register_structure_hook(Path, lambda value, _: self.path(value))
        self.converter.register_structure_hook_func(lambda kind: kind is ModelPath, lambda value, _: self.model_path(value))
        self.converter.register_structure_hook(ConditionUse, lambda value, _: self.condition_use(value))
        self.converter.register_structure_hook(FlowMatchingTable, lambda value, _: self.flow_matching(value))
        self.converter.register_structure_hook(RunFile, lambda value, _: self.run_file(value))
        self.converter.register_structure_hook(ValidationSample, lambda value, _: SampleReader(self).sample(value))

    # ---- tables

    def table(self, value: Any, cls: Any) -> Any:
        """An object of an attrs class, from a table with its keys."""
        return self.made(cls, self.values(value, self.keys(cls)))

    def keys(self, cls: Any) -> list[Key]:
        try:
            return keys_of(cls)
        except LtxError as error:
            self.note_all(error)
            raise Unreadable from error

    def values(self, value: Any, keys: Sequence[Key], special: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The values of the keys that a table sets; unknown, missing and wrong ones are noted.

        Args:
            special: for some keys, what reads their value instead of the converter.

        Raises:
            Unreadable: a required key is missing, or a value cannot be read.
        """
        if not isinstance(value, dict):
            self.reading.refuse(f"must be a table, not {described(value)}")
        known = {key.name: key for key in keys}
        failed = False
        for name in value:
            if name not in known:
                self.reading.note("there is no such key", suggestion(name, known), below=(name,))
        read = {}
        for name, key in known.items():
            try:
                with self.reading.at(name):
                    if name in value:
                        read[name] = (
                            special[name](value[name]) if special and name in special else self.converter.structure(value[name], key.kind)
                        )
                        self._check(key, read[name])
                    elif attrs.has(key.kind) and (key.required or key.default == attrs.Factory(key.kind)):
                        read[name] = self.converter.structure({}, key.kind)
                    elif key.required:
                        self.reading.refuse(
                            "is missing", f"It is {wanted(key.kind)}: {key.help}." if key.help else f"It is {wanted(key.kind)}."
                        )
            except Unreadable:
                failed = True
        if failed:
            raise Unreadable
        return read

    def _check(self, key: Key, value: Any) -> None:
        for number in value if isinstance(value, (list, tuple)) else [value]:
            fault = key.bounds.fault(number)
            if fault:
                self.reading.refuse(f"{fault}, not {number:g}" if isinstance(number, float) else f"{fault}, not {number}")
        if key.reads:
            for path in value if isinstance(value, list) else [value]:
                if path is not None:
                    self._check_input(key.reads, path)

    def _check_input(self, reads: str, path: Path) -> None:
        found = {"file": path.is_file(), "folder": path.is_dir(), "either": path.exists()}[reads]
        if not found:
            self.reading.note(
                f"there is no {'file or folder' if reads == 'either' else reads} {path}", "Paths are relative to the run file."
            )

    def made(self, cls: Any, values: Mapping[str, Any]) -> Any:
        """An object of an attrs class; what its own validators and `problems()` say is noted, each at its key.

        Raises:
            Unreadable: the class refuses the values.
        """
        try:
            instance = cls(**values)
        except Exception as error:  # a plugin's class may raise anything, and the file is read on
            if not self._note_validators(cls, values):
                self.note_all(error)
            raise Unreadable from error
        already = {mistake.path for mistake in self.reading.mistakes}
        for path, what, remedy in getattr(instance, "problems", list)():
            if (*self.reading.path, *path) not in already:
                self.reading.note(what, remedy, below=path)
        return instance

    def _note_validators(self, cls: Any, values: Mapping[str, Any]) -> bool:
        """Run all validators, where attrs itself stops at the first; whether any of them fails."""
        bare = cls.__new__(cls)
        for field in attrs.fields(cls):
            if (field.alias or field.name) in values:
                object.__setattr__(bare, field.name, values[field.alias or field.name])
        failed = False
        for field in attrs.fields(cls):
            name = field.alias or field.name
            if field.validator is None or name not in values:
                continue
            try:
                field.validator(bare, field, values[name])
            except Exception as error:  # noqa: BLE001 (as above)
                failed = True
                with self.reading.at(name):
                    self.note_all(error, name)
        return failed

    def note_all(self, error: Exception, name: str = "") -> None:
        """Note what an error says, without its own place."""
        if isinstance(error, LtxError):
            for problem in error.problems:
                self.reading.note(problem.what, problem.remedy)
        else:
            self.reading.note(_reworded(str(error.args[0]) if error.args else type(error).__name__, name))

    # ---- values with a meaning

    def path(self, value: Any) -> Path:
        """An absolute path; relative ones start at the run file, `output_dir` at the working directory."""
        if not is_a(value, Path):
            refuse_type(self.reading, value, Path)
        if not value:
            self.reading.refuse("is an empty path")
        start = Path.cwd() if self.reading.path == ("output_dir",) else self.folder
        return Path(os.path.normpath(start / Path(value).expanduser()))

    def model_path(self, value: Any) -> str:
        if not is_a(value, str):
            refuse_type(self.reading, value, str)
        if value in SHIPPED_MODELS:
            return cast(str, value)
        if "://" in value:
            self.reading.refuse(f"{value} is an address", "Download the model first, and write the path of its file.")
        path = self.path(value)
        if not path.exists():
            self.reading.note(
                f"there is no file or folder {path}", 'Paths are relative to the run file; "tiny" is the model that comes with ltx.'
            )
        return str(path)

    # ---- what plugins name

    def chosen(self, kind: str, table: Any, key: str) -> tuple[str, Any]:
        """The name under `key` of a table, and what is registered under it."""
        if not isinstance(table, dict):
            self.reading.refuse(f"must be a table, not {described(table)}")
        spoken, names = kind.replace("_", " "), sorted(self.registry.of_kind(kind))
        with self.reading.at(key):
            if key not in table:
                self.reading.refuse(f"names no {spoken}", f"Choose one: {', '.join(names)}.")
            name = self.converter.structure(table[key], str)
            return name, self.registered(kind, name)

    def registered(self, kind: str, name: str) -> Any:
        try:
            return self.registry.get(kind, name).value
        except LtxError as error:
            self.note_all(error)
            raise Unreadable from error

    def run_file(self, value: Any) -> RunFile:
        value = {"training_strategy": {}, **value}
        values = self.values(value, self.keys(RunFile), {"training_strategy": self.strategy, "trackers": self.trackers})
        return cast(RunFile, self.made(RunFile, {**values, "strategy_name": value["training_strategy"]["name"]}))

    def strategy(self, value: Any) -> Any:
        _, cls = self.chosen("strategy", value, "name")
        return self.table({name: inner for name, inner in value.items() if name != "name"}, cls)

    def trackers(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.reading.refuse(f"must be tables, [trackers.NAME], not {described(value)}")
        read, failed = {}, False
        for name, table in value.items():
            with self.reading.at(name):
                try:
                    read[name] = self.table(table, self.registered("tracker", name))
                except Unreadable:
                    failed = True
        if failed:
            raise Unreadable
        return read

    def flow_matching(self, value: Any) -> FlowMatchingTable:
        values = self.values(value, self.keys(FlowMatchingTable))
        table = FlowMatchingTable(**values)
        with self.reading.at("timestep_sampling_mode"):
            cls = self.registered("sigma_sampler", table.timestep_sampling_mode)
        with self.reading.at("timestep_sampling_params"):
            sampler = self.table(table.timestep_sampling_params, cls)
        return attrs.evolve(table, sampler=sampler, timestep_sampling_params=plain(sampler))

    def condition_use(self, value: Any) -> ConditionUse:
        name, cls = self.chosen("condition", value, "type")
        try:
            keys = training_keys(cls)
        except LtxError as error:
            self.note_all(error)
            raise Unreadable from error
        values = self.values(value, keys)
        del values["type"]
        probability = values.pop("probability", 1.0)
        sources = {role.name: values.pop(role.source_key) for role in roles_of(cls)}
        return ConditionUse(name, self.made(cls, values), probability, sources)


def _reworded(text: str, name: str) -> str:
    """A validator's message after a key path: without the key's name, and in words."""
    text = re.sub(rf"^'?{re.escape(name)}'? (?=must|is|has)", "", text) if name else text
    compared = re.fullmatch(r"must be (>=|>|<=|<) (\S+): (.*)", text)
    return f"must be {COMPARED[compared[1]]} {compared[2]}, not {compared[3]}" if compared else text

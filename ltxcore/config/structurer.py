"""Structure a TOML table as an object of an attrs class, and find every mistake in the table."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast, get_args

import attrs
import cattrs

from ltxcore.addresses import Address, address_of, is_address
from ltxcore.config.loras import LoraPath, Strength
from ltxcore.config.parts import parted, unknown_keys
from ltxcore.config.reading import Reading, Unreadable
from ltxcore.config.run_file import SHIPPED_MODELS, ModelPath
from ltxcore.config.scalars import described, is_a, refuse_type, register_scalars, wanted
from ltxcore.config.tables import Finding, Key, keys_of
from ltxcore.config.unknown import remedy_for
from ltxcore.drawn import Drawn
from ltxcore.errors import ConfigError, LtxError, listed
from ltxcore.files import is_file, is_folder, path_from, why_unreadable
from ltxcore.registry import Registry

COMPARED = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}

NO_SUCH_KEY = "there is no such key"
"""The message for a key that its table does not have."""


@attrs.define
class Structurer:
    """A cattrs converter that reads tables strictly, and goes on after a mistake.

    Attributes:
        registry: the registry in which names of conditions, strategies and more are looked up.
        folder: the folder of the run file, where relative input paths start.
        reading: the reading in which mistakes are noted.
        converter: the cattrs converter that reads the values.
        start: the name of the run file's folder in messages.
        elsewhere: the tables whose input paths are on another machine and need not exist here.
        in_parts: the classes of tables that are read without the keys that are wrong; any other table with a mistake is not read at all.
    """

    registry: Registry
    folder: Path
    reading: Reading = attrs.field(factory=Reading)
    converter: cattrs.Converter = attrs.field(factory=lambda: cattrs.Converter(detailed_validation=False))
    start: str = "the run file"
    elsewhere: Collection[str] = ()
    in_parts: Collection[type] = ()

    def __attrs_post_init__(self) -> None:
        register_scalars(self.converter, self.reading)
        self.converter.register_structure_hook_func(attrs.has, lambda value, cls: self.table(value, cls))
        self.converter.register_structure_hook(Path, lambda value, _: self.path(value))
        self.converter.register_structure_hook_func(lambda kind: kind is ModelPath, lambda value, _: self.model_path(value))
        self.converter.register_structure_hook_func(lambda kind: Address in get_args(kind), lambda value, _: self.path_or_address(value))
        self.converter.register_structure_hook_func(lambda kind: kind is LoraPath, lambda value, _: self.lora_path(value))

    # ---- tables

    def table(self, value: Any, cls: Any) -> Any:
        """Make an object of an attrs class from a table with its keys."""
        if cls in self.in_parts:
            return self.parts(value, cls)
        return self.made(cls, self.values(value, self.keys(cls), not_here=getattr(cls, "not_here", {})))

    def parts(self, value: Any, cls: Any, special: Mapping[str, Any] | None = None, filled: Callable[[], Mapping[str, Any]] = dict) -> Any:
        """Make an object of an attrs class without the keys whose values are wrong.

        Args:
            special: functions that, in place of the converter, read the values of some keys.
            filled: a function that returns the values of fields that are not keys, called after the keys are read.
        """
        before = len(self.reading.mistakes)
        keys = self.keys(cls)
        read, failed = self._read(value, keys, special or {}, getattr(cls, "not_here", {}))
        values = {**read, **filled()}
        known = parted(cls, values, failed | unknown_keys(self.reading, before, keys, self.in_parts))
        self._note_problems(known)
        unknown = failed | unknown_keys(self.reading, before, keys, self.in_parts)
        return parted(cls, values, unknown) if unknown else cls(**values)

    def keys(self, cls: Any, of: Callable[[Any], list[Key]] = keys_of) -> list[Key]:
        """Return the keys that `of` lists for a class: by default, those of an attrs class."""
        try:
            return of(cls)
        except LtxError as error:
            self.note_all(error)
            raise Unreadable from error

    def values(
        self,
        value: Any,
        keys: Sequence[Key],
        special: Mapping[str, Any] | None = None,
        not_here: Mapping[str, tuple[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Return the values of the keys that a table sets, and note unknown, missing and wrong keys.

        Args:
            special: functions that, in place of the converter, read the values of some keys.
            not_here: keys that belong in other tables, each with the reason and the remedy.

        Raises:
            Unreadable: a required key is missing, or a value cannot be read.
        """
        read, failed = self._read(value, keys, special or {}, not_here or {})
        if failed:
            raise Unreadable
        return read

    def _read(
        self, value: Any, keys: Sequence[Key], special: Mapping[str, Any], not_here: Mapping[str, tuple[str, str]]
    ) -> tuple[dict[str, Any], set[str]]:
        """Return the values that can be read, and the keys of the values that cannot."""
        if not isinstance(value, dict):
            self.reading.refuse(f"must be a table, not {described(value)}")
        known = {key.name: key for key in keys}
        failed = set()
        for name in value:
            if name not in known:
                what, remedy = not_here.get(name, (NO_SUCH_KEY, remedy_for(name, known, self.reading.path)))
                self.reading.note(what, remedy, below=(name,))
        read = {}
        for name, key in known.items():
            try:
                with self.reading.at(name):
                    if name in value:
                        read[name] = self._value(key, value[name], special)
                    elif attrs.has(key.kind) and (key.required or key.default == attrs.Factory(key.kind)):
                        read[name] = self.converter.structure({}, key.kind)
                    elif key.required:
                        self.reading.refuse("is missing", f"Add {name}: {wanted(key.kind)}{', ' if key.help else ''}{key.help}.")
            except Unreadable:
                failed.add(name)
        return read, failed

    def _value(self, key: Key, value: Any, special: Mapping[str, Any]) -> Any:
        if isinstance(value, str) and value in key.refused:
            self.reading.refuse(*key.refused[value])
        try:
            read = special[key.name](value) if key.name in special else self.converter.structure(value, key.kind)
        except Unreadable:
            raise
        except cattrs.StructureHandlerNotFoundError:
            self.reading.refuse(f"has the type {key.kind}, which a run file cannot hold", "Report this to the plugin's author.")
        except Exception as error:  # the error that cattrs or a plugin's own type raises for a value it cannot take
            self.note_all(error)
            raise Unreadable from error
        if not isinstance(read, Drawn):
            self._check(key, read)
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
        if self._is_elsewhere:
            return
        found = {"file": is_file(path), "folder": is_folder(path), "either": is_file(path) or is_folder(path)}[reads]
        if not found:
            self._note_absence(path, "file or folder" if reads == "either" else reads, f"Paths are relative to {self.start}.")

    def _note_absence(self, path: Path, wanted: str, remedy: str) -> None:
        why = why_unreadable(path)
        if why.startswith("cannot be read"):
            self.reading.note(f"{path} {why}", "Check the permissions of the file or folder.", absent=True)
        else:
            self.reading.note(f"there is no {wanted} {path}", remedy, absent=True)

    @property
    def _is_elsewhere(self) -> bool:
        return self.reading.path[:1] != () and self.reading.path[0] in self.elsewhere

    def made(self, cls: Any, values: Mapping[str, Any]) -> Any:
        """Make an object of an attrs class, and note the errors of its validators and of `problems()` at their keys.

        Raises:
            Unreadable: the class refuses the values.
        """
        try:
            instance = cls(**values)
        except Exception as error:  # a plugin's class may raise anything, and reading of the file goes on
            if not self._note_validators(cls, values):
                self.note_all(error)
            raise Unreadable from error
        self._note_problems(instance)
        return instance

    def _note_problems(self, instance: Any) -> None:
        already = {mistake.path for mistake in self.reading.mistakes}
        for lists, absent in (("absent", True), ("problems", False)):
            with suppress(Unreadable):
                found: Iterable[Finding] = [] if absent and self._is_elsewhere else getattr(instance, lists, list)()
                for path, what, remedy in found:
                    if (*self.reading.path, *path) not in already:
                        self.reading.note(what, remedy, below=path, absent=absent)

    def _note_validators(self, cls: Any, values: Mapping[str, Any]) -> bool:
        """Run all validators, although attrs stops at the first failure, and return whether any validator fails."""
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
        """Note all problems of an error, without the places that the error names."""
        if isinstance(error, LtxError):
            for problem in error.problems:
                self.reading.note(problem.what, problem.remedy)
        else:
            self.reading.note(_reworded(_said(error), name))

    # ---- values with a meaning

    def path(self, value: Any) -> Path:
        """Return an absolute path. Relative paths start from the run file's folder, but `output_dir` from the working directory."""
        if not is_a(value, Path):
            refuse_type(self.reading, value, Path)
        if not value:
            self.reading.refuse("is an empty path")
        try:
            return path_from(Path.cwd() if self.reading.path == ("output_dir",) else self.folder, value)
        except ValueError as error:
            self.reading.refuse(str(error))

    def path_or_address(self, value: Any) -> Path | Address | None:
        """Return an address, or else what `path` returns."""
        if not isinstance(value, str) or not is_address(value):
            return None if value is None else self.path(value)
        try:
            return address_of(value)
        except ConfigError as error:
            self.reading.refuse(error.problems[0].what, error.problems[0].remedy)

    def model_path(self, value: Any) -> str:
        if not is_a(value, str):
            refuse_type(self.reading, value, str)
        if value in SHIPPED_MODELS:
            return cast(str, value)
        if "://" in value:
            self.reading.refuse(f"{value} is an address", "Download the model first, and write the path of its file.")
        path = self.path(value)
        if not (is_file(path) or is_folder(path) or self._is_elsewhere):
            remedy = f'Paths are relative to {self.start}; "tiny" is the model that comes with ltx.'
            self._note_absence(path, "file or folder", remedy)
        return str(path)

    def lora_path(self, value: Any) -> str:
        if not is_a(value, str):
            refuse_type(self.reading, value, str)
        try:
            named = Strength.split(value, self.folder)
        except ConfigError as error:
            self.reading.refuse(error.problems[0].what, error.problems[0].remedy)
        found = attrs.evolve(named, path=self.path(str(named.path)))
        if not (is_file(found.path) or self._is_elsewhere):
            self._note_absence(found.path, "file", f"Paths are relative to {self.start}.")
        return str(found)

    # ---- what plugins name

    def chosen(self, kind: str, table: Any, key: str) -> tuple[str, Any]:
        """Return the name that a table has under `key`, and the class that is registered under that name."""
        if not isinstance(table, dict):
            self.reading.refuse(f"must be a table, not {described(table)}")
        spoken, names = kind.replace("_", " "), self.registry.offered(kind)
        with self.reading.at(key):
            if key not in table:
                self.reading.refuse(f"does not name any {spoken}", f"Choose one: {', '.join(names)}.")
            name = self.converter.structure(table[key], str)
            return name, self.registered(kind, name)

    def params(self, table: Any, kind: str, name: str, params: str, beside: Mapping[str, Any]) -> Any:
        """Return an object of the class that one key of a table names, made from the inner table under another key.

        Args:
            table: the table that has both keys.
            kind: the kind of plugin.
            name: the key that names the plugin.
            params: the key of the inner table, which holds the plugin's keys.
            beside: the plugin's keys that are in the outer table.
        """
        with self.reading.at(name):
            cls = self.registered(kind, getattr(table, name))
            own = {key.name for key in self.keys(cls)}
        for key in beside:
            if key not in own:
                self.reading.note(f'the {kind.replace("_", " ")} "{getattr(table, name)}" has no {key}', "Remove it.", below=(key,))
            elif key in getattr(table, params):
                self.reading.note(f"has the same meaning as {params}.{key}", "Keep one of the two.", below=(key,))
        with self.reading.at(params):
            return self.table({**{key: value for key, value in beside.items() if key in own}, **getattr(table, params)}, cls)

    def registered(self, kind: str, name: str) -> Any:
        if kind == "optimizer" and ":" in name:
            return self.of_package(name)
        if self.registry.may_come_from_unread(kind, name):
            files = listed(map(str, self.registry.unread))
            self.reading.note(
                f'the {kind.replace("_", " ")} "{name}" was not checked',
                f"It may come from a plugin that was not loaded: {files}.",
                unread=True,
            )
            raise Unreadable
        try:
            return self.registry.get(kind, name).value
        except LtxError as error:
            self.note_all(error)
            raise Unreadable from error

    def of_package(self, target: str) -> Any:
        """Return the class of keys for the optimizer that the target names as "package.module:Class", from an installed package."""
        from ltxcore.config.packages import optimizer_of

        if not self.registry.imports:
            self.reading.note(f'the optimizer "{target}" was not checked', "It comes from a package that was not imported.", unread=True)
            raise Unreadable
        try:
            return optimizer_of(target, self.folder)
        except LtxError as error:
            self.note_all(error)
            raise Unreadable from error


def _said(error: Exception) -> str:
    """Return the message of an error, without the error number of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error.args[0]) if error.args else type(error).__name__


def _reworded(text: str, name: str) -> str:
    """Return a validator's message in plain words and without the key's name, so that it can follow a key path."""
    text = re.sub(rf"^'?{re.escape(name)}'? (?=must|is|has)", "", text) if name else text
    compared = re.fullmatch(r"must be (>=|>|<=|<) (\S+): (.*)", text)
    return f"must be {COMPARED[compared[1]]} {compared[2]}, not {compared[3]}" if compared else text

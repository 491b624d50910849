"""Write a generated sample into a run file as a validation sample, with everything else in the file, and its comments, as they are."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from ltxcore.api import ConfigError, DataError
from ltxcore.api.commands import write_whole
from ltxcore.api.config import parsed_toml
from ltxplugins.studio.try_out.form import BASIC, MORE, SIZE, Form
from ltxplugins.studio.workspace import Workspace

REMEDY = "Write [[validation.samples]] into the file by hand."


@attrs.frozen
class Change:
    """A change of a run file.

    Attributes:
        path: the run file.
        before: the text of the run file.
        after: the text with the sample.
    """

    path: Path
    before: str
    after: str

    @property
    def mark(self) -> str:
        """The mark that tells whether the file is still as it was when the change was shown."""
        return hashlib.sha256(f"{self.before}\0{self.after}".encode()).hexdigest()

    @property
    def is_first(self) -> bool:
        """Whether the run file had no sample before."""
        return not _with_samples(parsed_toml(self.before, self.path))["validation"]["samples"]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The lines of the difference, each with "+", "-" or "" before it."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=3)
        return [(line[:1].strip(), line[1:]) for line in lines if not line.startswith(("---", "+++", "@@"))]

    def write(self, mark: str) -> None:
        """Write the run file, whole or not at all.

        Args:
            mark: the mark of the change that the user saw.

        Raises:
            DataError: the file has changed since then, or cannot be written.
        """
        if mark != self.mark:
            raise DataError(f"{self.path.name} was changed since", remedy="Look at the change again.")
        try:
            write_whole(self.path, self.after.encode())
        except OSError as error:
            raise DataError(f"{self.path.name} cannot be written: {error.strerror}", remedy="Check its permissions.") from error


def change_of(workspace: Workspace, run_file: str, form: Form) -> Change:
    """Return the change that adds the sample of a form to a run file.

    Raises:
        LtxError: the run file cannot be read or changed.
    """
    path = workspace.path(run_file)
    try:
        before = path.read_bytes().decode("utf-8")
        document = tomlkit.parse(before)
    except (OSError, ValueError, TOMLKitError) as error:
        raise ConfigError(f"{run_file} cannot be read: {error}", remedy="Choose another run file, or repair it.") from error
    _add(document, sample_of(workspace, path.parent, form))
    after = _tidied(document.as_string(), before)
    expected, found = parsed_toml(before, path), parsed_toml(after, path)
    found["validation"]["samples"].pop()
    if found != _with_samples(expected):
        raise ConfigError(f"{run_file} cannot take a sample without other changes", remedy=REMEDY)
    return Change(path, before, after)


def _tidied(after: str, before: str) -> str:
    """Return the changed text with the ends of lines that the file had, and with as many at its end."""
    after = after.rstrip("\n") + "\n"
    return after.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in before else after


def _with_samples(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "validation": {**document.get("validation", {}), "samples": document.get("validation", {}).get("samples", [])}}


def sample_of(workspace: Workspace, folder: Path, form: Form) -> dict[str, Any]:
    """Return the validation sample of a form: its prompt, its seed, its size and its conditions, with paths that begin at a folder."""
    sample: dict[str, Any] = {"prompt": form["prompt"], "seed": form.seed}
    if form["width"]:
        sample["video_dims"] = [int(form[name]) for name in SIZE]
    if form.conditions:
        sample["conditions"] = [row.table(workspace, folder) for row in form.conditions]
    return sample


def left_out(form: Form) -> Iterator[str]:
    """Yield the labels of the settings that the form has and that a single sample of a run file cannot have."""
    for setting in (*BASIC[1:], *MORE):
        if form[setting.name]:
            yield setting.label
    yield from (label for name, label in (("negative_prompt", "Negative prompt"), ("preset", "Preset"), ("only", "Generate")) if form[name])


def _add(document: tomlkit.TOMLDocument, sample: dict[str, Any]) -> None:
    if "validation" not in document:
        document["validation"] = tomlkit.table()
    validation = document["validation"]
    if not isinstance(validation, Table | InlineTable) and not hasattr(validation, "get"):
        raise ConfigError("validation is not a table", remedy=REMEDY)
    samples = validation.get("samples")
    conditions = sample.pop("conditions", [])
    inside = (isinstance(samples, Array) and len(samples) > 0) or isinstance(validation, InlineTable)
    table: Any = tomlkit.inline_table() if inside else tomlkit.table()
    table.update(sample)
    if conditions:
        array = tomlkit.array()
        for condition in conditions:
            array.append(_inline(condition))
        table.append("conditions", array)
    if not inside:
        table.add(tomlkit.nl())
    if isinstance(samples, AoT) or (isinstance(samples, Array) and len(samples) > 0):
        samples.append(table)
        return
    if isinstance(validation, InlineTable):
        validation["samples"] = [table]
        return
    if samples is not None:
        del validation["samples"]
    array_of_tables = tomlkit.aot()
    array_of_tables.append(table)
    validation["samples"] = array_of_tables


def _inline(values: dict[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(values)
    return table

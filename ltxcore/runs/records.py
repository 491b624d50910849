"""The files in which a run keeps its records. They are checked when they are read, so that a file that was edited or damaged is
reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import cattrs
from cattrs import cols
from cattrs.gen import make_dict_structure_fn

from ltxcore.errors import CheckpointError
from ltxcore.files import read_regular

T = TypeVar("T")

Status = Literal["running", "stopped", "finished"]


@attrs.frozen
class SourceRecord:
    """The entry of `run.json` for one source of the data."""

    role: str
    folder: str
    samples: int
    sizes: str
    bytes: int
    seconds: float | None = None


@attrs.frozen
class SetRecord:
    """The entry of `run.json` for one of several sets: its numbers of samples, and how many of them an epoch takes."""

    root: str
    train: int
    held_out: int
    per_epoch: int


@attrs.frozen
class DataRecord:
    """The entry of `run.json` for the data; version 0.1.0 wrote no digest, only runs with several sets name sets, and only runs whose
    objectives have datasets name these.
    """

    root: str
    train: int
    held_out: int
    sources: list[SourceRecord]
    why_none_held_out: str = ""
    digest: str = ""
    sets: dict[str, SetRecord] = attrs.field(factory=dict)
    datasets: dict[str, DataRecord] = attrs.field(factory=dict)


@attrs.frozen
class FrozenRecord:
    """The entry of `run.json` for a LoRA that the run trains on top of: the name and the hash of its file."""

    name: str
    sha256: str


@attrs.frozen
class BestRecord:
    """The entry of `run.json` for the lowest validation loss: its value, the step after which it was measured, the number of
    measurements since then, and the part of the loss that counts (`best_by`).
    """

    value: float | None
    step: int
    since: int
    by: str = ""


@attrs.frozen
class StatusRecord:
    """The content of `run.json`."""

    status: Status
    held_out: list[str]
    processes: int = 1
    data: DataRecord | None = None
    before: dict[str, float] = attrs.field(factory=dict)
    after: dict[str, float] = attrs.field(factory=dict)
    left_out: int = 0
    ended: str = ""
    best: BestRecord | None = None
    frozen_loras: list[FrozenRecord] = attrs.field(factory=list)


@attrs.frozen
class FileRecord:
    """The entry for a file in the manifest of a checkpoint."""

    bytes: int
    sha256: str


@attrs.frozen
class ManifestRecord:
    """The content of a checkpoint's `manifest.json`: the step, and the files by name."""

    step: int
    files: dict[str, FileRecord]


def read_record(path: Path, kind: type[T], what: str, remedy: str) -> tuple[T, dict[str, Any]]:
    """Read a JSON file, and return its content both as an object of the class and unchanged.

    Args:
        path: the path of the file.
        kind: the attrs class that the content must match; other keys are ignored.
        what: a description of the file, such as "the status of a run".
        remedy: advice for a file that does not match.

    Raises:
        CheckpointError: the file cannot be read, or does not match the class.
    """
    try:
        found = json.loads(read_regular(path))
        return _CONVERTER.structure(found, kind), found
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}", where=str(path), remedy=remedy) from error
    except cattrs.BaseValidationError as error:
        reasons = cattrs.transform_error(error, format_exception=_reason)
        places = (line.rpartition(" @ $.") for line in reasons[:3])
        told = "; ".join(f"{place} {said}" for said, _, place in places)
        raise CheckpointError(f"is not {what}: {told}", where=str(path), remedy=remedy) from error
    except (TypeError, ValueError, RecursionError) as error:  # not a table, JSON or text; too many digits, or nested too deeply
        raise CheckpointError(f"is not {what}: the file is damaged", where=str(path), remedy=remedy) from error


def _reason(error: BaseException, _: type | None) -> str:
    return (
        "is missing" if isinstance(error, KeyError) else str(error) if isinstance(error, TypeError) else "has a value that is not possible"
    )


def _exactly(*kinds: type) -> Callable[[Any, Any], Any]:
    """Return a hook that accepts only values of these types; cattrs would turn text into a number, and anything into text."""

    def hook(value: Any, kind: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError(f"is not {_NAMES[kind]}")
        return value

    return hook


def _in(kind: type, name: str, hook: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a hook that structures a table or a list, and refuses any other iterable."""

    def checked(value: Any, target: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"is not {name}")
        return hook(value, target)

    return checked


_NAMES = {str: "a text", int: "a whole number", float: "a number"}


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for value, kinds in ((str, (str,)), (int, (int,)), (float, (float, int))):
        converter.register_structure_hook(value, _exactly(*kinds))
    for is_one, kind, name, make in (
        (attrs.has, dict, "a table", make_dict_structure_fn),
        (cols.is_mapping, dict, "a table", cols.mapping_structure_factory),
        (cols.is_sequence, list, "a list", cols.list_structure_factory),
    ):
        converter.register_structure_hook_factory(is_one, partial(_made, converter, kind, name, make))
    return converter


def _made(converter: cattrs.Converter, kind: type, name: str, make: Callable[..., Any], target: Any) -> Callable[[Any, Any], Any]:
    return _in(kind, name, make(target, converter))


_CONVERTER = _converter()

"""The contents of a run's output folder, read without running or loading anything; and the command that generates with
its result, under the conditions that it was trained with.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.conditions import length_field
from ltxcore.config.load import text_of
from ltxcore.config.sample_tables import sample_keys
from ltxcore.config.toml import parsed_toml
from ltxcore.config.validation_samples import FREEZING
from ltxcore.declarations import content_of, roles_of
from ltxcore.errors import CheckpointError, ConfigError, LtxError
from ltxcore.files import read_regular
from ltxcore.headers import INDEX, is_index, read_file
from ltxcore.models.lora_names import said_targets
from ltxcore.protocols import MODALITIES
from ltxcore.registry import Registry, load
from ltxcore.runs.run_folder import RunFolder
from ltxcore.strategy import MARKER

PROMPT = "what you want to see and hear"
MEDIA = {"video": "CLIP.mp4", "audio": "SOUND.wav"}
"""The placeholders for the user's own files, by modality."""

FACTORS = ("downscale_factor", "temporal_scale_factor")
"""The factors of a reference: keys of its table and, prefixed with "reference_", of the LoRA's metadata."""


@attrs.frozen
class Series:
    """Values by step, in order of the steps."""

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, first: float, last: float) -> Series:
        """Return the measurements after step `first`, up to and including step `last`."""
        kept = [(step, value) for step, value in zip(self.steps, self.values, strict=True) if first < step <= last]
        return of_pairs(kept)


def of_pairs(pairs: Iterable[tuple[int, float]]) -> Series:
    pairs = list(pairs)
    return Series(tuple(step for step, _ in pairs), tuple(value for _, value in pairs))


@attrs.frozen
class Drawn:
    """A sample that was generated: the step, its name, and its file."""

    step: int
    name: str
    path: Path

    @property
    def original(self) -> Path | None:
        """The held-out clip that it was generated from, if that is stored beside it."""
        first, _, rest = self.path.name.removeprefix("step_").partition("_")
        beside = self.path.with_name(f"original_{rest}")
        return beside if first.isdecimal() and beside.is_file() else None


@attrs.frozen
class Weights:
    """The file of trained weights, or the index of its parts: its size in bytes, the count of numbers that it holds, and its metadata."""

    path: Path
    size: int
    parameters: int
    metadata: Mapping[str, str]
    parts: tuple[Path, ...] = ()

    @property
    def targets(self) -> list[str]:
        """The modules that a LoRA says it adapts; none if it does not say."""
        return said_targets(self.metadata)

    @property
    def marks_first_frame(self) -> bool | None:
        """Whether the model was told which frame is a clip's first; None if the file does not say."""
        return self.metadata[MARKER] == "true" if MARKER in self.metadata else None


@attrs.frozen
class Record:
    """The record of a run.

    Attributes:
        folder: the run's output folder.
        text: the run file.
        run: the content of the run file.
        status: how far the run got, what was held out, and what it was trained on.
        series: the values of each metric over steps, by name.
        drawn: the generated samples, in the order in which they were generated.
        weights: the trained weights; None if the run did not finish.
    """

    folder: Path
    text: str
    run: Mapping[str, Any]
    status: Mapping[str, Any]
    series: Mapping[str, Series]
    drawn: tuple[Drawn, ...]
    weights: Weights | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def last_step(self) -> int:
        return max((series.steps[-1] for series in self.series.values() if len(series)), default=0)

    @property
    def total_steps(self) -> int:
        steps = self.get("optimization.steps")
        return steps if isinstance(steps, int) else 0

    @property
    def seconds(self) -> float:
        """The seconds spent in optimizer steps."""
        return math.fsum(self.series.get("step_seconds", Series()).values)

    @property
    def modalities(self) -> dict[str, Mapping[str, Any]]:
        """The tables of the run file's modalities, if its strategy has such tables."""
        strategy = self.run.get("training_strategy")
        tables = strategy.items() if isinstance(strategy, Mapping) else ()
        return {name: table for name, table in tables if isinstance(table, Mapping) and "is_generated" in table}

    @property
    def ranks(self) -> str:
        """The ranks that a LoRA's adapters may have, in words."""
        groups = (group.get("rank") for group in self.get("lora.groups", []))
        found = sorted({rank for rank in (self.get("lora.rank"), *groups) if rank is not None})
        return " to ".join(str(rank) for rank in dict.fromkeys(found[:1] + found[-1:]))

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of the run file by its key path."""
        value: Any = self.run
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else value


def read_run(folder: Path) -> Record:
    """Read a run's output folder, whether it is finished or not.

    Raises:
        ConfigError: the folder is not the output folder of a run.
        CheckpointError: its status or its run file cannot be read.
    """
    folder = folder.absolute()
    place = RunFolder(folder)
    status = place.status()
    if status is None or not place.run_file.is_file():
        raise ConfigError(
            "this is not the output folder of a run", where=str(folder), remedy="Name the output_dir of a run file that `ltx run` has run."
        )
    text, run = _run_file(place.run_file)
    lines = list(_lines(place.metrics))
    drawn = [Drawn(line["step"], str(line["sample"]), folder / str(line.get("path"))) for line in lines if "sample" in line]
    latest = {(sample.step, sample.path): sample for sample in drawn if _is_within(sample.path, folder)}
    files = [place.weights(mode) for mode in ("lora", "full")]
    found = (*files, *(path.with_name(path.name + INDEX) for path in files))
    weights = next((_weights(path) for path in found if path.is_file()), None)
    return Record(folder, text, run, status, series_of(lines), tuple(latest.values()), weights)


def _run_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text and the content of a run's run file."""
    try:
        text = text_of(path)
        return text, parsed_toml(text, path)
    except ConfigError as error:
        first = error.problems[0]
        raise CheckpointError(first.what, where=first.where, remedy="Restore it.") from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`; the last may be cut off if the run is still writing or was killed."""
    if path.is_file():
        for line in read_regular(path).splitlines():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and isinstance(found.get("step"), int):
                yield found


def series_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """Return the numbers in lines of `metrics.jsonl`, by name. If a step is there twice because the run was resumed,
    its last value counts; values that are not finite are left out.
    """
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
                found.setdefault(name, {})[int(line["step"])] = float(value)
    return {name: of_pairs(sorted(values.items())) for name, values in found.items()}


def _is_within(path: Path, folder: Path) -> bool:
    """Return whether a generated sample is a file of this run: a folder from elsewhere must not bring files of this machine into a page."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _weights(path: Path) -> Weights | None:
    try:
        slots = read_file(path)
    except LtxError:
        return None
    size, count = sum(file.stat().st_size for file in slots.files), sum(slot.count for slot in slots.slots.values())
    return Weights(path, size, count, slots.metadata, tuple(slots.files) if is_index(path) else ())


def sample_command(record: Record, weights: Weights) -> str:
    """Return the command line of `ltx sample` with the LoRA or the whole model of a run; words in capitals stand for
    the user's own files.
    """
    whole = weights.path.name.startswith("model")
    trigger = str(record.get("preprocessing.lora_trigger", ""))
    words = ["ltx", "sample", f"{trigger} {PROMPT}".strip()]
    words += ["--model", str(weights.path if whole else record.get("model.model_path"))]
    words += [] if whole else ["--lora", str(weights.path)]
    for condition in _conditions(record, weights, load()):
        words += ["--condition", condition]
    words += [f"--no-generate-{modality}" for modality in MODALITIES if modality not in record.modalities and record.modalities]
    return shlex.join([*words, "-o", "sample.wav" if set(record.modalities) == {"audio"} else "sample.mp4"])


def _conditions(record: Record, weights: Weights, registry: Registry) -> Iterator[str]:
    """Return frozen modalities and the conditions of the others, as `--condition` takes them. For types that are not
    installed, only the name is known.
    """
    freezing = {modality: kind for kind, modality in FREEZING.items()}
    known = registry.of_kind("condition")
    for modality, table in record.modalities.items():
        if not table["is_generated"]:
            yield _written({"type": freezing[modality], modality: MEDIA[modality]})
        for condition in table.get("conditions", []):
            named = known.get(str(condition.get("type")))
            if named is None:
                yield _written({"type": condition.get("type")})
            elif table["is_generated"] or content_of(named.value) is None:
                yield _written(_condition(condition, named.value, modality, weights.metadata))


def _condition(table: Mapping[str, Any], cls: Any, modality: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    keys = {key.name for key in sample_keys(cls, modality)}
    found: dict[str, Any] = {"type": table["type"]}
    length = length_field(cls)
    found |= {key: value for key, value in table.items() if key in keys and key not in ("type", *MEDIA)}
    if content_of(cls) is not None:
        still = "image_or_video" in keys and content_of(cls) == "start" and length is None
        found |= {"image_or_video": "FRAME.png"} if still else {modality: MEDIA[modality]}
    for role in roles_of(cls):
        key = role.media_key or (modality if role.kind == "latents" else role.name)
        found[key] = f"REFERENCE{Path(MEDIA[modality]).suffix}" if role.kind == "latents" else f"MASK{Path(MEDIA[modality]).suffix}"
        said = {factor: metadata[f"reference_{factor}"] for factor in FACTORS if f"reference_{factor}" in metadata}
        found |= said if role.kind == "latents" and modality == "video" else {}
    return found


def _written(table: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in table.items())

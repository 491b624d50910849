"""Read the output folder of a run without running or loading anything, and write the command that generates a sample with the run's result,
under the conditions of its training.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from ltxcore.condition_metadata import FACTORS, references_in
from ltxcore.conditions import length_field
from ltxcore.config.load import text_of
from ltxcore.config.loras import Strength, strengths
from ltxcore.config.render import value_text
from ltxcore.config.sample_tables import media_key, sample_keys
from ltxcore.config.toml import parsed_toml
from ltxcore.config.validation_samples import FREEZING
from ltxcore.declarations import content_of, roles_of
from ltxcore.drawn import first_value
from ltxcore.errors import CheckpointError, ConfigError, LtxError
from ltxcore.files import read_regular
from ltxcore.headers import INDEX, is_index, read_file
from ltxcore.modality_tables import MARKER
from ltxcore.models.adapter_types import LORA, title_of
from ltxcore.models.inventory import type_in
from ltxcore.models.lora_names import said_targets
from ltxcore.protocols import MODALITIES
from ltxcore.registry import Registry, load
from ltxcore.runs.checkpoint import found, weights_in
from ltxcore.runs.run_folder import RunFolder

PROMPT = "what you want to see and hear"
MEDIA = {"video": "CLIP.mp4", "audio": "SOUND.wav"}
"""The placeholders for the user's own files, by modality."""


@attrs.frozen
class Series:
    """The values of a metric by step, in the order of the steps."""

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
    """A generated sample: the step, the name, and the file."""

    step: int
    name: str
    path: Path

    @property
    def original(self) -> Path | None:
        """The held-out clip that the sample was generated from, if the clip is stored beside the sample."""
        first, _, rest = self.path.name.removeprefix("step_").partition("_")
        beside = self.path.with_name(f"original_{rest}")
        return beside if first.isdecimal() and beside.is_file() else None


@attrs.frozen
class Weights:
    """The file of trained weights, or the index of several files: the size in bytes, the number of parameters, the metadata, and the type
    of the adapters, which is "" for a whole model.
    """

    path: Path
    size: int
    parameters: int
    metadata: Mapping[str, str]
    parts: tuple[Path, ...] = ()
    type: str = ""

    @property
    def targets(self) -> list[str]:
        """The modules that a LoRA adapts, according to its metadata; empty if the metadata do not name them."""
        return said_targets(self.metadata)

    @property
    def marks_first_frame(self) -> bool | None:
        """Whether the model was trained with the first-frame marker; None if the file does not tell."""
        return self.metadata[MARKER] == "true" if MARKER in self.metadata else None

    @property
    def references(self) -> list[dict[str, str]]:
        """What the metadata record of each reference, if the model was trained with several on one modality: the modality, the type, the
        folder, and the factors that are not 1.
        """
        with suppress(ValueError):
            return references_in(self.metadata)
        return []


@attrs.frozen
class Record:
    """The record of a run.

    Attributes:
        folder: the run's output folder.
        text: the text of the run file.
        run: the values in the run file.
        status: the record of the run's progress, its held-out samples, and its data.
        series: the values of each metric over steps, by name.
        drawn: the generated samples, in the order in which they were generated.
        weights: the trained weights; None if the run did not finish.
        more: the files beside the trained weights that a finished run keeps: their average, and the weights with the lowest validation loss.
    """

    folder: Path
    text: str
    run: Mapping[str, Any]
    status: Mapping[str, Any]
    series: Mapping[str, Series]
    drawn: tuple[Drawn, ...]
    weights: Weights | None
    more: tuple[Weights, ...] = ()

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
        """The seconds that the run spent in optimizer steps."""
        return math.fsum(self.series.get("step_seconds", Series()).values)

    @property
    def modalities(self) -> dict[str, Mapping[str, Any]]:
        """The tables of the modalities in the run file, if its strategy has such tables."""
        strategy = self.run.get("training_strategy")
        tables = strategy.items() if isinstance(strategy, Mapping) else ()
        return {name: table for name, table in tables if isinstance(table, Mapping) and "is_generated" in table}

    @property
    def ranks(self) -> str:
        """The ranks that a LoRA's adapters may have, in words."""
        groups = (group.get("rank") for group in self.get("lora.groups", []))
        found = sorted({rank for rank in (self.get("lora.rank"), *groups) if rank is not None})
        return " to ".join(str(rank) for rank in dict.fromkeys(found[:1] + found[-1:]))

    @property
    def adapters(self) -> str:
        """The type and the ranks of the adapters that the run trained, in words, such as "LoKr of rank 16"."""
        return f"{title_of(self.get('lora.type', LORA))} of rank {self.ranks}"

    @property
    def frozen_loras(self) -> list[Strength]:
        """The LoRAs that the run trained on top of."""
        return strengths(self.get("model.loras", []))

    @property
    def micro_batch(self) -> str:
        """The size of a micro-batch in words, such as "2 samples" or "up to 8,192 tokens"."""
        tokens, samples = self.get("optimization.tokens_per_batch"), self.get("optimization.batch_size", 1)
        return f"{samples} sample{'s' * (samples != 1)}" if tokens is None else f"up to {tokens:,} tokens"

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the run file, given its key path."""
        value: Any = self.run
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else value


def read_run(folder: Path | str) -> Record:
    """Read a run's output folder, whether it is finished or not.

    Raises:
        ConfigError: the folder is not the output folder of a run.
        CheckpointError: the status of the run or its run file cannot be read.
    """
    folder = Path(folder).absolute()
    place = RunFolder(folder)
    status = place.status()
    if status is None or not place.run_file.is_file():
        raise ConfigError(
            "this is not the output folder of a run", where=str(folder), remedy="Name the output_dir of a run that `ltx run` started."
        )
    text, run = _run_file(place.run_file)
    lines = list(_lines(place.metrics))
    drawn = [Drawn(line["step"], str(line["sample"]), folder / str(line.get("path"))) for line in lines if "sample" in line]
    latest = {(sample.step, sample.path): sample for sample in drawn if _is_within(sample.path, folder)}
    weights = _result(place)
    more = [_result(place, averaged=True), *(_weights(path) for best in found(place.best) for path in weights_in(best))] if weights else []
    return Record(folder, text, run, status, series_of(lines), tuple(latest.values()), weights, tuple(filter(None, more)))


def _run_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text and the content of a run's run file."""
    try:
        text = text_of(path)
        return text, parsed_toml(text, path)
    except ConfigError as error:
        first = error.problems[0]
        raise CheckpointError(first.what, where=first.where, remedy="Restore it.") from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`; the last line may be cut off if the run is still writing or was killed."""
    if path.is_file():
        for line in read_regular(path).splitlines():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and isinstance(found.get("step"), int):
                yield found


def series_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """Return the numbers in lines of `metrics.jsonl`, by name. If a step occurs twice because the run was resumed, its last value
    counts; values that are not finite are left out.
    """
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
                found.setdefault(name, {})[int(line["step"])] = float(value)
    return {name: of_pairs(sorted(values.items())) for name, values in found.items()}


def _is_within(path: Path, folder: Path) -> bool:
    """Return whether a generated sample is a file of this run; a folder from elsewhere must not put other files of this machine into a
    page.
    """
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _result(place: RunFolder, averaged: bool = False) -> Weights | None:
    """Return the final weights in an output folder, or their average; None if there are none."""
    files = [place.weights(mode, averaged) for mode in ("lora", "full")]
    paths = (*files, *(path.with_name(path.name + INDEX) for path in files))
    return next((_weights(path) for path in paths if path.is_file()), None)


def _weights(path: Path) -> Weights | None:
    try:
        slots = read_file(path)
    except LtxError:
        return None
    size, count = sum(file.stat().st_size for file in slots.files), sum(slot.count for slot in slots.slots.values())
    return Weights(path, size, count, slots.metadata, tuple(slots.files) if is_index(path) else (), type_in(slots))


def sample_command(record: Record, weights: Weights, registry: Registry | None = None) -> str:
    """Return the command line of `ltx sample` with the LoRA or the whole model of a run; words in capitals stand for
    the user's own files. `registry` has the plugins that the run used; by default, only installed ones are known.
    """
    whole = weights.path.name.startswith("model")
    trigger = str(record.get("preprocessing.lora_trigger", ""))
    words = ["ltx", "sample", f"{trigger} {PROMPT}".strip()]
    words += ["--model", str(weights.path if whole else record.get("model.model_path"))]
    for part in ("text_encoder", "connectors", "video_vae", "audio_vae"):
        path = record.get(f"model.{part}_path")
        words += [f"--{part.replace('_', '-')}-path", str(path)] if path else []
    loras = [*record.get("model.loras", []), *([] if whole else [weights.path])]
    words += [word for lora in loras for word in ("--lora", str(lora))]
    plugins = record.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else ():
        words += ["--plugin", str(plugin)]
    sigmas = record.get("validation.sigmas")
    if sigmas:
        words += ["--sigmas", sigmas if isinstance(sigmas, str) else ",".join(map(str, sigmas))]
    for condition in _conditions(record, weights, registry or load()):
        words += ["--condition", condition]
    words += [f"--no-generate-{modality}" for modality in MODALITIES if modality not in record.modalities and record.modalities]
    return shlex.join([*words, "-o", "sample.wav" if set(record.modalities) == {"audio"} else "sample.mp4"])


def _conditions(record: Record, weights: Weights, registry: Registry) -> Iterator[str]:
    """Yield the frozen modalities, and the conditions on the other modalities, in the form that `--condition` takes. For a condition type
    that is not installed, only the name is returned. Of each choice, the first list is taken.
    """
    freezing = {modality: kind for kind, modality in FREEZING.items()}
    known = registry.of_kind("condition")
    for modality, table in record.modalities.items():
        if not table["is_generated"]:
            yield _written({"type": freezing[modality], modality: MEDIA[modality]})
        for condition in [*table.get("conditions", []), *(each for choice in table.get("choices", []) for each in choice["one_of"][0])]:
            named = known.get(str(condition.get("type")))
            if named is None:
                yield _written({"type": condition.get("type")})
            elif table["is_generated"] or content_of(named.value) is None:
                yield _written(_condition(condition, named.value, modality, weights))


def _condition(table: Mapping[str, Any], cls: Any, modality: str, weights: Weights) -> dict[str, Any]:
    keys = {key.name for key in sample_keys(cls, modality)}
    found: dict[str, Any] = {"type": table["type"]}
    length = length_field(cls)
    found |= {key: first_value(value) for key, value in table.items() if key in keys and key not in ("type", *MEDIA)}
    if content_of(cls) is not None:
        still = "image_or_video" in keys and content_of(cls) == "start" and length is None
        found |= {"image_or_video": "FRAME.png"} if still else {modality: MEDIA[modality]}
    for role in roles_of(cls):
        key = media_key(cls, role, modality)
        suffix = Path(MEDIA[modality]).suffix
        named = (modality, table.get(role.source_key))
        own = (each for each in weights.references if (each.get("modality"), each.get(role.source_key)) == named)
        told = next(own, weights.metadata)
        found[key] = {
            "latents": f"{told.get(role.source_key, 'reference').upper()}{suffix}",
            "mask": f"MASK{suffix}",
            "pictures": ["FIRST.png", "LAST.png"],
            "values": "VALUES.json",
        }[role.kind]
        found |= {"frames": [0, -1]} if role.kind == "pictures" else {}
        said = {factor: told[name] for factor, name in FACTORS.items() if name in told}
        found |= said if role.kind == "latents" and modality == "video" else {}
    return found


def _written(table: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value if isinstance(value, str) else value_text(value)}" for key, value in table.items())

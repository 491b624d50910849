"""Which samples are compared: columns of runs, steps and LoRA strengths, and a row for each prompt and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import LtxError
from ltxcore.api.runs import Drawn, Record
from ltxplugins.studio.jobs import Job
from ltxplugins.studio.runs.screen import Media, media_of, playable
from ltxplugins.studio.studio import PLAYED, Studio

Key = tuple[str, int]
"""What makes a row: the prompt or the name of a sample, and the seed of its noise."""

SEED = 42
"""The seed of a run's samples if its run file names none."""


@attrs.frozen
class Column:
    """Samples that were generated with the same weights.

    Attributes:
        id: tells the column from others, in addresses.
        title: where the samples come from: a run, or LoRAs with their strengths.
        detail: the step, or "".
        samples: the generated samples, by row.
    """

    id: str
    title: str
    detail: str
    samples: Mapping[Key, Media]


@attrs.frozen
class Line:
    """A row of the grid: the prompt, the seed, and a sample or None for each column."""

    prompt: str
    seed: int
    cells: tuple[Media | None, ...]


def of_run(studio: Studio, name: str, record: Record) -> list[Column]:
    """Return a column for each step at which a run generated samples."""
    steps: dict[int, dict[Key, Media]] = {}
    for drawn in record.drawn:
        if media := media_of(studio, drawn):
            steps.setdefault(drawn.step, {})[drawn.name, _seed(record, drawn)] = media
    return [Column(f"{name}@{step}", name, _step(step), samples) for step, samples in sorted(steps.items())]


def _step(step: int) -> str:
    return f"step {step:,}" if step else "before training"


def _seed(record: Record, drawn: Drawn) -> int:
    """Return the seed of a run's sample: that of its own table in the run file, or the one of all samples."""
    number = drawn.path.stem.rpartition("_")[2]
    tables = record.get("validation.samples", [])
    own = tables[int(number) - 1] if number.isdecimal() and 0 < int(number) <= len(tables) else {}
    seed = own.get("seed") if isinstance(own, Mapping) else None
    found = record.get("validation.seed", SEED) if seed is None else seed
    return found if isinstance(found, int) else SEED


def of_strengths(studio: Studio, jobs: Sequence[Job]) -> list[Column]:
    """Return a column for each set of LoRAs with strengths that samples were generated with under Try. Of samples with the same prompt and
    seed, the last one counts.
    """
    found: dict[str, dict[Key, Media]] = {}
    for job in jobs:
        if job.kind == "sample" and job.state == "done" and (media := _made(studio, job)):
            found.setdefault(_weights(job.about), {})[str(job.about.get("prompt", job.title)), _number(job.about.get("seed"))] = media
    return [Column(f"try@{title}", title, "", samples) for title, samples in sorted(found.items())]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else SEED


def _weights(about: Mapping[str, Any]) -> str:
    """Return the LoRAs of a sample with their strengths, in words."""
    loras = about.get("loras")
    pairs = [each for each in loras if isinstance(each, list) and len(each) == 2] if isinstance(loras, list) else []
    return (
        " and ".join(f"{name} at {strength:g}" if isinstance(strength, int | float) else str(name) for name, strength in pairs) or "no LoRA"
    )


def _made(studio: Studio, job: Job) -> Media | None:
    """Return the file that a sample's command wrote."""
    try:
        folder = studio.workspace.path(str(job.about["output"])) if job.about.get("output") else None
    except LtxError:
        return None
    files: list[Path] = []
    if folder is not None and folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PLAYED and not path.name.startswith("."))
    elif folder is not None and folder.is_file():
        files = [folder]
    return playable(studio, files[0], job.title) if files else None


def grid(columns: Sequence[Column]) -> list[Line]:
    """Return the rows of a grid; rows that most columns have come first."""
    keys = list(dict.fromkeys(key for column in columns for key in column.samples))
    keys.sort(key=lambda key: -sum(key in column.samples for column in columns))
    return [Line(prompt, seed, tuple(column.samples.get((prompt, seed)) for column in columns)) for prompt, seed in keys]


def first_choice(columns: Sequence[Column]) -> list[str]:
    """Return the columns to show until the user chooses: the first and the last step of each run, and up to four strengths."""
    runs: dict[str, list[Column]] = {}
    for column in columns:
        if not column.id.startswith("try@"):
            runs.setdefault(column.title, []).append(column)
    ends = [
        column.id
        for own in runs.values()
        for column in ({own[0].id: own[0], own[-1].id: own[-1]} if len(runs) == 1 else {own[-1].id: own[-1]}).values()
    ]
    return ends or [column.id for column in columns][:4]

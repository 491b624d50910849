"""Small runs whose condition reads values from a column of a plugin, both in a file beside the run file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from helpers.raw_media import SECONDS, dataset_file, sound_file
from helpers.training_runs import put, put_sound, tables, write_run
from ltxcore.config.load import LoadedRun, load_run

PACE = '''
"""Numbers that go with a sound, and a condition that appends a token for each of them."""

import attrs

from ltxcore.api import Role, hookimpl


@attrs.frozen
class Pace:
    """Numbers that go with a sound."""

    kind = "values"
    modality = "audio"
    shape = ("N",)

    unit: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata={"help": "the number that counts as 1"})

    def encode(self, cell):
        return cell.numbers() / self.unit


@attrs.frozen
class Paced:
    """Append a token for each number."""

    modalities = frozenset({"audio"})
    roles = (Role("pace", source_key="pace_dir", kind="values", shape=("N",), column="pace"),)
    appends = True

    gain: float = attrs.field(default=1.0, metadata={"help": "what the numbers are multiplied with"})
    at: int = attrs.field(default=0, metadata={"help": "the place of the first token"})

    def apply(self, state, inputs):
        pace = inputs.values("pace") * self.gain
        tokens = pace[..., None].expand(-1, -1, state.clean.shape[-1])
        return state.append(tokens, state.positions[:, :, self.at : self.at + pace.shape[1]])


@hookimpl
def ltx_columns():
    return {"pace": Pace}


@hookimpl
def ltx_conditions():
    return {"paced": Paced}
'''


def unit(value: float) -> str:
    """What a sample records that was encoded with this unit."""
    return f'{{"pace": {{"unit": {value}}}}}'


def paced_set(root: Path, count: int = 12, column: str = unit(2.0)) -> Path:
    """Sounds with two numbers each, which record how they were encoded."""
    for number in range(count):
        put_paced(root, number, column)
    return root


def put_paced(root: Path, number: int, column: str) -> None:
    name = put_sound(root, number)
    put(root, "pace", name, {"values": torch.tensor([1.0, 0.5]) * number}, fingerprint=name, origin=f"{name}.wav", column=column)


def raw_set(folder: Path, *paces: list[float]) -> Path:
    """A dataset of sounds, each with its numbers."""
    rows = []
    for index, pace in enumerate(paces):
        sound_file(folder / f"{index}.wav", hertz=300.0 + 50 * index, seconds=SECONDS)
        rows.append({"audio": f"{index}.wav", "caption": f"sound {index}", "pace": pace})
    return dataset_file(folder / "set.jsonl", rows)


def paced_run(folder: Path, condition: dict[str, Any] | None = None, name: str = "run.toml", **changed: Any) -> LoadedRun:
    """A run of `folder/data` into `folder/out`, which generates a sample for the numbers 2 and 4; `condition` are keys of its condition."""
    (folder / "pace.py").write_text(PACE)
    (folder / "two.json").write_text(json.dumps([2, 4]))
    sample = {"prompt": "a sound", "conditions": [{"type": "paced", "pace": "two.json"}]}
    own = {
        "training_strategy": {
            "audio": {
                "is_generated": True,
                "latents_dir": "audio_latents",
                "conditions": [{"type": "paced", "pace_dir": "pace", **(condition or {})}],
            }
        },
        "validation": {"samples": [sample], "video_dims": [64, 64, 17], "frame_rate": 16.0},
        **changed,
    }
    run = {"plugins": ["pace.py"], **tables(folder / "data", folder / "out", **own)}
    run["data"] = {key: value for key, value in run["data"].items() if value is not None}
    return load_run(write_run(folder, run, name))

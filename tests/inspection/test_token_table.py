"""The tables say it all, in 80 columns."""

from __future__ import annotations

import io
from pathlib import Path

import attrs
import torch
from rich.console import Console

from helpers.inspected_sets import AUDIO, VIDEO, av_run, av_set, seen_of
from ltxcore.inspection.seen import Seen
from ltxcore.inspection.token_table import tables


def shown(seen: list[Seen]) -> str:
    console = Console(file=io.StringIO(), width=80)
    for title, table in tables(seen):
        console.print(title)
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return "\n".join(" ".join(line.strip("─ ").split()) for line in text.splitlines() if line.strip("─ "))


def test_a_run_of_both_modalities_is_shown(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (seen,) = seen_of(av_run(tmp_path))
    first, second = seen.micro_batch.names
    video, audio = seen.inputs["video"], seen.inputs["audio"]
    given = video.applied["video.cond1.first_frame"].tolist()
    masked = audio.applied["audio.cond0.mask"].tolist()
    assert (given, masked, video.tokens.shape[1]) == ([True, False], [True, True], 24), "what the text below shows"
    sigma = {name: [f"{value:.3f}" for value in sorted(inputs.sigma.tolist())] for name, inputs in seen.inputs.items()}
    v, a = ([f"{value:.3f}" for value in inputs.sigma.tolist()] for inputs in (video, audio))
    assert shown([seen]).splitlines() == [
        "What the model sees: tokens of a sample, in 2 samples",
        "video, generated audio, generated",
        "generated 16 to 24 2",
        "given 0 to 8 2",
        "given in part 0 4",
        "appended 0 0",
        "in the loss 16 to 24 2",
        f"sigma {sigma['video'][0]} to {sigma['video'][1]} {sigma['audio'][0]} to {sigma['audio'][1]}",
        f"timesteps 0.000 to {sigma['video'][1]} 0.000 to {sigma['audio'][1]}",
        "lies at, seconds 0.00 to 1.06 0.00 to 0.29",
        "lies at, pixels 128 x 64 -",
        "Conditions",
        "condition applied to",
        "video.cond0.reference 0 of 2 samples",
        "video.cond1.first_frame 1 of 2 samples",
        "audio.cond0.mask 2 of 2 samples",
        "Step 1",
        "sample generated given part appended in loss sigma cond",
        f"{first} video 16 8 0 0 16 {v[0]} 1",
        f"audio 2 2 4 0 2 {a[0]} 0",
        f"{second} video 24 0 0 0 24 {v[1]} -",
        f"audio 2 2 4 0 2 {a[1]} 0",
    ]


def test_losses_and_parts_of_a_step_are_shown_where_there_are_any(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    frozen = {"is_generated": False, "latents_dir": "latents"}
    (seen, _) = seen_of(av_run(tmp_path, video=frozen, audio=AUDIO, optimization={"gradient_accumulation_steps": 2, "batch_size": 1}))
    text = shown([attrs.evolve(seen, losses={"audio": torch.tensor([0.25])})])
    lines = text.splitlines()
    assert lines[:2] == ["What the model sees: tokens of a sample, in 1 sample", "video, frozen audio, generated"]
    assert lines[-4:-1] == [
        "Step 1, micro-batch 1 of 2",
        "sample generated given part appended in loss sigma loss cond",
        f"{seen.micro_batch.names[0]} video 0 24 0 0 0 0.000 - -",
    ]
    assert " 0.2500 " in lines[-1]


def test_a_run_without_conditions_has_no_table_of_them(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    bare = {**VIDEO, "conditions": []}
    (seen,) = seen_of(av_run(tmp_path, video=bare, audio=None, lora={"target_modules": ["attn1.to_q"]}))
    assert "Conditions" not in shown([seen])

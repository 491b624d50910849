"""Whether generation marks the first frame: as what is used was trained, else as the model's makers do it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.marker_made import model_with_marker
from ltxcore.config.loras import Strength
from ltxcore.errors import ConfigError
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.load_base import describe
from ltxcore.sample.marker import Marking, marking_of

NEW = ModelInfo("ltx-2.5.safetensors", "2.5", "", 48, takes_marker=True)
OLD = ModelInfo("ltx-2.3.safetensors", "2.3", "", 48)
OURS = {"timestep_rule": "split", "generation": "2.5", "target_modules": json.dumps(["attn1.to_q", "audio_attn1.to_q"])}


def lora(folder: Path, name: str, metadata: Mapping[str, str]) -> Strength:
    save_file({"diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(1, 1)}, folder / name, metadata=dict(metadata))
    return Strength(folder / name)


def test_without_a_lora_the_first_frame_is_marked_where_the_model_takes_the_marker() -> None:
    assert marking_of([], NEW) == Marking(True)
    assert marking_of([], OLD) == Marking(False)
    assert marking_of([], NEW, False) == Marking(False)
    assert marking_of([], OLD, True) == Marking(False, ("The model ltx-2.3.safetensors has no first-frame marker.",))


def test_a_lora_is_used_as_it_was_trained_and_that_it_is_not_marked_is_said(tmp_path: Path) -> None:
    marked, plain = (lora(tmp_path, f"{told}.safetensors", {**OURS, "mark_first_frame": told}) for told in ("true", "false"))
    assert marking_of([marked], NEW) == Marking(True)
    assert marking_of([plain], NEW) == Marking(
        False, (f"The first frame is not marked, since {plain.path} was trained without the marker; --mark-first-frame marks it.",)
    )
    assert marking_of([plain], NEW, True) == Marking(
        True, (f"{plain.path} was trained without the first-frame marker, but is used with it.",)
    )


def test_a_lora_that_ltx_made_before_there_was_the_marker_was_trained_without_and_those_of_sound_and_of_others_do_not_tell(
    tmp_path: Path,
) -> None:
    older = lora(tmp_path, "older.safetensors", OURS)
    assert not marking_of([older], NEW).marks
    sound = lora(tmp_path, "sound.safetensors", {**OURS, "target_modules": json.dumps(["audio_attn1.to_q", "audio_ff.net.2"])})
    others = lora(tmp_path, "others.safetensors", {})
    assert marking_of([sound, others], NEW) == Marking(True)
    assert not marking_of([sound, others, older], NEW).marks


def test_two_loras_that_were_trained_differently_leave_the_choice_to_the_user(tmp_path: Path) -> None:
    both = [lora(tmp_path, f"{told}.safetensors", {**OURS, "mark_first_frame": told}) for told in ("true", "false")]
    with pytest.raises(ConfigError) as error:
        marking_of(both, NEW)
    remedy = "    Choose with --mark-first-frame or --no-mark-first-frame, or use only one of the LoRAs."
    assert str(error.value).replace(str(tmp_path), "TMP").splitlines() == [
        "TMP/true.safetensors: was trained with the first-frame marker, but another LoRA was trained without it",
        remedy,
        "TMP/false.safetensors: was trained without the first-frame marker, but another LoRA was trained with it",
        remedy,
    ]
    assert marking_of(both, NEW, True).marks


def test_a_checkpoint_says_whether_it_takes_the_marker(tmp_path: Path) -> None:
    assert describe(str(model_with_marker(tmp_path / "model.safetensors"))).takes_marker
    assert not describe("tiny").takes_marker


def test_a_whole_model_that_says_it_was_trained_without_is_used_so(tmp_path: Path) -> None:
    info = ModelInfo("mine.safetensors", "2.5", "", 48, takes_marker=True, marks=False)
    assert marking_of([], info) == Marking(
        False,
        ("The first frame is not marked, since the model mine.safetensors was trained without the marker; --mark-first-frame marks it.",),
    )
    trained = lora(tmp_path, "mine_too.safetensors", {**OURS, "mark_first_frame": "true"})
    assert marking_of([trained], info) == Marking(True)

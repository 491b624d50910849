"""What is shown is what a run does: the same samples, the same draws, the same tensors, and before the first step the same loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.inspected_sets import av_run, av_set, seen_of
from helpers.training_runs import loaded_run, sound_set
from ltxcore.inspection.first_steps import FIELDS, inspect
from ltxcore.inspection.seen import Seen
from ltxcore.protocols import ModelInput
from ltxcore.train import loop
from ltxcore.train.start_run import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Mapping[str, ModelInput]], list[dict[str, Any]], list[Seen]]:
    """What a run gave its model, its metrics, and what was shown of it; two micro-batches a step."""
    folder = tmp_path_factory.mktemp("trained")
    av_set(folder / "data")
    loaded = av_run(
        folder, optimization={"gradient_accumulation_steps": 2}, lora={"dropout": 0.5}, data={"held_out": 0, "caption_dropout": 0.5}
    )
    shown = inspect(loaded, steps=3, dump=folder / "dump.safetensors")
    given: list[Mapping[str, ModelInput]] = []
    prepared = loop.prepared
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "prepared", lambda *arguments: given.append(prepared(*arguments)) or given[-1])
        run(loaded)
    metrics = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    return given, [line for line in metrics if "loss" in line], shown


def test_the_first_steps_of_a_run_are_what_was_shown(trained: tuple[list[Mapping[str, ModelInput]], Any, list[Seen]]) -> None:
    given, _, shown = trained
    assert [each.name for each in shown] == ["step_1.1", "step_1.2", "step_2.1", "step_2.2", "step_3.1", "step_3.2"]
    assert len(given) == len(shown)
    for inputs, each in zip(given, shown, strict=True):
        assert list(inputs) == list(each.inputs) == ["video", "audio"]
        for modality, one in inputs.items():
            for field in FIELDS.values():
                before, after = getattr(one, field), getattr(each.inputs[modality], field)
                assert (before is None) == (after is None)
                assert before is None or torch.equal(before, after), (each.name, modality, field)
            assert {key: value.tolist() for key, value in one.applied.items()} == {
                key: value.tolist() for key, value in each.inputs[modality].applied.items()
            }


def test_conditions_that_are_drawn_apply_sometimes(trained: tuple[Any, Any, list[Seen]]) -> None:
    shown = trained[2]
    for key in ("video.cond0.reference", "video.cond1.first_frame", "audio.cond0.mask"):
        applied = [bool(value) for each in shown for value in each.inputs[key.partition(".")[0]].applied[key]]
        assert 0 < sum(applied) < len(applied)
    dropped = [(bool(lost), context) for each in shown for lost, context in zip(*_captions(each.inputs["audio"]), strict=True)]
    assert {lost for lost, _ in dropped} == {True, False}
    assert all(bool(context.any()) != lost for lost, context in dropped), "the empty caption of the tiny model has no words"


def _captions(given: ModelInput) -> tuple[torch.Tensor, torch.Tensor]:
    return given.applied["caption_dropout"], given.context


def test_the_loss_before_the_first_step_is_that_of_the_run(trained: tuple[Any, list[dict[str, Any]], list[Seen]]) -> None:
    _, metrics, shown = trained
    first = [each for each in shown if each.step == 1]
    for modality in ("video", "audio"):
        mean = torch.cat([each.losses[modality] for each in first]).mean()
        assert float(mean) == pytest.approx(metrics[0][f"loss/{modality}"], rel=1e-6)
    total = torch.cat([each.losses["video"] + each.losses["audio"] for each in first]).mean()
    assert float(total) == pytest.approx(metrics[0]["loss"], rel=1e-6)


def test_dropout_is_drawn_as_in_the_run(tmp_path: Path) -> None:
    """From a LoRA that says something, dropout changes the loss: the shown one is still that of the run's first step."""
    sound_set(tmp_path / "data")
    first = run(loaded_run(tmp_path, optimization={"learning_rate": 0.05}))
    assert first.weights is not None
    kept = first.weights.rename(tmp_path / "lora.safetensors")
    losses = {}
    for dropout in (0.0, 0.9):
        output = {"output_dir": str(tmp_path / f"out{dropout}")}
        loaded = loaded_run(tmp_path, model={"load_checkpoint": str(kept)}, lora={"dropout": dropout}, **output)
        (shown,) = inspect(loaded, dump=tmp_path / "dump.safetensors")
        losses[dropout] = float(shown.losses["audio"].mean())
        run(loaded)
        metrics = [json.loads(line) for line in (tmp_path / f"out{dropout}" / "metrics.jsonl").read_text().splitlines()]
        assert losses[dropout] == pytest.approx(next(line for line in metrics if "loss" in line)["loss"], rel=1e-6)
    assert losses[0.0] != losses[0.9]


def test_numbers_that_are_drawn_are_remembered_and_noise_is_not(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (shown,) = seen_of(av_run(tmp_path))
    assert {key: list(value.shape) for key, value in shown.draws.items()} == {
        "video.cond0.reference.u": [1],
        "video.cond1.first_frame.u": [2],
        "audio.cond0.mask.u": [2],
        **{f"{modality}.sampler.{what}": [2] for modality in ("video", "audio") for what in ("normal", "uniform", "mix")},
    }
    mask = shown.draws["audio.cond0.mask.u"] < 0.75
    assert torch.equal(mask, shown.inputs["audio"].applied["audio.cond0.mask"])


def test_without_the_model_there_are_no_losses(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (shown,) = seen_of(av_run(tmp_path))
    assert (dict(shown.losses), dict(shown.predicted), shown.name) == ({}, {}, "step_1")


def test_one_modality_alone_is_shown_alone(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (shown,) = seen_of(av_run(tmp_path, audio=None, lora={"target_modules": ["attn1.to_q"]}))
    assert list(shown.inputs) == ["video"]

"""Samples without sound or without pictures train what they have, as a run of that modality alone does, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.heard import heard
from helpers.mixed_sets import AUDIO, SAMPLES, VIDEO, mixed_set, mixed_tables
from helpers.training_runs import STOPPER, write_run
from ltxcore.config.load import load_run
from ltxcore.encoded.batches import MicroBatch
from ltxcore.encoded.micro_batch import as_taken
from ltxcore.errors import LtxError
from ltxcore.flow.loss import total_loss
from ltxcore.models.load_base import load_backbone
from ltxcore.protocols import ModelInput
from ltxcore.runs.run_plan import RunPlan, draft, plan
from ltxcore.train.dealing import draws_of
from ltxcore.train.feed import Samples, prepared
from ltxcore.train.start_run import run

CPU = torch.device("cpu")
BLOCKS = {"video": VIDEO, "audio": AUDIO}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed_set(tmp_path_factory.mktemp("mixed") / "data")


def planned(folder: Path, tables: Mapping[str, Any]) -> RunPlan:
    return plan(draft(load_run(write_run(folder, tables)), 1, writes=False).checked())


def learned(planned: RunPlan, names: tuple[str, ...], **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """The loss of each sample, and the gradient of each weight of the whole model."""
    strategy = planned.outline.strategy
    samples = Samples(planned.outline.root, strategy.sources(), planned.manifest)
    backbone = load_backbone("tiny-untrained", planned.outline.modalities, dtype=torch.float32, **options)
    draws = draws_of(7, MicroBatch("0.0", names))
    inputs = prepared(strategy, backbone, samples.load(names, strategy.wanted(draws)), draws, CPU)
    losses = dict(strategy.loss(backbone(inputs.get("video"), inputs.get("audio")), inputs))
    total_loss(losses).backward()
    return losses, {name: parameter.grad for name, parameter in backbone.named_parameters()}


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(("own", "names"), [("video", ("silent0", "silent2")), ("audio", ("sound0", "sound1"))])
def test_a_stream_learns_as_in_a_run_of_it_alone_and_the_absent_one_nothing(
    root: Path, tmp_path: Path, own: str, names: tuple[str, ...], checkpointed: bool
) -> None:
    mixed = planned(tmp_path, mixed_tables(root, tmp_path / "out", flow_matching={"shared_sigma": True}))
    only = mixed_set(tmp_path / own, {name: modalities for name, modalities in SAMPLES.items() if own in modalities})
    blocks, target = {"video": None, "audio": None, own: BLOCKS[own]}, {"video": "attn1.to_q", "audio": "audio_attn1.to_q"}[own]
    alone = mixed_tables(only, tmp_path / "alone", **blocks, data={"missing": "refuse"}, lora={"target_modules": [target]})
    single = planned(tmp_path, alone)
    losses, gradients = learned(mixed, names, gradient_checkpointing=checkpointed)
    expected, exact = learned(single, names, gradient_checkpointing=checkpointed)
    other = next(name for name in losses if name != own)
    assert losses[other].tolist() == [0.0, 0.0]
    assert (losses[own] - expected[own]).abs().max() <= 1e-6 * expected[own].abs().max()
    assert gradients.keys() > exact.keys()
    for name, gradient in gradients.items():
        if name not in exact:  # of the absent stream, and of the attention between the two
            assert gradient is None or not gradient.any(), name
        else:
            same = exact[name]
            assert gradient is not None
            assert same is not None
            assert (gradient - same).abs().max() <= 1e-6 * same.abs().max(), name
    reached = [name for name, gradient in gradients.items() if name not in exact and gradient is not None]
    assert any("audio_to_video_attn" in name for name in reached)  # its modules run, as those of other processes do


def test_conditions_of_an_absent_stream_are_not_asked_and_count_as_not_applied(root: Path, tmp_path: Path) -> None:
    always = {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "prefix", "temporal_boundary": 5}]}
    found = planned(tmp_path, mixed_tables(root, tmp_path / "out", audio=always))
    inputs = seen(found, ("silent0", "silent1"))
    assert [inputs[name].is_absent for name in ("video", "audio")] == [False, True]
    assert inputs["audio"].tokens.shape == (2, 1, 128)  # of which a prefix of five steps is no part
    assert inputs["audio"].applied["audio.cond0.prefix"].tolist() == [False, False]
    assert seen(found, ("clip0", "clip1"))["audio"].applied["audio.cond0.prefix"].tolist() == [True, True]


def seen(planned: RunPlan, names: tuple[str, ...]) -> Mapping[str, ModelInput]:
    strategy = planned.outline.strategy
    samples, draws = Samples(planned.outline.root, strategy.sources(), planned.manifest), draws_of(7, MicroBatch("0.0", names))
    return strategy.prepare(as_taken(samples.load(names, strategy.wanted(draws))), draws)


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key and "memory" not in key} for line in lines]


@pytest.mark.slow
def test_a_run_tells_apart_what_each_sample_has_and_resumes_exactly(root: Path, tmp_path: Path) -> None:
    stopper = tmp_path / "stopper.py"
    stopper.write_text(STOPPER)
    more = {
        "data": {"held_out": 3, "caption_dropout": 0.5},
        "validation": {"interval": 3},
        "checkpoints": {"interval": 1},  # after the first step, one of the streams has learned nothing yet
        "model": {"model_path": "tiny"},
    }
    whole = write_run(tmp_path, mixed_tables(root, tmp_path / "whole", **more), "whole.toml")
    stopped = {**mixed_tables(root, tmp_path / "parts", **more), "plugins": [str(stopper)], "trackers": {"stopper": {"at": 3}}}
    with heard() as said:
        assert run(load_run(whole)).finished
    assert "\n4 samples have video and audio, 4 video alone and 2 audio alone\n" in said.getvalue()
    path = write_run(tmp_path, stopped, "parts.toml")
    assert not run(load_run(path)).finished
    assert run(load_run(path)).finished
    weights = [(tmp_path / name / "lora.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    found = metrics(tmp_path / "whole")
    assert metrics(tmp_path / "parts") == found
    steps = [line for line in found if "loss" in line]
    assert len(steps) == 6
    streams = [{name for name in ("video", "audio") if f"loss/{name}" in line} for line in steps]
    assert {"video"} in streams
    assert {"video", "audio"} in streams
    for line in steps:
        both = [line[f"loss/{name}"] for name in ("video", "audio") if f"loss/{name}" in line]
        assert line["loss"] == pytest.approx(sum(both))
        assert {line.get("uncounted/video", 0.0), line.get("uncounted/audio", 0.0)} == {0.0}


def test_a_stream_that_no_sample_has_is_refused_and_so_is_a_key_without_effect(root: Path, tmp_path: Path) -> None:
    silent = mixed_set(tmp_path / "data", {"a": ("video",), "b": ("video",)})
    with pytest.raises(LtxError, match='none of the samples to train on has audio: none is in the folder "audio_latents"'):
        planned(tmp_path, mixed_tables(silent, tmp_path / "out"))
    with pytest.raises(LtxError, match="no sample can lack a modality here"):
        planned(tmp_path, mixed_tables(silent, tmp_path / "out", audio=None))


def test_only_what_is_beside_a_generated_modality_may_be_absent(root: Path, tmp_path: Path) -> None:
    frozen = {"is_generated": False, "latents_dir": "latents"}
    with pytest.raises(LtxError, match='"audio_latents" lacks 4 samples of "conditions", "latents": silent0') as caught:
        planned(tmp_path, mixed_tables(root, tmp_path / "out", video=frozen, lora={"target_modules": ["audio_attn1.to_q"]}))
    assert '"latents" lacks' not in str(caught.value)  # a sound alone trains sound


def test_modules_that_no_sample_can_train_are_not_trained(tmp_path: Path) -> None:
    apart = mixed_set(tmp_path / "data", {"a": ("video",), "b": ("video",), "c": ("audio",)})
    with heard() as said:
        assert run(
            load_run(write_run(tmp_path, mixed_tables(apart, tmp_path / "out", optimization={"steps": 4, "batch_size": 1})))
        ).finished
    assert "LoRA modules that no loss of this run reaches are not trained: " in said.getvalue()
    saved = load_file(tmp_path / "out" / "lora.safetensors")
    assert {name.split(".")[3] for name in saved} == {"attn1", "audio_attn1"}
    assert all(tensor.any() for tensor in saved.values())

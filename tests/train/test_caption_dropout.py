"""Samples lose their captions as often as the run file says: the same ones whatever the process, and in training alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.golden_connectors import load_connectors, write_connectors
from helpers.inspected_sets import AUDIO, VIDEO, av_run, av_set, planned
from helpers.training_runs import STOPPER, loaded_run, put, sound_set
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import LoadedRun
from ltxcore.encode.prompts import FOLDER
from ltxcore.encoded.micro_batch import padded
from ltxcore.engines.process import Processes
from ltxcore.engines.single import single_engine
from ltxcore.flow.draws import CountedDraws
from ltxcore.models.load_base import load_backbone
from ltxcore.protocols import ModelInput, Text
from ltxcore.runs.passes import LargestDraws
from ltxcore.runs.prompts import prompts_of_run
from ltxcore.train.caption_dropout import CaptionDropout, with_dropped
from ltxcore.train.dealing import draws_of
from ltxcore.train.feed import Samples, prepared
from ltxcore.train.loop import Loop
from ltxcore.train.prompts import Prompts, load_prompts
from ltxcore.train.start_run import run
from ltxcore.train.trained_model import load_model

CPU = torch.device("cpu")
BOTH = {"video": {**VIDEO, "conditions": []}, "audio": {**AUDIO, "conditions": []}}
CLOCK = ("step_seconds", "tokens_per_second", "peak_memory_gib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("caption_dropout")
    sound_set(path / "data", count=11)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    av_set(path / "data", count=24)
    return path


def loop_of(loaded: LoadedRun) -> Loop:
    found, config = planned(loaded), loaded.config
    samples = Samples(found.outline.root, found.outline.strategy.sources(), found.manifest)
    model = load_model(found, samples, CPU)
    engine = single_engine(model.backbone, model.parameters, config.optimization, precision="no", device=CPU)
    samples.texts = load_prompts(found, prompts_of_run(config), Codecs.of(config.model), Processes())
    accumulation = config.optimization.gradient_accumulation_steps
    more = {"caption_dropout": config.data.caption_dropout}
    return Loop(engine, model.backbone, found.outline.strategy, samples, found.order, config.seed, accumulation, 0, **more)


def trained(loaded: LoadedRun, steps: int = 3) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    loop = loop_of(loaded)
    metrics = [{key: value for key, value in each.items() if key not in CLOCK} for _, each in loop.steps(steps)]
    return {name: parameter.detach() for name, parameter in loop.engine.parameters.items()}, metrics


def without_words(root: Path, count: int = 11) -> Path:
    """The set of `folder`, with an empty caption for every sound."""
    sound_set(root, count)
    for number in range(count):
        none = torch.zeros(0, 128)
        told = {"shape": (4,), "encoder": text_encoder("tiny").fingerprint, "fingerprint": "none"}
        put(root, "conditions", f"sound{number:02d}", {"video": none, "audio": none}, **told)
    return root


def test_a_run_that_drops_every_caption_learns_what_a_set_without_captions_teaches_to_the_last_bit(folder: Path, tmp_path: Path) -> None:
    without_words(tmp_path / "data")
    weights, metrics = trained(loaded_run(folder, data={"held_out": 0, "caption_dropout": 1.0}))
    expected, plain = trained(loaded_run(tmp_path, data={"held_out": 0}))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert [each["loss"] for each in metrics] == [each["loss"] for each in plain]
    other, _ = trained(loaded_run(folder, data={"held_out": 0}))
    assert any(not torch.equal(other[name], tensor) for name, tensor in expected.items()), "captions matter"


def test_a_run_that_drops_every_caption_has_a_result_though_attention_to_them_learns_nothing(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=5)
    done = run(loaded_run(tmp_path, data={"held_out": 0, "caption_dropout": 1.0}, optimization={"steps": 2}))
    assert done.weights is not None
    tensors = load_file(done.weights)
    changed = {name for name, tensor in tensors.items() if "lora_B" in name and bool(tensor.any())}
    assert any("audio_attn1" in name for name in changed)
    assert not any("audio_attn2.to_k" in name for name in changed)


def test_a_probability_of_zero_changes_no_bit_and_needs_no_empty_caption(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=11)
    plain, metrics = trained(loaded_run(tmp_path, data={"held_out": 0}))
    weights, same = trained(loaded_run(tmp_path, data={"held_out": 0, "caption_dropout": {"audio": 0}}))
    assert all(torch.equal(plain[name], tensor) for name, tensor in weights.items())
    assert same == metrics
    assert not (tmp_path / "data" / FOLDER).exists()


def seen(loop: Loop, count: int = 12, **changed: Any) -> dict[str, tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]]:
    """What applied to each sample of some micro-batches, and the tensors of each of its modalities."""
    found = {}
    for number in range(count):
        micro_batch = loop.order.micro_batch(number)
        draws = draws_of(loop.seed, micro_batch)
        drops = attrs.evolve(loop._drops, **changed)
        inputs = prepared(loop.strategy, loop.backbone, loop.samples.load(micro_batch.names), draws, CPU, drops)
        for index, name in enumerate(micro_batch.names):
            applied = {key: each[index] for given in inputs.values() for key, each in given.applied.items()}
            found[name] = applied, {modality: of_sample(given, index) for modality, given in inputs.items()}
    return found


def of_sample(given: ModelInput, index: int) -> dict[str, Tensor]:
    tensors = {field.name: getattr(given, field.name) for field in attrs.fields(ModelInput)}
    return {name: each[index] for name, each in tensors.items() if isinstance(each, Tensor)}


def is_empty(tensors: Mapping[str, Tensor]) -> bool:
    return not bool(tensors["context"].any()) and not bool(tensors["context_mask"].any())


def test_one_probability_takes_the_captions_of_both_streams_together_and_changes_nothing_else(clips: Path) -> None:
    loop = loop_of(av_run(clips, data={"held_out": 0, "caption_dropout": 0.4}, **BOTH))
    whole, found = seen(loop, dropped=0.0), seen(loop)
    assert len(found) == 24
    dropped = [name for name, (applied, _) in found.items() if applied["caption_dropout"]]
    assert 4 <= len(dropped) <= 16
    for name, (_, streams) in found.items():
        for modality, tensors in streams.items():
            own = whole[name][1][modality]
            assert is_empty(tensors) == (name in dropped)
            same = set(tensors) - ({"context", "context_mask"} if name in dropped else set())
            assert all(torch.equal(tensors[key], own[key]) for key in same)


def test_probabilities_by_modality_take_the_caption_of_one_stream_alone(clips: Path) -> None:
    loop = loop_of(av_run(clips, data={"held_out": 0, "caption_dropout": {"video": 0.5, "audio": 0.5}}, **BOTH))
    lost = [tuple(is_empty(streams[name]) for name in ("video", "audio")) for _, streams in seen(loop).values()]
    assert set(lost) == {(False, False), (False, True), (True, False), (True, True)}
    for applied, streams in seen(loop, dropped={"audio": 1.0}).values():
        assert list(applied) == ["audio.caption_dropout"]
        assert (is_empty(streams["video"]), is_empty(streams["audio"])) == (False, True)


def test_a_frozen_stream_keeps_its_caption_as_in_generation_unless_it_is_named(clips: Path) -> None:
    frozen = {**BOTH, "audio": {"is_generated": False, "latents_dir": "audio_latents"}}
    loop = loop_of(av_run(clips, data={"held_out": 0, "caption_dropout": 1.0}, lora={"target_modules": ["attn1.to_q"]}, **frozen))
    for dropped, audio_too in ((1.0, False), ({"video": 1.0, "audio": 1.0}, True)):
        for _, streams in seen(loop, 2, dropped=dropped).values():
            assert (is_empty(streams["video"]), is_empty(streams["audio"])) == (True, audio_too)


def test_which_samples_lose_their_captions_depends_on_seed_pass_and_sample_alone() -> None:
    names = [f"clips/clip{number}" for number in range(24)]

    def lost(names: list[str], seed: int = 1, epoch: int = 0) -> dict[str, bool]:
        given = ModelInput(*(torch.zeros(len(names), 1, 1) for _ in range(5)))
        noted = with_dropped({"video": given}, 0.5, CountedDraws(seed, epoch, tuple(names), f"of {len(names)}"))
        return dict(zip(names, noted["video"].applied["caption_dropout"].tolist(), strict=True))

    whole = lost(names)
    assert {**lost(names[12:]), **lost(names[:12][::-1])} == whole
    assert lost(names, seed=2) != whole != lost(names, epoch=1)


def test_the_empty_caption_passes_through_connectors_at_the_length_of_the_captions(tmp_path: Path) -> None:
    backbone = load_backbone("tiny-untrained", frozenset({"audio"}), dtype=torch.float32, seed=0)
    backbone.connectors = load_connectors(write_connectors(tmp_path / "c.safetensors"), {"audio"})
    draw = torch.Generator().manual_seed(0)
    word, captions = torch.randn(1, 32, generator=draw), torch.randn(4, 16, 32, generator=draw)
    own = backbone.connect(Text({"audio": captions}, torch.ones(4, 16)))
    drops = CaptionDropout(0.5, Prompts({"": padded({"audio": word}, 8)}, backbone))
    given = ModelInput(*(torch.zeros(4, 1, 1) for _ in range(4)), own.features["audio"])
    found = drops({"audio": given}, CountedDraws(0, 0, ("a", "b", "c", "d"), "any"))["audio"]
    expected = backbone.connect(padded({"audio": word}, 16)).features["audio"]
    dropped = found.applied["caption_dropout"]
    assert 0 < int(dropped.sum()) < 4
    assert found.context_mask is None
    for index, is_dropped in enumerate(dropped.tolist()):
        assert torch.equal(found.context[index], expected[0] if is_dropped else own.features["audio"][index])


def test_metrics_tell_the_losses_with_and_without_a_caption_apart(folder: Path) -> None:
    _, metrics = trained(loaded_run(folder, data={"held_out": 0, "caption_dropout": 0.5}), 6)
    parts = [{key.rpartition("/")[2] for key in each if key.startswith("loss/audio/caption_dropout/")} for each in metrics]
    assert set().union(*parts) == {"applied", "not_applied"}
    whole = [each for each, names in zip(metrics, parts, strict=True) if len(names) == 1]
    for each in whole:
        (name,) = (key for key in each if key.startswith("loss/audio/caption_dropout/"))
        assert each[name] == pytest.approx(each["loss/audio"])


def test_whether_memory_suffices_is_tried_with_the_empty_caption(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0, "caption_dropout": 1e-9}))
    micro_batch = loop.order.micro_batch(0)
    batch = loop.samples.load(micro_batch.names)
    inputs = prepared(loop.strategy, loop.backbone, batch, LargestDraws(len(batch.names)), CPU, loop._drops)
    assert not bool(inputs["audio"].context.any())
    loop.attempt(micro_batch)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines(path) if "loss" in line]


def test_a_resumed_run_drops_the_same_captions_and_the_validation_loss_keeps_all(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=11)
    (tmp_path / "stopper.py").write_text(STOPPER)
    dropping = {"data": {"held_out": 3, "caption_dropout": 0.5}, "plugins": [str(tmp_path / "stopper.py")]}
    whole = run(loaded_run(tmp_path, **dropping, output_dir=str(tmp_path / "whole")))
    stopping = loaded_run(tmp_path, **dropping, trackers={"stopper": {"at": 2}})
    assert run(stopping).step == 2
    resumed = run(stopping)
    assert steps(resumed.metrics) == steps(whole.metrics)
    assert resumed.weights is not None
    assert whole.weights is not None
    ours, theirs = load_file(resumed.weights), load_file(whole.weights)
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    plain = run(loaded_run(tmp_path, data={"held_out": 3}, output_dir=str(tmp_path / "plain")))
    assert plain.before == whole.before
    assert not any("caption_dropout" in key for key in (*whole.before, *whole.after))

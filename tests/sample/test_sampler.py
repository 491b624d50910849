"""Whole samples against the recordings, and what a sampler does to a model and to random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_io import Case, load_case
from helpers.golden_models import load_golden
from helpers.sample_made import MODEL, backbone, condition, drawn, encoded, info, sample, sampler
from ltxcore.config.validation_samples import ValidationTable
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import ModelInput, Text
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.encode_inputs import Encoded, EncodedCondition, encode
from ltxcore.sample.guidance import Scales
from ltxcore.sample.media_needs import plan_generations
from ltxcore.sample.request import requests
from ltxcore.sample.sampler import Sampler
from sample.test_initial_state import MODALITIES, recorded, stored


def text(case: Case, sign: str) -> Text:
    features = {name: case.inputs[f"{name[0]}_ctx_{sign}"] for name in ("video", "audio")}
    return Text(features, torch.ones(1, features["video"].shape[1]))


def recorded_sample(case: Case, conditions: list[EncodedCondition], names: tuple[str, ...]) -> Encoded:
    guidance = case.config["guidance"]
    scales = {
        name: Scales(
            guidance[f"{name}_cfg_scale"],
            guidance[f"{name}_stg_scale"],
            guidance[f"{name}_modality_guidance_scale"],
            guidance["guidance_rescale"],
        )
        for name in names
    }
    cells = {name: MODALITIES[name].grid_of(case.outputs[f"{name}.final"].shape[1:]) for name in names}
    return recorded(
        cells,
        conditions,
        text(case, "pos"),
        text(case, "neg"),
        steps=case.config["steps"],
        scales=scales,
        stg_blocks=tuple(guidance["stg_blocks"]),
    )


def watched(model: LTXBackbone, seen: list[dict[str, Tensor]]) -> Sampler:
    """Remembers the tokens of every first pass of a step."""

    def forward(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        sigma = float(next(iter(inputs.values())).sigma[0])
        if not seen or sigma != seen[-1]["sigma"]:
            seen.append({"sigma": sigma, **{name: given.tokens for name, given in inputs.items()}})
        return model(inputs.get("video"), inputs.get("audio"), **options)

    return Sampler(model, forward, torch.device("cpu"))


@pytest.mark.parametrize(("name", "modalities"), [("loop.t2v.defaults", ("video", "audio")), ("loop.t2a.audio_only", ("audio",))])
def test_a_whole_sample_is_as_recorded_step_by_step(name: str, modalities: tuple[str, ...], tmp_path: Path) -> None:
    case = load_case("08_sampler", name)
    conditions = []
    if "audio.cond0.latent" in case.inputs:
        latents = stored(case, "audio.cond0.latent", 25.0)
        conditions = [condition("prefix", "audio", medium=latents).of_length(latents.latents.shape[2])]
    sample = recorded_sample(case, conditions, modalities)
    seen: list[dict[str, Tensor]] = []
    with torch.no_grad():
        found = watched(load_golden("B", tmp_path, modalities), seen).generate(
            sample, noise=lambda modality, shape: case.draws[f"{modality}.noise"]
        )
    assert found.keys() == set(modalities)
    for modality in modalities:
        torch.testing.assert_close(found[modality], case.outputs[f"{modality}.final"][0].float(), **case.tolerance)
        for step in (0, 4):
            after = seen[step + 1][modality]
            torch.testing.assert_close(after, case.outputs[f"{modality}.step{step:02d}.latent"].float(), **case.tolerance)


def test_the_same_seed_draws_the_same_and_another_seed_something_else() -> None:
    first, again, other = (drawn(encoded(seed=seed)) for seed in (0, 0, 1))
    for modality in ("video", "audio"):
        assert torch.equal(first[modality], again[modality])
        assert not torch.equal(first[modality], other[modality])


def test_drawing_touches_no_random_numbers_and_leaves_the_model_as_it_was() -> None:
    sample = encoded()
    model = backbone()
    before, weights = torch.get_rng_state(), {name: parameter.clone() for name, parameter in model.named_parameters()}
    drawn(sample)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())


def test_every_step_is_reported() -> None:
    told: list[tuple[int, int]] = []
    with torch.no_grad():
        sampler(backbone()).generate(encoded(inference_steps=3), report=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_sound_alone_needs_no_picture() -> None:
    found = drawn(encoded(generate_video=False))
    assert {name: tuple(latents.shape) for name, latents in found.items()} == {"audio": (8, 27, 16)}


def test_a_negative_prompt_counts_only_where_the_prompt_is_followed_more_strongly() -> None:
    one, other = (drawn(encoded(negative_prompt=text)) for text in ("a blue disc", "hiss"))
    assert torch.equal(one["video"], other["video"])
    one, other = (drawn(encoded(negative_prompt=text, video_cfg_scale=3.0)) for text in ("a blue disc", "hiss"))
    assert not torch.equal(one["video"], other["video"])


def passes(**scales: float) -> list[Any]:
    """The options of every pass of one step."""
    asked: list[Any] = []
    model = backbone()

    def forward(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        asked.append(options)
        return model(inputs.get("video"), inputs.get("audio"), **options)

    with torch.no_grad():
        Sampler(model, forward, torch.device("cpu")).generate(encoded(**scales))
    return asked[: len(asked) // 2]


def test_passes_that_are_neutral_are_not_run_and_default_blocks_lie_at_the_depth_of_the_model() -> None:
    assert passes() == [{}]
    assert passes(audio_cfg_scale=2.0) == [{}, {}]
    (_, perturbed) = passes(video_stg_scale=1.0)
    assert dict(perturbed["perturbation"].pass_self_attention) == {"video": frozenset({2})}  # 28 of 48 is 2 of 4
    (_, isolated) = passes(video_modality_guidance_scale=3.0)
    assert not isolated["perturbation"].audio_to_video


@pytest.mark.parametrize(("said", "passes"), [({"sigmas": "distilled"}, 8), ({"inference_steps": 5}, 20)])
def test_distilled_generation_takes_one_pass_a_step_and_the_usual_one_four(said: dict[str, Any], passes: int) -> None:
    table = ValidationTable(samples=[sample()], video_dims=(64, 64, 9), frame_rate=16.0, **said)
    (asked,) = requests(table, ("video", "audio"), info())
    (made,) = encode(plan_generations([asked], modalities_of(info())), MODEL)
    model, levels = sampler(backbone()), list[float]()

    def counted(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        levels.append(float(inputs["video"].sigma[0]))
        return model.forward(inputs, **options)

    with torch.no_grad():
        attrs.evolve(model, forward=counted).generate(made)
    assert len(levels) == passes
    if asked.sigmas:
        assert levels == pytest.approx([1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875])

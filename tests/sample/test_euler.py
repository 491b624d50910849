"""Euler steps, given tokens and frozen modalities, against recordings and an independent loop."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_io import load_case
from ltxcore.errors import ConfigError
from ltxcore.protocols import ModelInput
from ltxcore.sample.euler import clean_prediction, euler, plain, schedule, start


def modality(
    size: int = 1, tokens: int = 4, appended: int = 0, mask: Tensor | None = None, seed: int = 0, is_generated: bool = True
) -> ModelInput:
    generator = torch.Generator().manual_seed(seed)
    total = tokens + appended
    denoise_mask = torch.cat([torch.ones(size, tokens) if mask is None else mask, torch.zeros(size, appended)], dim=1)
    return ModelInput(
        tokens=torch.randn(size, total, 3, generator=generator),
        sigma=torch.ones(size),
        timesteps=denoise_mask if is_generated else torch.zeros(size, total),
        positions=torch.zeros(size, 1, total, 2),
        context=torch.zeros(size, 1, 2),
        is_generated=is_generated,
        clean=torch.randn(size, tokens, 3, generator=generator),
        denoise_mask=denoise_mask if is_generated else torch.zeros(size, total),
    )


def test_one_step_agrees_with_the_recording() -> None:
    case = load_case("08_sampler", "euler_step")
    sample, denoised, sigmas = (case.inputs[name] for name in ("sample", "denoised", "sigmas"))
    given = attrs.evolve(
        modality(1, sample.shape[1]), tokens=sample, clean=torch.zeros_like(sample), denoise_mask=torch.ones(sample.shape[:2])
    )
    for step in (0, 3, 7):
        found = euler(lambda inputs: {"audio": denoised}, {"audio": given}, sigmas[step : step + 2])["audio"]
        torch.testing.assert_close(found, case.outputs[f"step{step}"], rtol=case.tolerance["rtol"], atol=case.tolerance["atol"])


def test_clean_predictions_agree_with_the_recording_for_every_token_by_its_own_level() -> None:
    case = load_case("08_sampler", "velocity_denoised")
    sample, velocity, timesteps = (case.inputs[name] for name in ("sample", "v_or_x0", "timesteps"))
    tolerance = {name: case.tolerance[name] for name in ("rtol", "atol")}
    given = attrs.evolve(modality(), tokens=sample, timesteps=timesteps.reshape(sample.shape[:2]))
    torch.testing.assert_close(clean_prediction(given, velocity), case.outputs["denoised.per_token"], **tolerance)
    level = attrs.evolve(given, timesteps=torch.full(sample.shape[:2], 0.37))
    torch.testing.assert_close(clean_prediction(level, velocity), case.outputs["denoised.sigma0.37"], **tolerance)


@pytest.mark.parametrize("name", ["state.video.first_frame", "state.video.mask", "state.audio.prefix3", "state.video.reference_half"])
def test_noise_is_put_where_tokens_are_generated_as_recorded(name: str) -> None:
    case = load_case("08_sampler", name)
    clean, mask, noise = case.outputs["clean.clean_latent"].float(), case.outputs["clean.denoise_mask"], case.draws["noise"]
    mask = mask.reshape(clean.shape[:2])
    target = 24 if "video" in name else 7
    given = attrs.evolve(modality(), tokens=clean, clean=clean[:, :target], denoise_mask=mask)
    found = start(given, noise[:, :target]).tokens
    torch.testing.assert_close(found, case.outputs["noised.latent"].float(), rtol=case.tolerance["rtol"], atol=case.tolerance["atol"])


def test_a_model_that_knows_the_answer_arrives_at_it_in_any_number_of_steps() -> None:
    answer = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(6))

    def model(inputs: dict[str, ModelInput]) -> dict[str, Tensor]:
        return {"audio": noise - answer}

    for steps in (2, 7):
        found = euler(plain(model), {"audio": start(modality(), noise)}, schedule(steps))["audio"]
        torch.testing.assert_close(found, answer, rtol=1e-5, atol=1e-5)


def test_given_tokens_end_as_they_were_given_and_soft_ones_between() -> None:
    mask = torch.tensor([[0.0, 0.25, 1.0, 0.0]])
    given = modality(mask=mask, appended=2)
    noise = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(6))
    seen: list[ModelInput] = []

    def model(inputs: dict[str, ModelInput]) -> dict[str, Tensor]:
        seen.append(inputs["audio"])
        return {"audio": torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(len(seen)))}

    begun = start(given, noise)
    found = euler(plain(model), {"audio": begun}, schedule(4))["audio"]
    assert torch.equal(found[:, [0, 3]], given.clean[:, [0, 3]])
    for inputs, sigma in zip(seen, schedule(4)[:-1], strict=True):
        torch.testing.assert_close(inputs.timesteps, sigma * given.denoise_mask)
        assert torch.equal(inputs.tokens[:, 4:], given.tokens[:, 4:])
    expected = begun.tokens[:, :4].clone()
    for number, (s, after) in enumerate(zip(schedule(4)[:-1].tolist(), schedule(4)[1:].tolist(), strict=True), 1):
        velocity = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(number))[:, :4]
        m = mask[..., None]
        prediction = (expected - velocity * s * m) * m + given.clean * (1 - m)
        expected = expected + (expected - prediction) / s * (after - s)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_frozen_modality_is_not_stepped_and_keeps_level_zero() -> None:
    frozen, generated = modality(seed=1, is_generated=False), modality(seed=2)
    levels = []

    def model(inputs: dict[str, ModelInput]) -> dict[str, Tensor]:
        levels.append((float(inputs["video"].timesteps.max()), float(inputs["audio"].sigma[0])))
        assert inputs["video"] is frozen
        return {name: torch.zeros_like(given.tokens) for name, given in inputs.items()}

    found = euler(plain(model), {"video": frozen, "audio": generated}, schedule(3))
    assert found.keys() == {"audio"}
    assert levels == [(0.0, pytest.approx(float(s))) for s in schedule(3)[:-1]]


def test_every_step_is_reported() -> None:
    told = []
    euler(plain(lambda inputs: {"audio": inputs["audio"].tokens}), {"audio": modality()}, schedule(3), lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("steps", [8, 30])
def test_the_levels_agree_with_the_recording(steps: int) -> None:
    case = load_case("08_sampler", f"ltx2_scheduler.steps{steps}")
    torch.testing.assert_close(schedule(steps), case.outputs["sigmas.default_4096"], **case.tolerance)


def test_the_levels_follow_the_formula_and_end_at_a_tenth_and_zero() -> None:
    shifted = [math.exp(2.05) / (math.exp(2.05) + 1 / (1 - i / 5) - 1) for i in range(5)]
    expected = [1 - (1 - s) * 0.9 / (1 - shifted[-1]) for s in shifted] + [0.0]
    assert schedule(5).tolist() == pytest.approx(expected, abs=1e-7)
    assert schedule(5)[-2:].tolist() == pytest.approx([0.1, 0.0])


def test_one_step_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        schedule(1)
    assert str(error.value) == "validation.inference_steps: sampling takes at least 2 steps, not 1\n    30 is usual."

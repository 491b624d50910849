"""Tokens that are given at a noise level or with a strength: in training, in generation, alone and beside others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from helpers.plugin_states import NONE, state
from helpers.plugin_states import video as clip
from helpers.sample_made import clip_file, drawn, encoded
from helpers.sample_made import condition as asked
from ltxcore.api.conditions import level_key, strength_key
from ltxcore.conditions import ConditionUse
from ltxcore.drawn import Drawn, OneOf, Range
from ltxcore.errors import DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable, VideoTable
from ltxcore.protocols import Batch, Draws, Inputs, ModelInput, Role, Setting, StoredLatents, Text
from ltxcore.registry import load
from ltxcore.runs.passes import LargestDraws
from ltxcore.sample.euler import euler, plain, schedule, start
from ltxcore.sample.sampler import conditioned, empty
from ltxcore.state import Grid, LatentState
from ltxcore.strategy import Flexible, FlexibleStrategy
from ltxcore.testing import check_condition

SIZE, FRAMES, CELLS = 4, 3, 4

FEW = {"video": (Grid(1, 2, 2), Grid(3, 2, 2)), "audio": (Grid(5, scale=(4, 1, 1)),)}
"""Grids to try conditions on."""


def use(name: str, probability: float = 1.0, drawn: dict[str, Drawn] | None = None, **fields: Any) -> ConditionUse:
    cls = load().get("condition", name).value
    return ConditionUse(name, cls(**fields), probability, {role.name: role.name for role in getattr(cls, "roles", ())}, drawn or {})


def latents(seed: int) -> StoredLatents:
    return StoredLatents(torch.randn(SIZE, 4, FRAMES, 2, 2, generator=torch.Generator().manual_seed(seed)), torch.full((SIZE,), 24.0))


def strategy(*uses: ConditionUse, is_generated: bool = True) -> FlexibleStrategy:
    setting = Setting({"video": VideoModality(), "audio": AudioModality()}, Uniform(min_value=0.3))
    audio = None if is_generated else ModalityTable(True, "audio_latents")
    return Flexible(VideoTable(is_generated, "latents", list(uses)), audio).build(setting)


def seen(*uses: ConditionUse, is_generated: bool = True, draws: Draws | None = None) -> ModelInput:
    found = {"video": latents(1), **{f"video.cond{number}.reference": latents(2 + number) for number in range(2)}}
    if not is_generated:
        found["audio"] = StoredLatents(torch.randn(SIZE, 8, 5, 16), torch.full((SIZE,), 25.0))
    names = tuple(f"clip{number}" for number in range(SIZE))
    text = Text({"video": torch.ones(SIZE, 2, 3), "audio": torch.ones(SIZE, 2, 3)}, torch.ones(SIZE, 2))
    return strategy(*uses, is_generated=is_generated).prepare(Batch(names, found, {}, text), draws or CountedDraws(7, 0, names, "0.0"))[
        "video"
    ]


def of_frame(tokens: Tensor, frame: int) -> Tensor:
    return tokens[:, frame * CELLS : (frame + 1) * CELLS]


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(("name", "fields", "given"), [("first_frame", {}, [0]), ("prefix", {"temporal_boundary": 2}, [0, 1])])
def test_given_tokens_have_the_noise_of_their_level_and_the_model_is_told_it(name: str, fields: dict[str, int], given: list[int]) -> None:
    clean, noisy = seen(use(name, **fields)), seen(use(name, level=0.25, **fields))
    assert clean.noise is not None
    assert noisy.clean is not None
    assert clean.levels is None
    for frame in range(FRAMES):
        level = torch.full((SIZE, CELLS), 0.25) if frame in given else noisy.sigma.unsqueeze(1).expand(-1, CELLS)
        assert of_frame(noisy.timesteps, frame).equal(level)
        expected = (1 - level.unsqueeze(-1)) * of_frame(noisy.clean, frame) + level.unsqueeze(-1) * of_frame(clean.noise, frame)
        torch.testing.assert_close(of_frame(noisy.tokens, frame), expected)
    # Whatever is not noise of given tokens is as without a level.
    assert noisy.loss_mask is not None
    assert clean.loss_mask is not None
    assert noisy.loss_mask.equal(clean.loss_mask)
    assert of_frame(noisy.tokens, FRAMES - 1).equal(of_frame(clean.tokens, FRAMES - 1))


@pytest.mark.parametrize("is_generated", [True, False])
def test_a_reference_has_noise_of_its_own_on_a_generated_and_on_a_frozen_target(is_generated: bool) -> None:
    clean, noisy = (seen(use("reference", level=level), is_generated=is_generated) for level in (0.0, 0.5))
    target = FRAMES * CELLS
    noise = (noisy.tokens[:, target:] - 0.5 * clean.tokens[:, target:]) / 0.5
    assert noisy.tokens[:, :target].equal(clean.tokens[:, :target])
    assert noisy.timesteps[:, :target].equal(clean.timesteps[:, :target])
    assert bool((noisy.timesteps[:, target:] == 0.5).all())
    assert 0.8 < float(noise.std()) < 1.2
    assert abs(float(noise.mean())) < 0.3
    if is_generated:
        assert noisy.noise is not None
        assert not torch.allclose(noise, noisy.noise)


def test_a_level_of_zero_is_bit_for_bit_what_there_was_without_levels() -> None:
    drawn, fixed = seen(use("first_frame", drawn={"level": Range(0.0, 0.0)})), seen(use("first_frame"))
    assert fixed.levels is None
    assert drawn.levels is None
    assert drawn.tokens.equal(fixed.tokens)
    assert drawn.timesteps.equal(fixed.timesteps)
    assert fixed.denoise_mask is not None
    assert fixed.timesteps.equal(fixed.sigma.unsqueeze(1) * fixed.denoise_mask)


def test_each_sample_draws_a_level_of_its_own_and_a_sample_without_the_condition_has_none() -> None:
    found = seen(use("first_frame", 0.8, drawn={"level": Range(0.1, 0.9)}))
    applied, drawn = found.applied["video.cond0.first_frame"], found.drawn["video.cond0.first_frame/level"]
    assert 0 < int(applied.sum()) < SIZE
    for index in range(SIZE):
        expected = drawn[index].value if applied[index] else float(found.sigma[index])
        torch.testing.assert_close(found.timesteps[index, :CELLS], torch.full((CELLS,), expected))
    assert len({each.value for each in drawn}) == SIZE
    assert drawn[0].label == Range(0.1, 0.9).label(drawn[0].value)


def test_a_reference_draws_one_level_for_the_micro_batch() -> None:
    found = seen(use("reference", drawn={"level": Range(0.1, 0.9)}))
    assert len(found.timesteps[:, FRAMES * CELLS :].unique()) == 1


def test_a_token_that_two_conditions_give_has_the_higher_level() -> None:
    uses = [use("first_frame", level=0.3), use("prefix", temporal_boundary=2, level=0.1)]
    for order in (uses, uses[::-1]):
        found = seen(*order)
        assert of_frame(found.timesteps, 0).equal(torch.full((SIZE, CELLS), 0.3))
        assert of_frame(found.timesteps, 1).equal(torch.full((SIZE, CELLS), 0.1))


def test_tokens_share_levels_only_where_they_share_them_at_every_sigma() -> None:
    """A token that is given by half has, at sigma 0.5, the level 0.25, as one that is given at 0.25, but not at other sigmas."""
    mask = torch.tensor([[1.0, 0.5, 0.0, 0.0]])
    levels = torch.tensor([[0.0, 0.0, 0.25, 0.0]])
    nothing = torch.zeros(1, 1)
    given = ModelInput(torch.zeros(1, 4, 3), torch.full((1,), 0.5), 0.5 * mask + levels, nothing, nothing, denoise_mask=mask, levels=levels)
    many = attrs.evolve(given, **{name: getattr(given, name).repeat(1, 4) for name in ("timesteps", "denoise_mask", "levels")})
    shared = many.to("cpu").shared
    assert shared is not None
    assert shared.row_of is not None
    for sigma in (0.5, 0.9):
        now = sigma * many.denoise_mask + many.levels  # type: ignore[operator]
        assert now.gather(1, shared.token).flatten()[shared.row_of].equal(now)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("level", [-0.1, 1.0, float("nan")])
def test_a_level_outside_zero_and_one_is_refused(level: float) -> None:
    before = state(clip())
    for refused in (
        lambda: before.given(before.grid.frame == 0, level=level),
        lambda: before.append(before.clean, before.positions, level=level),
    ):
        with pytest.raises(DataError, match="A level must be at least 0"):
            refused()


def test_a_level_for_tokens_that_are_given_partly_is_refused() -> None:
    before = state(clip())
    with pytest.raises(DataError, match="gives tokens of the video partly"):
        before.given(torch.full((before.num_target,), 0.5), level=0.1)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.1, float("nan")])
def test_a_strength_that_is_not_above_zero_and_at_most_one_is_refused(strength: float) -> None:
    before = state(clip())
    with pytest.raises(DataError, match="A strength must be above 0 and at most 1"):
        before.append(before.clean, before.positions, strength=strength)


@attrs.frozen
class Forgets:
    """Gives the first frame, but forgets its level."""

    modalities = frozenset({"video"})
    content = "start"
    level: float = level_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame == 0) & torch.tensor(state.grid.frames > 1))


class Heeds(Forgets):
    """Gives the first frame at its level."""

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame == 0) & torch.tensor(state.grid.frames > 1), self.level)


def test_the_kit_names_a_condition_that_forgets_its_level() -> None:
    with pytest.raises(AssertionError, match="does not give all of its tokens at its level"):
        check_condition(Forgets, grids=FEW)
    check_condition(Heeds, grids=FEW)
    check_condition(Heeds, grids=FEW, level={"min": 0.1, "max": 0.4})


# ---------------------------------------------------------------- generation


def generated(level: float) -> tuple[ModelInput, list[ModelInput], Tensor]:
    """The first input, the inputs of all steps, and the result of a model that predicts nothing but zeros."""
    modality = VideoModality()
    medium = attrs.evolve(latents(3), latents=latents(3).latents[:1, :, :1], rate=torch.tensor([24.0]))
    grid = modality.grid(latents(3).latents)
    after = conditioned(
        empty(modality, grid, 24.0, 4), modality, [asked("first_frame", medium=medium, fields={"level": level}).of_length()]
    )
    text = Text({"video": torch.ones(1, 2, 3)}, torch.ones(1, 2))
    noise = torch.randn(after.clean.shape, generator=torch.Generator().manual_seed(4))
    first = start(ModelInput.of(after, torch.ones(1), text, is_generated=True, marks=False), noise)
    steps: list[ModelInput] = []

    def model(inputs: Any) -> dict[str, Tensor]:
        steps.append(inputs["video"])
        return {"video": torch.zeros_like(first.tokens)}

    return first, steps, euler(plain(model), {"video": first}, schedule(3))["video"]


def test_in_generation_given_tokens_keep_their_level_in_every_step_and_are_clean_at_the_end() -> None:
    (_, _, clean), (first, steps, result) = generated(0.0), generated(0.25)
    assert first.clean is not None
    noisy = of_frame(first.tokens, 0)
    assert len(steps) == 3
    assert not torch.allclose(noisy, of_frame(first.clean, 0))
    for step in steps:
        assert of_frame(step.tokens, 0).equal(noisy)
        assert bool((of_frame(step.timesteps, 0) == 0.25).all())
        assert of_frame(step.timesteps, 1).equal(step.sigma.expand(1, CELLS))
    assert of_frame(result, 0).equal(of_frame(first.clean, 0))
    assert result.equal(clean)


def test_what_a_plugin_appends_at_a_level_is_recorded_in_the_state() -> None:
    before = state(clip())
    after = before.append(before.clean, before.positions, level=0.2).given(before.grid.frame == 0, level=0.1)
    assert after.levels[:, : before.num_target].equal(0.1 * (before.grid.frame == 0).float().expand(2, -1))
    assert bool((after.levels[:, before.num_target :] == 0.2).all())
    assert not bool(load().get("condition", "first_frame").value().apply(before, NONE).levels.any())


# ---------------------------------------------------------------- strengths


def test_strengths_reach_the_model_only_where_one_of_them_is_below_one() -> None:
    tokens = FRAMES * CELLS
    assert (seen(use("reference")).groups, seen(use("reference")).strengths) == ((), None)
    weighted = seen(use("reference", strength=0.5), use("reference"))
    assert weighted.groups == (tokens, tokens, tokens)
    assert weighted.strengths is not None
    assert weighted.strengths.tolist() == [0.5, 1.0]
    plain = seen(use("reference"), use("reference", strength=1.0))
    assert (plain.groups, plain.strengths) == ((), None)
    for name in ("tokens", "timesteps", "positions", "noise"):
        assert getattr(weighted, name).equal(getattr(plain, name))


def test_a_reference_draws_one_strength_for_the_micro_batch() -> None:
    found = seen(use("reference", drawn={"strength": Range(0.1, 0.9)}))
    values = {each.value for each in found.drawn["video.cond0.reference/strength"]}
    assert found.strengths is not None
    assert len(values) == 1
    torch.testing.assert_close(found.strengths, torch.tensor(list(values)))


def test_the_largest_micro_batch_has_strengths_below_one_if_they_may_be_drawn() -> None:
    assert seen(use("reference", drawn={"strength": OneOf((1.0, 0.5, 1.0))}), draws=LargestDraws(SIZE)).strengths is not None
    assert seen(use("reference", drawn={"strength": OneOf((1.0,))}), draws=LargestDraws(SIZE)).strengths is None


@attrs.frozen
class Whole:
    """Appends the whole of a medium, but forgets its strength."""

    modalities = frozenset({"audio"})
    roles = (Role("other", source_key="other_dir", kind="latents"),)
    appends = True
    strength: float = strength_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        other = inputs.latents("other")
        return state.append(other.tokens, other.positions)


class Weighted(Whole):
    """Appends the whole of a medium with its strength."""

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        other = inputs.latents("other")
        return state.append(other.tokens, other.positions, strength=self.strength)


class Nowhere(Heeds):
    """Gives tokens of the target, which have no strength."""

    strength: float = strength_key()


def test_the_kit_names_a_condition_that_forgets_its_strength_or_has_nothing_to_weigh() -> None:
    with pytest.raises(AssertionError, match="does not append all of its tokens with its strength"):
        check_condition(Whole, grids=FEW)
    with pytest.raises(AssertionError, match="has the key strength, but does not append tokens"):
        check_condition(attrs.frozen(Nowhere), grids=FEW)
    check_condition(Weighted, grids=FEW, strength={"min": 0.5, "max": 1.0})


def test_a_weaker_reference_changes_the_result_and_one_of_full_strength_does_not(tmp_path: Path) -> None:
    media = {"reference": clip_file(tmp_path / "reference.mp4", 9)}
    plain = encoded(asked("reference", media=media).of_length(), trained=frozenset({"video"}))

    def result(**fields: float) -> Tensor:
        conditions = tuple(attrs.evolve(each, condition=each.cls(**fields)) for each in plain.conditions)
        return drawn(attrs.evolve(plain, conditions=conditions))["video"]

    usual = result()
    assert result(strength=1.0, level=0.0).equal(usual)
    assert not torch.allclose(result(strength=0.1), usual, atol=1e-3)
    assert not torch.allclose(result(level=0.5), usual, atol=1e-3)

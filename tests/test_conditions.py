"""The core holds every condition to its protocol, and gives it in sampling what it sees in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch

from helpers.golden_io import load_case
from ltxcore.conditions import ConditionUse, applied_state, given_from_medium, where_applied
from ltxcore.drawn import Range
from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import Inputs, Medium, Role
from ltxcore.registry import load
from ltxcore.state import Group, LatentState

REGISTRY = load()
WHERE = "validation.samples.0.conditions.0"
MODALITIES = {"video": VideoModality(), "audio": AudioModality()}
Apply = Callable[[LatentState, Inputs], Any]


def use(name: str, **fields: object) -> ConditionUse:
    return ConditionUse(name, REGISTRY.get("condition", name).value(**fields))


def condition(apply_: Apply, **said: object) -> ConditionUse:
    """A condition that a stranger may have written."""

    @attrs.frozen
    class Stranger:
        modalities = frozenset({"video", "audio"})

        def apply(self, state: LatentState, inputs: Inputs) -> Any:
            return apply_(state, inputs)

    for name, value in said.items():
        setattr(Stranger, name, value)
    return ConditionUse("stranger", Stranger())


def medium(frames: int = 3, height: int = 2, width: int = 2, seed: int = 0, batch: int = 2) -> Medium:
    latents = torch.randn(batch, 4, frames, height, width, generator=torch.Generator().manual_seed(seed))
    return of("video", latents, 24.0)


def sound(steps: int = 5, seed: int = 0) -> Medium:
    return of("audio", torch.randn(2, 8, steps, 16, generator=torch.Generator().manual_seed(seed)), 25.0)


def of(name: str, latents: torch.Tensor, rate: float) -> Medium:
    modality = MODALITIES[name]
    rates = torch.full((latents.shape[0],), rate)
    grid = modality.grid(latents)
    return Medium(modality.patchify(latents), grid, rates, modality.positions(grid, rates))


def known(target: Medium) -> LatentState:
    """A target as training has it."""
    name = "video" if target.positions.shape[1] == 3 else "audio"
    return LatentState.start(name, target.grid, target.rate, target.tokens, target.positions)


def unknown(target: Medium) -> LatentState:
    """A target as sampling has it."""
    return attrs.evolve(known(target), clean=torch.zeros_like(target.tokens))


def some(state: LatentState, index: int = 0) -> torch.Tensor:
    return torch.arange(state.num_target) == index


# ---------------------------------------------------------------- the protocol


BREACHES: dict[str, tuple[Apply, str]] = {
    "nothing": (lambda s, i: None, "returns NoneType from apply(), not a LatentState"),
    "clean": (lambda s, i: attrs.evolve(s, clean=s.clean + 1), "changes the clean tokens of the target"),
    "rate": (lambda s, i: attrs.evolve(s, rate=s.rate * 2), "changes the grid, rate or modality of the target"),
    "modality": (lambda s, i: attrs.evolve(s, modality="smell"), "changes the grid, rate or modality of the target"),
    "silent append": (
        lambda s, i: s.append(s.clean, s.positions),
        "appends tokens, but its class does not say `appends = True`",
    ),
    "moves": (lambda s, i: attrs.evolve(s, positions=s.positions + 1), "moves tokens that were there before it"),
    "below zero": (lambda s, i: attrs.evolve(s, denoise_mask=s.denoise_mask - 2), "sets the denoise mask below 0"),
    "level of generated tokens": (
        lambda s, i: attrs.evolve(s, levels=torch.full_like(s.levels, 0.5)),
        "sets levels outside [0, 1), or of tokens that are not given entirely",
    ),
    "level of noise": (
        lambda s, i: attrs.evolve(s.given(some(s)), levels=some(s).float().expand(2, -1)),
        "sets levels outside [0, 1), or of tokens that are not given entirely",
    ),
    "NaN": (lambda s, i: attrs.evolve(s, denoise_mask=s.denoise_mask * float("nan")), "sets the denoise mask below 0"),
}


@pytest.mark.parametrize(("apply_", "said"), BREACHES.values(), ids=BREACHES)
def test_a_condition_that_does_more_than_give_and_append_is_refused(apply_: Apply, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        applied_state(condition(apply_), known(medium()), Inputs(), WHERE)
    assert str(caught.value) == f'{WHERE}: the condition "stranger" {said}\n    Use only state.given() and state.append() in apply().'


def appended(state: LatentState) -> LatentState:
    return state.append(state.clean[:, :2], state.positions[:, :, :2], level=0.25)


APPENDED_BREACHES: dict[str, tuple[Apply, str]] = {
    "takes back": (
        lambda s, i: attrs.evolve(s, denoise_mask=torch.ones_like(s.denoise_mask)),
        "takes back tokens that another condition gave",
    ),
    "removes": (
        lambda s, i: attrs.evolve(
            s,
            appended=s.appended[:, :0],
            positions=s.positions[:, :, :12],
            denoise_mask=s.denoise_mask[:, :12],
            levels=s.levels[:, :12],
            groups=(),
        ),
        "removes appended tokens",
    ),
    "regroups": (lambda s, i: attrs.evolve(s, groups=(Group(2, 0.5),)), "regroups tokens that another condition appended"),
    "lowers": (lambda s, i: attrs.evolve(s, levels=0 * s.levels), "lowers the level of tokens that another condition gave"),
    "changes": (lambda s, i: attrs.evolve(s, appended=s.appended + 1), "changes tokens that another condition appended"),
    "noisy": (
        lambda s, i: attrs.evolve(appended(s), denoise_mask=torch.cat([s.denoise_mask, torch.ones(2, 2)], dim=1)),
        "appends tokens that are not given",
    ),
}


@pytest.mark.parametrize(("apply_", "said"), APPENDED_BREACHES.values(), ids=APPENDED_BREACHES)
def test_a_condition_that_undoes_the_work_of_another_is_refused(apply_: Apply, said: str) -> None:
    state = appended(known(medium()))
    if said.startswith("takes"):
        state = state.given(some(state))
    with pytest.raises(PluginError) as caught:
        applied_state(condition(apply_, appends=True), state, Inputs(), WHERE)
    assert str(caught.value) == f'{WHERE}: the condition "stranger" {said}\n    Use only state.given() and state.append() in apply().'


def test_giving_and_appending_in_one_condition_is_allowed() -> None:
    state = known(medium())
    after = applied_state(condition(lambda s, i: appended(s.given(some(s))), appends=True), state, Inputs(), WHERE)
    assert after.num_appended == 2
    assert after.denoise_mask[0].tolist() == [0.0] + [1.0] * 11 + [0.0] * 2


def test_what_a_condition_refuses_is_told_with_its_place() -> None:
    with pytest.raises(DataError) as caught:
        applied_state(condition(lambda s, i: s.given(torch.ones(1))), known(medium()), Inputs(), WHERE)
    assert str(caught.value) == (
        f"{WHERE}: a condition gives [1] values, but the video has [2, 12] target tokens\n    Return one value per target token, [T] or [B, T]."
    )


def test_any_other_error_keeps_its_traceback_and_is_told_with_its_condition() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        applied_state(condition(lambda s, i: 1 / 0), known(medium()), Inputs(), WHERE)
    assert caught.value.__notes__ == [f'This is a mistake in the condition "stranger", which was applied at {WHERE}.']


@pytest.mark.parametrize(("kind", "has"), [("latents", '"reference"'), ("mask", "none")])
def test_a_role_that_the_class_does_not_name_is_refused(kind: str, has: str) -> None:
    def apply_(state: LatentState, inputs: Inputs) -> LatentState:
        return inputs.latents("depth") if kind == "latents" else inputs.mask("depth")

    with pytest.raises(PluginError) as caught:
        applied_state(condition(apply_), known(medium()), Inputs({"reference": medium()}), WHERE)
    assert str(caught.value) == (
        f'{WHERE}: a condition asks for the role "depth" of kind "{kind}", but its class declares no such role\n'
        f"    The class declares these roles of that kind: {has}. Add others to `roles`."
    )


def test_a_condition_applies_to_the_samples_it_was_drawn_for_and_no_other() -> None:
    before = known(medium())
    after = before.given(some(before, 3))
    assert where_applied(before, after, torch.tensor([True, True])) is after
    found = where_applied(before, after, torch.tensor([False, True]))
    assert torch.equal(found.denoise_mask[0], before.denoise_mask[0])
    assert torch.equal(found.denoise_mask[1], after.denoise_mask[1])


def test_a_condition_says_what_its_class_says() -> None:
    role = Role("mask", source_key="mask_dir", kind="mask")
    plain, full = condition(lambda s, i: s), condition(lambda s, i: s, roles=(role,), appends=True)
    assert (plain.roles, plain.appends, plain.modalities) == ((), False, frozenset({"video", "audio"}))
    assert (full.roles, full.appends) == ((role,), True)


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("uses", "target"),
    [
        ([use("first_frame")], medium()),
        ([use("first_frame")], medium(1)),
        ([use("prefix", temporal_boundary=2)], medium()),
        ([use("suffix", temporal_boundary=1)], medium()),
        ([use("suffix", temporal_boundary=2)], sound()),
        ([use("spatial_crop", spatial_region=(0, 0, 32, 64))], medium()),
        ([use("mask")], medium()),
        ([use("mask")], sound()),
        ([use("prefix", temporal_boundary=2), use("mask"), use("suffix", temporal_boundary=1)], sound()),
    ],
)
def test_sampling_with_the_target_as_the_medium_is_training(uses: list[ConditionUse], target: Medium) -> None:
    mask = torch.rand(2, target.grid.num_tokens, generator=torch.Generator().manual_seed(1))
    training, sampling = known(target), unknown(target)
    for one in uses:
        training = applied_state(one, training, Inputs(masks={"mask": mask}), WHERE)
        sampling = given_from_medium(one, sampling, target, Inputs(masks={"mask": mask}), WHERE)
    given = training.denoise_mask < 1
    assert torch.equal(sampling.denoise_mask, training.denoise_mask)
    assert torch.equal(sampling.clean[given], training.clean[given])
    assert not sampling.clean[~given].any()
    assert torch.equal(sampling.positions, training.positions)


def test_a_prefix_lies_at_the_start_and_a_suffix_at_the_end() -> None:
    start, end = medium(1, seed=1), medium(1, seed=2)
    state = given_from_medium(use("prefix", temporal_boundary=1), unknown(medium()), start, Inputs(), WHERE)
    state = given_from_medium(use("suffix", temporal_boundary=1), state, end, Inputs(), WHERE)
    assert torch.equal(state.clean, torch.cat([start.tokens, torch.zeros(2, 4, 4), end.tokens], dim=1))
    assert state.denoise_mask[0].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 4


def test_a_medium_longer_than_the_target_is_cut() -> None:
    long = medium(5)
    state = given_from_medium(use("mask"), unknown(medium()), long, Inputs(masks={"mask": torch.ones(2, 12)}), WHERE)
    assert torch.equal(state.clean, long.tokens[:, :12])


def test_a_reference_is_appended_in_sampling_as_in_training() -> None:
    inputs = Inputs({"reference": medium(seed=3)})
    training = applied_state(use("reference"), known(medium()), inputs, WHERE)
    sampling = given_from_medium(use("reference"), unknown(medium()), None, inputs, WHERE)
    assert torch.equal(sampling.appended, training.appended)
    assert torch.equal(sampling.positions, training.positions)
    assert torch.equal(sampling.denoise_mask, training.denoise_mask)
    assert not sampling.clean.any()


def test_a_soft_mask_takes_the_content_of_every_token_that_it_gives_in_part() -> None:
    mask = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]] * 2)
    state = given_from_medium(use("mask"), unknown(sound()), sound(seed=4), Inputs(masks={"mask": mask}), WHERE)
    assert torch.equal(state.denoise_mask, 1 - mask)
    assert not state.clean[:, 0].any()
    assert torch.equal(state.clean[:, 1:], sound(seed=4).tokens[:, 1:])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_conditions_that_give_one_token_different_content_are_refused_in_either_order(order: tuple[int, int]) -> None:
    pairs = [(use("first_frame"), medium(1, seed=5)), (use("prefix", temporal_boundary=2), medium(2, seed=6))]
    (first, content), (second, other) = (pairs[i] for i in order)
    state = given_from_medium(first, unknown(medium()), content, Inputs(), WHERE)
    with pytest.raises(DataError) as caught:
        given_from_medium(second, state, other, Inputs(), WHERE)
    assert str(caught.value) == (
        f"{WHERE}: two conditions give the same tokens different content\n    Give each part of the target only once."
    )


def test_two_conditions_may_give_one_token_the_same_content() -> None:
    content = medium(2)
    state = given_from_medium(use("first_frame"), unknown(medium()), content, Inputs(), WHERE)
    state = given_from_medium(use("prefix", temporal_boundary=2), state, content, Inputs(), WHERE)
    assert state.denoise_mask[0].tolist() == [0.0] * 8 + [1.0] * 4


def test_a_medium_that_does_not_cover_what_the_condition_gives_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        given_from_medium(use("prefix", temporal_boundary=2), unknown(medium()), medium(1), Inputs(), WHERE)
    assert str(caught.value) == (
        f"{WHERE}: the medium covers only 1 of the 3 latent frames of the target, but the condition gives others too\n"
        "    Use a longer medium, or give less."
    )


def test_a_medium_shorter_than_a_target_that_it_must_cover_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        given_from_medium(use("mask"), unknown(sound()), sound(4), Inputs(masks={"mask": torch.ones(2, 5)}), WHERE)
    assert str(caught.value) == (
        f"{WHERE}: the medium covers only 4 of the 5 latent frames of the target\n    Use a medium as long as the target."
    )


def test_a_medium_of_another_size_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        given_from_medium(use("first_frame"), unknown(medium()), medium(1, 1, 2), Inputs(), WHERE)
    assert str(caught.value) == (
        f"{WHERE}: the medium has 1 x 2 latent cells, but the target has 2 x 2\n    Resize the medium to the size of the target."
    )


def test_a_condition_that_gives_tokens_without_a_medium_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        given_from_medium(use("first_frame"), unknown(medium()), None, Inputs(), WHERE)
    assert str(caught.value) == (
        f'{WHERE}: the condition "first_frame" gives tokens of the video, but there is no medium to take them from\n'
        "    Name the video file to take them from."
    )


def test_a_condition_that_gives_tokens_but_names_no_content_is_refused() -> None:
    with pytest.raises(PluginError) as caught:
        given_from_medium(condition(lambda s, i: s.given(some(s))), unknown(medium()), medium(), Inputs(), WHERE)
    assert str(caught.value) == (
        f'{WHERE}: the condition "stranger" gives tokens of the target, but its class does not set `content`\n'
        '    Set content = "start", "end" or "whole": the part of the target that the medium covers when sampling.'
    )


@pytest.mark.parametrize("error", [DataError("no"), PluginError("no")])
def test_what_a_condition_refuses_in_sampling_is_told_with_its_place(error: LtxError) -> None:
    def apply_(state: LatentState, inputs: Inputs) -> LatentState:
        raise error

    with pytest.raises(type(error)) as caught:
        given_from_medium(condition(apply_, content="start"), unknown(medium()), medium(), Inputs(), WHERE)
    assert str(caught.value) == f"{WHERE}: no"


# ---------------------------------------------------------------- against the recordings


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("state.video.first_frame", use("first_frame")),
        ("state.video.mask", use("mask")),
        ("state.video.reference_half", use("reference")),
        ("state.audio.prefix3", use("prefix", temporal_boundary=3)),
    ],
)
def test_what_sampling_starts_from_agrees_with_the_recording(name: str, one: ConditionUse) -> None:
    """Where nothing is given, clean tokens are not compared; media are rounded to bf16, as they were there. (Deliberate differences: group 08.)"""
    case = load_case("08_sampler", name)
    modality, rate = ("video", case.config["fps"]) if ".video." in name else ("audio", 25.0)
    content = of(modality, case.inputs["cond0.latent"].bfloat16().float(), rate)
    target = of(modality, torch.zeros(case.config["target_shape"]), rate)
    masks = {"mask": case.inputs["cond0.mask"].flatten(1)} if "cond0.mask" in case.inputs else {}
    found = given_from_medium(one, unknown(target), content, Inputs({"reference": content}, masks), WHERE)
    mask = found.denoise_mask.unsqueeze(-1)
    given = (mask < 1).expand_as(found.tokens())
    torch.testing.assert_close(mask, case.outputs["clean.denoise_mask"], **case.tolerance)
    torch.testing.assert_close(found.positions, case.outputs["clean.positions"], check_dtype=False, **case.tolerance)
    torch.testing.assert_close(found.tokens()[given], case.outputs["clean.clean_latent"][given].float(), **case.tolerance)


# ---------------------------------------------------------------- keys of one modality


def test_a_key_of_one_modality_leaves_only_that_one_if_it_is_set_or_drawn() -> None:
    assert use("hole", length=0.5).modalities == {"video", "audio"}
    assert use("hole", height=0.5).modalities == {"video"}
    drawn = attrs.evolve(use("hole", length=0.5), drawn={"top": Range(0.5, 1.0)})
    assert (drawn.modalities, drawn.unset) == ({"video"}, {"height", "width", "left", "level"})

"""Our objectives keep to the protocol, and have the losses that their pages say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ltxcore.api import ModelInput, masked_loss
from ltxcore.api.objectives import Prepared
from ltxcore.testing import check_imports_lightly, check_objective
from ltxplugins.objectives.distill import Distill
from ltxplugins.objectives.flow_matching import FlowMatching
from ltxplugins.objectives.preservation import Preservation
from ltxplugins.objectives.regularization import Regularization
from ltxplugins.objectives.slider import Slider
from ltxplugins.objectives.weighted_region import WeightedRegion


@pytest.mark.parametrize(
    "objective",
    [
        FlowMatching(),
        FlowMatching(error="huber", delta=0.5),
        FlowMatching(error="l1"),
        Regularization(Path(__file__).parent),
        WeightedRegion(),
        WeightedRegion(region=2.0, rest=0.0, error="huber"),
        Preservation(),
        Preservation("a person"),
        Slider("bright"),
        Slider("bright", "dark", "a room", distance=2.0),
        Distill(),
        Distill({"video": 3.0}, "ema"),
    ],
    ids=str,
)
def test_ours_keep_to_the_protocol(objective: Any) -> None:
    check_objective(objective)


def test_ours_cost_other_commands_nothing() -> None:
    check_imports_lightly("ltxplugins.objectives")


def of_audio(velocity: Tensor, counted: Tensor) -> dict[str, ModelInput]:
    """The inputs of a sound, of which only the velocity and the tokens that count have a meaning."""
    tokens, batch = torch.zeros_like(velocity), velocity.shape[0]
    return {
        "audio": ModelInput(
            tokens,
            torch.ones(batch),
            counted.float(),
            torch.zeros(batch, 1, tokens.shape[1], 2),
            tokens,
            velocity=velocity,
            loss_mask=counted,
        )
    }


def test_a_region_counts_as_often_as_its_weight_says_and_the_mask_may_be_soft() -> None:
    inputs = of_audio(torch.tensor([[[1.0], [2.0], [3.0], [50.0]]]), torch.tensor([[True, True, True, False]]))
    mask = torch.tensor([[1.0, 0.5, 0.0, 1.0]])
    prepared = Prepared({"model": inputs}, {"audio_region": mask}, lambda predicted, inputs: {})
    predicted = {"model": {"audio": torch.zeros(1, 4, 1)}}
    losses = WeightedRegion(region=1.0, rest=0.2).loss(predicted, prepared)
    assert losses["audio"].item() == pytest.approx((1.0 * 1 + 0.6 * 4 + 0.2 * 9) / (1.0 + 0.6 + 0.2))


def test_a_modality_without_a_region_is_learned_as_always() -> None:
    inputs = of_audio(torch.randn(2, 5, 3), torch.rand(2, 5) > 0.3)
    prepared = Prepared({"model": inputs}, {}, lambda predicted, inputs: {})
    predicted = {"model": {"audio": torch.randn(2, 7, 3)}}
    given = inputs["audio"]
    assert given.velocity is not None
    assert given.loss_mask is not None
    wanted = masked_loss(predicted["model"]["audio"][:, :5], given.velocity, given.loss_mask)
    assert torch.equal(WeightedRegion().loss(predicted, prepared)["audio"], wanted)


def of_passes(**answers: float) -> tuple[dict[str, dict[str, Tensor]], Prepared]:
    """The same answer for every token of a sound in each pass."""
    inputs = of_audio(torch.randn(1, 3, 2), torch.tensor([[True, True, False]]))
    predicted = {name: {"audio": torch.full((1, 3, 2), value)} for name, value in answers.items()}
    return predicted, Prepared(dict.fromkeys(answers, inputs), {}, lambda predicted, inputs: {})


def test_what_is_preserved_is_the_distance_from_the_base() -> None:
    assert Preservation("a person").loss(*of_passes(base=1.0, model=3.0))["audio"].tolist() == [4.0]


def test_a_slider_aims_at_the_base_moved_by_the_difference_of_two_prompts() -> None:
    answers = of_passes(base=1.0, towards=0.5, away_from=0.25, model=2.0)
    assert Slider("bright", "dark").loss(*answers)["audio"].tolist() == [0.75**2]
    assert Slider("bright", "dark", distance=4.0).loss(*answers)["audio"].tolist() == [0.0]


@pytest.mark.parametrize("prompts", [("bright", "bright"), ("empty",), ("",)])
def test_a_slider_needs_two_different_prompts(prompts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^has the same prompt in towards and away_from, \".*\", so there is no direction to learn$"):
        Slider(*prompts)


def test_what_is_distilled_is_the_distance_from_the_guided_teacher() -> None:
    assert Distill().loss(*of_passes(teacher=1.0, model=4.0))["audio"].tolist() == [9.0]
    teachers = [Distill(3.0, teacher).passes[0] for teacher in ("base", "ema")]
    assert [(each.guidance, each.adapters, each.weights, each.gradient) for each in teachers] == [
        (3.0, False, "live", False),
        (3.0, True, "ema", False),
    ]


def test_prompts_are_those_that_the_passes_show_instead_of_captions() -> None:
    texts = {each.name: (each.prompt, each.adapters, each.gradient) for each in Slider("bright").passes}
    assert texts == {
        "base": (None, False, False),
        "towards": ("bright", False, False),
        "away_from": ("", False, False),
        "model": (None, True, True),
    }

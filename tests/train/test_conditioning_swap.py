"""With another clip's references, appended tokens are made of that clip's values; values that say what is given stay."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import torch

from helpers.columns_made import Paced
from helpers.sample_made import backbone
from ltxcore.api import Inputs, LatentState, Role
from ltxcore.conditions import ConditionUse
from ltxcore.flow.draws import CountedDraws
from ltxcore.modality_tables import VideoTable
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import Batch, ModelInput
from ltxcore.registry import load
from ltxcore.strategy import Flexible, FlexibleStrategy
from ltxcore.testing.trials import samples_of, setting_of
from ltxcore.train.conditioning_swap import GIVEN, REFERENCES, exchanged, present
from ltxcore.train.feed import prepared


@attrs.frozen
class Calm:
    """Give the latent frames in which nothing moves."""

    modalities = frozenset({"video"})
    content = "whole"
    roles: ClassVar = (Role("speed", source_key="speed_dir", kind="values", shape=("F",)),)

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((inputs.values("speed") <= 0)[:, state.grid.frame])


DRAWS = CountedDraws(7, 0, ("a", "b", "c"), "0.0")
CPU = torch.device("cpu")


def strategy_of(condition: Any) -> FlexibleStrategy:
    use = ConditionUse(type(condition).__name__.lower(), condition, sources={"speed": "speed"})
    return Flexible(video=VideoTable(True, "latents", [use])).build(setting_of())


def batches(strategy: FlexibleStrategy) -> tuple[Batch, Batch]:
    """A batch, and one of other clips with other values."""
    own = samples_of(strategy.sources())[1].batch
    own = attrs.evolve(own, text=attrs.evolve(own.text, is_connected=True))
    latents = {role: attrs.evolve(stored, latents=-stored.latents) for role, stored in own.latents.items()}
    return own, attrs.evolve(own, latents=latents, tensors={role: -tensor for role, tensor in own.tensors.items()})


def swapped(condition: Any, *parts: str) -> tuple[ModelInput, ModelInput]:
    """What the model sees of the video, without the swap and with it."""
    strategy = strategy_of(condition)
    own, other = batches(strategy)
    inputs = prepared(strategy, backbone(frozenset({"video"})), own, DRAWS, CPU)
    found = exchanged(strategy, backbone(frozenset({"video"})), own, other, inputs, DRAWS, parts, CPU)
    return inputs["video"], found["video"]


def test_tokens_that_are_made_of_values_are_those_of_the_other_clip() -> None:
    own, found = swapped(Paced(), REFERENCES)
    target = 0 if own.clean is None else own.clean.shape[1]
    assert bool(present({"video": own}, {REFERENCES}).all())
    assert torch.equal(found.tokens[:, target:], -own.tokens[:, target:])
    assert torch.equal(found.tokens[:, :target], own.tokens[:, :target])


def test_keyframes_are_those_of_the_other_clip_at_the_clips_own_times() -> None:
    use = ConditionUse("keyframes", load().get("condition", "keyframes").value(), sources={"keyframes": "keyframes"})
    strategy = Flexible(video=VideoTable(True, "latents", [use])).build(setting_of())
    own, other = batches(strategy)
    stored = own.pictures["video.cond0.keyframes"]
    other = attrs.evolve(other, pictures={"video.cond0.keyframes": StoredPictures(-stored.latents, stored.frames + 1)})
    model = backbone(frozenset({"video"}))
    inputs = prepared(strategy, model, own, DRAWS, CPU)
    found = exchanged(strategy, model, own, other, inputs, DRAWS, {REFERENCES}, CPU)["video"]
    seen, target = inputs["video"], own.latents["video"].latents[0, 0].numel()
    assert torch.equal(found.tokens[:, target:], -seen.tokens[:, target:])
    assert torch.equal(found.tokens[:, :target], seen.tokens[:, :target])
    assert torch.equal(found.positions, seen.positions)


def test_values_that_say_what_is_given_stay_as_masks_do() -> None:
    own, found = swapped(Calm(), REFERENCES, GIVEN)
    assert own.loss_mask is not None
    assert found.loss_mask is not None
    assert torch.equal(found.loss_mask, own.loss_mask)
    assert bool((~own.loss_mask).any())
    assert torch.equal(found.tokens[own.loss_mask], own.tokens[own.loss_mask])
    assert torch.equal(found.tokens[~own.loss_mask], -own.tokens[~own.loss_mask]), "the content of given tokens is the other clip's"

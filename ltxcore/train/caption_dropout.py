"""Drop captions: in training, the empty caption replaces the captions of some samples, so that the model also learns to
predict without a caption; guidance leads away from these predictions.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

from ltxcore.config.run_file import Dropped
from ltxcore.devices import moved
from ltxcore.protocols import Draws, ModelInput, Text
from ltxcore.train.prompts import Prompts

KEY = "caption_dropout"
"""The name of caption dropout in `ModelInput.applied`. If each modality has its own draw, the name of the modality
precedes this name.
"""


def with_dropped(inputs: Mapping[str, ModelInput], dropped: Dropped, draws: Draws) -> dict[str, ModelInput]:
    """Mark in `applied` the samples whose captions are to be dropped, and return the marked inputs. The captions
    themselves do not change.

    With a single probability, there is one draw for all generated modalities, which lose their captions together; a
    frozen modality keeps its caption, as in generation with guidance. With a probability for each modality, there is a
    separate draw for each modality.

    Args:
        inputs: the model's inputs by modality.
        dropped: the probability of dropping a caption, or a probability for each modality.
        draws: the random draws for these samples.

    Source: docs/explanation/arithmetic.md#probability-of-a-condition
    """
    return {name: _noted(given, *_drawn_with(name, given, dropped), draws) for name, given in inputs.items()}


def _drawn_with(name: str, given: ModelInput, dropped: Dropped) -> tuple[str, float]:
    """Return the name of the draw for a modality, and its probability."""
    if isinstance(dropped, Mapping):
        return f"{name}.{KEY}", dropped.get(name, 0.0)
    return KEY, dropped if given.is_generated else 0.0


def _noted(given: ModelInput, key: str, probability: float, draws: Draws) -> ModelInput:
    if not probability or given.is_absent:
        return given
    return attrs.evolve(given, applied={**given.applied, key: draws.uniform(f"{key}.u") < probability})


@attrs.frozen(eq=False)
class CaptionDropout:
    """The caption dropout of a run.

    Attributes:
        dropped: the probability of dropping a caption, or a probability for each modality.
        prompts: the prompts, which include the empty caption if captions are dropped.
    """

    dropped: Dropped
    prompts: Prompts

    def __call__(self, inputs: Mapping[str, ModelInput], draws: Draws) -> dict[str, ModelInput]:
        """Return the model's inputs, with the empty caption in place of the dropped captions."""
        found = with_dropped(inputs, self.dropped, draws)
        for name, given in found.items():
            chosen = given.applied.get(_drawn_with(name, given, self.dropped)[0])
            if chosen is not None and bool(chosen.any()):
                found[name] = _without_captions(given, name, chosen, self.prompts.connected("", found, given.context.shape[1]))
        return found


def _without_captions(given: ModelInput, name: str, chosen: Tensor, empty: Text) -> ModelInput:
    """Return the input of a modality, with the empty caption for the samples in `chosen`, `[B]` bool."""
    context = given.context
    rows = moved(chosen, context.device)[:, None]
    mask = given.context_mask
    if mask is not None or not empty.is_whole:
        ours = torch.ones(context.shape[:2], device=context.device) if mask is None else mask
        mask = torch.where(rows, empty.mask.to(ours), ours)
    return attrs.evolve(given, context=torch.where(rows[:, :, None], empty.features[name].to(context), context), context_mask=mask)

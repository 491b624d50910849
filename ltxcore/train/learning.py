"""What a micro-batch teaches: the passes of each objective, its losses, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved
from ltxcore.errors import PluginError
from ltxcore.models.base_alone import without_adapters
from ltxcore.objectives import DEFAULT, ObjectiveUse, role_key, sees_samples
from ltxcore.protocols import Backbone, Batch, Engine, ModelInput, Pass, Prepared, Strategy
from ltxcore.train.prompts import Prompts

Losses = Mapping[str, Tensor]


@attrs.frozen(eq=False)
class Learned:
    """The losses of a micro-batch whose gradients have been added; they are on the device, and perhaps not computed yet.

    Attributes:
        total: the loss that was trained on: the sum of all objectives, each with its weight.
        own: the strategy's loss of every sample, by generated modality; empty if no objective has a pass in which the model sees the
            samples as they are.
        weighted: the loss of each objective that was learned, with its weight, by the objective's name in metrics.
        each: its losses of every sample, without its weight, by that name and modality: "slider/video".
    """

    total: Tensor
    own: Losses
    weighted: Losses
    each: Losses

    def named(self) -> Losses:
        """Return all of them by name: the total is "", and the strategy's loss has the names of modalities. A run that names no objective
        has nothing else.
        """
        return {**self.weighted, **self.each, **self.own, "": self.total}


def learn(
    engine: Engine,
    strategy: Strategy,
    uses: Mapping[str, ObjectiveUse],
    prompts: Prompts,
    batch: Batch,
    inputs: Mapping[str, ModelInput],
    weight: float,
) -> Learned:
    """Add the gradients of a micro-batch, those of each objective before the next one begins, so that the activations
    of only one are in memory.

    Args:
        engine: runs the model.
        strategy: has a loss of its own, which objectives may ask for.
        uses: the objectives that are learned in this step, by their names in metrics; the same on all processes.
        prompts: the texts that passes have in place of captions.
        batch: the samples, with the data of the objectives' roles.
        inputs: the model's inputs for them, on its device.
        weight: the weight of the micro-batch in its step.
    """
    own: Losses = {}
    weighted: dict[str, Tensor] = {}
    each: dict[str, Tensor] = {}
    for place, (label, use) in enumerate(uses.items(), start=1):
        seen = {one.name: inputs if one.prompt is None else prompts.instead(inputs, one.prompt) for one in use.passes}
        predicted = {one.name: _predicted(engine, prompts.backbone, one, seen[one.name]) for one in use.passes}
        masks = {role.name: moved(batch.masks[role_key(label, role.name)].float().flatten(1), engine.device) for role in use.roles}
        losses = use.objective.loss(predicted, Prepared(seen, masks, strategy.loss))
        if not losses:
            streams = " and ".join(sorted(inputs))
            raise PluginError(f'the objective "{use.type}" has no loss in a run of {streams}', where="objectives", remedy="Remove it.")
        loss = use.total(losses)
        losses = {modality: one.detach() for modality, one in losses.items()}
        if not own and (name := next((one.name for one in use.passes if sees_samples(one)), None)) is not None:
            own = losses if use.type == DEFAULT.type else _own(strategy, predicted[name], inputs)
        del predicted  # what no loss reads takes memory in the backward
        engine.backward(loss * weight, last=place == len(uses))
        weighted[label] = loss.detach()
        each |= {f"{label}/{modality}": one for modality, one in losses.items()} if label else {}
    return Learned(sum_of(list(weighted.values())), own, weighted, each)


def sum_of(losses: Sequence[Tensor]) -> Tensor:
    """Return the sum of losses; a single one is returned as it is."""
    return losses[0] if len(losses) == 1 else torch.stack(list(losses)).sum()


def _predicted(engine: Engine, backbone: Backbone, each: Pass, inputs: Mapping[str, ModelInput]) -> dict[str, Tensor]:
    with torch.set_grad_enabled(each.gradient), nullcontext() if each.adapters else without_adapters(backbone):
        return engine.forward(inputs)


def _own(strategy: Strategy, predicted: Losses, inputs: Mapping[str, ModelInput]) -> Losses:
    """Return the strategy's loss, which is reported whatever is learned, so that runs can be compared."""
    with torch.no_grad():
        return strategy.loss(predicted, inputs)

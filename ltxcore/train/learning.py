"""Learn from a micro-batch: run the passes of each objective, compute its losses, and add their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved
from ltxcore.errors import PluginError
from ltxcore.models.base_alone import like_base
from ltxcore.objective_types import Pass, Prepared
from ltxcore.objectives import DEFAULT, ObjectiveUse, role_key, sees_samples
from ltxcore.protocols import Backbone, Batch, Engine, ModelInput, Strategy
from ltxcore.sample.guidance import Passes, Scales, combine
from ltxcore.train.prompts import Prompts

Losses = Mapping[str, Tensor]


@attrs.frozen(eq=False)
class Given:
    """A micro-batch of a dataset, as the model sees it.

    Attributes:
        batch: the samples; those of the run have the data of the objectives' roles too.
        inputs: the model's inputs for these samples, on the model's device.
        weight: the weight of the micro-batch in its step.
    """

    batch: Batch
    inputs: Mapping[str, ModelInput]
    weight: float


@attrs.frozen(eq=False)
class Learned:
    """The losses of a micro-batch whose gradients have been added. The losses are on the device, which may still be
    computing them.

    Attributes:
        total: the loss that was trained on, which is the weighted sum of all objectives.
        own: the strategy's loss of every sample, by generated modality; empty if no objective has a pass on the
            unchanged samples.
        weighted: the weighted loss of each objective in this step, by the objective's name in metrics; if an objective has a dataset of its
            own, its loss is also multiplied by the weight of its micro-batch relative to that of the run's micro-batch.
        each: the unweighted losses of every sample, by the objective's name and the modality, such as "slider/video", for the modalities
            that the samples have.
    """

    total: Tensor
    own: Losses
    weighted: Losses
    each: Losses

    def named(self) -> Losses:
        """Return all losses by name: the total is named "", and the strategy's losses are named after their modalities.
        A run that names no objective has no other losses.
        """
        return {**self.weighted, **self.each, **self.own, "": self.total}


def learn(
    engine: Engine,
    strategy: Strategy,
    uses: Mapping[str, ObjectiveUse],
    prompts: Prompts,
    given: Given,
    others: Mapping[str, Given] = MappingProxyType({}),
) -> Learned:
    """Add the gradients of a micro-batch. The gradients of one objective are added before the next objective runs, so
    memory never holds the activations of more than one objective.

    Args:
        engine: runs the model.
        strategy: the strategy, whose loss objectives may use.
        uses: the objectives of this step, by their names in metrics; all processes have the same objectives.
        prompts: the prompts that replace the captions in some passes.
        given: the run's samples, including the data for the objectives' roles.
        others: the samples of the objectives that have a dataset of their own, by their names in metrics.
    """
    own: Losses = {}
    weighted: dict[str, Tensor] = {}
    each: dict[str, Tensor] = {}
    for place, (label, use) in enumerate(uses.items(), start=1):
        there = others.get(label, given)
        predicted, losses = answered(label, use, prompts, there, partial(predicted_in, engine, prompts), strategy.loss)
        loss = use.total(losses)
        losses = {modality: one.detach() for modality, one in losses.items()}
        if not own and (name := next((one.name for one in use.passes if sees_samples(one)), None)) is not None:
            own = losses if use.type == DEFAULT.type else _own(strategy, predicted[name], there.inputs)
        del predicted  # predictions that no loss uses would take memory during the backward pass
        engine.backward(loss * there.weight, last=place == len(uses))
        weighted[label] = loss.detach() if there is given else loss.detach() * (there.weight / given.weight)
        present = {modality: one for modality, one in losses.items() if modality not in there.batch.absent}
        each |= {f"{label}/{modality}": one for modality, one in present.items()} if label else {}
    return Learned(sum_of(list(weighted.values())), own, weighted, each)


def answered(
    label: str,
    use: ObjectiveUse,
    prompts: Prompts,
    given: Given,
    predict: Callable[[Pass, Mapping[str, ModelInput]], Losses],
    own_loss: Callable[[Losses, Mapping[str, ModelInput]], Losses],
) -> tuple[dict[str, Losses], Losses]:
    """Return the predictions in the passes of an objective, by pass and modality, and the objective's loss of every sample, by modality.

    Args:
        label: the objective's name in metrics.
        use: the objective.
        prompts: the texts that passes have in place of captions.
        given: the samples.
        predict: runs the model as a pass asks.
        own_loss: the strategy's loss, which the objective may ask for.

    Raises:
        PluginError: the objective has no loss in this run.
    """
    seen = {one.name: given.inputs if one.prompt is None else prompts.instead(given.inputs, one.prompt) for one in use.passes}
    # No weight may change between a forward that is differentiated and its backward, so averaged weights come first.
    predicted = {one.name: predict(one, seen[one.name]) for one in sorted(use.passes, key=lambda one: one.weights == "live")}
    device = next(iter(given.inputs.values())).tokens.device
    roles = [role for role in use.roles if role.modality not in given.batch.absent]
    masks = {role.name: moved(given.batch.masks[role_key(label, role.name)].float().flatten(1), device) for role in roles}
    losses: Losses = use.objective.loss(predicted, Prepared(seen, masks, own_loss))
    if not losses:
        streams = " and ".join(sorted(given.inputs))
        raise PluginError(f'the objective "{use.type}" has no loss in a run of {streams}', where="objectives", remedy="Remove it.")
    return predicted, losses


def sum_of(losses: Sequence[Tensor]) -> Tensor:
    """Return the sum of losses; a single loss is returned unchanged."""
    return losses[0] if len(losses) == 1 else torch.stack(list(losses)).sum()


def predicted_in(engine: Engine, prompts: Prompts, each: Pass, inputs: Mapping[str, ModelInput]) -> Losses:
    """Run the model as a pass asks; keep a gradient only if gradients are enabled at all.

    Source: docs/explanation/arithmetic.md#guidance, of velocities in place of clean predictions
    """
    scales = each.scales([name for name, given in inputs.items() if given.is_generated])
    with torch.set_grad_enabled(each.gradient and torch.is_grad_enabled()), _weights_of(engine, prompts.backbone, each):
        predicted = engine.forward(inputs)
        if not scales:
            return predicted
        empty = prompts.instead(inputs, "")
        without = engine.forward({name: empty[name] if name in scales else given for name, given in inputs.items()})
    guided = {name: combine(Passes(predicted[name], without[name]), Scales(scale)) for name, scale in scales.items()}
    return {**predicted, **guided}


@contextmanager
def _weights_of(engine: Engine, backbone: Backbone, each: Pass) -> Iterator[None]:
    """Return a context in which the model has the weights that a pass asks for."""
    with ExitStack() as stack:
        if not each.adapters:
            stack.enter_context(like_base(backbone))
        if each.weights == "ema":
            stack.enter_context(engine.evaluating())
            stack.enter_context(engine.averaged())
        yield


def _own(strategy: Strategy, predicted: Losses, inputs: Mapping[str, ModelInput]) -> Losses:
    """Return the strategy's loss. It is reported whatever the objectives are, so that runs can be compared."""
    with torch.no_grad():
        return strategy.loss(predicted, inputs)

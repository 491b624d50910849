"""The first micro-batches of a run, made exactly as in the run but without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.encoded.batches import MicroBatch
from ltxcore.encoded.micro_batch import as_taken
from ltxcore.engines.single import AUTOCAST
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import Draws, ModelInput
from ltxcore.runs.run_plan import RunPlan
from ltxcore.train.caption_dropout import CaptionDropout, with_dropped
from ltxcore.train.dealing import draws_of
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.loop import dropout
from ltxcore.train.prompts import Prompts


@attrs.frozen(eq=False)
class Seen:
    """A micro-batch as the model sees it.

    Attributes:
        step: the number of the optimizer step, from 1.
        part: the number of the micro-batch within its step, from 1.
        parts: the number of micro-batches in the step.
        micro_batch: the samples.
        inputs: the model's input for each modality.
        draws: the single numbers that were drawn, by name: `[B]`, or `[1]` if one number was drawn for the whole micro-batch.
        predicted: the model's predictions for each modality, `[B, T + R, D]`; empty if the model was not run.
        losses: the losses of the samples for each generated modality, `[B]`; empty if the model was not run.
    """

    step: int
    part: int
    parts: int
    micro_batch: MicroBatch
    inputs: Mapping[str, ModelInput]
    draws: Mapping[str, Tensor]
    predicted: Mapping[str, Tensor] = attrs.field(factory=dict)
    losses: Mapping[str, Tensor] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """The name of the micro-batch, such as `step_3`, or `step_3.2` for the second micro-batch of a step with several."""
        return f"step_{self.step}" if self.parts == 1 else f"step_{self.step}.{self.part}"


@attrs.define(eq=False)
class RecordedDraws:
    """Draws that remember the single numbers, whether these are drawn for each sample or for the whole micro-batch."""

    draws: Draws
    numbers: dict[str, Tensor] = attrs.field(factory=dict)

    @property
    def size(self) -> int:
        return self.draws.size

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self._remembered(key, shape, self.draws.normal(key, shape))

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self._remembered(key, shape, self.draws.uniform(key, shape))

    def shared_uniform(self, key: str) -> float:
        found = self.draws.shared_uniform(key)
        self.numbers[key] = torch.tensor([found])
        return found

    def _remembered(self, key: str, shape: Sequence[int], drawn: Tensor) -> Tensor:
        if not tuple(shape):
            self.numbers[key] = drawn
        return drawn


def first_seen(planned: RunPlan, samples: Samples, steps: int, backbone: LTXBackbone | None = None) -> Iterator[Seen]:
    """Yield the micro-batches of the first optimizer steps, in the order of a single process.

    Args:
        planned: the run.
        samples: the samples that the run reads; with a model, also the empty caption if captions are dropped.
        steps: the number of steps.
        backbone: the model, on its device, for predictions and losses. Without a model (None), there are no predictions or losses, and
            stored text features stay unchanged, even those of dropped captions.

    Raises:
        DataError: a file does not match the manifest, or a condition cannot apply.
    """
    accumulation = planned.config.optimization.gradient_accumulation_steps
    for step in range(steps):
        for part, micro_batch in enumerate(planned.order.step(step, accumulation), 1):
            yield _seen(planned, samples, backbone, Seen(step + 1, part, accumulation, micro_batch, {}, {}))


def _seen(planned: RunPlan, samples: Samples, backbone: LTXBackbone | None, empty: Seen) -> Seen:
    strategy, seed, dropped = planned.outline.strategy, planned.config.seed, planned.config.data.caption_dropout
    draws = RecordedDraws(draws_of(seed, empty.micro_batch))
    batch = samples.load(empty.micro_batch.names, strategy.wanted(draws), draws)
    if backbone is None:
        inputs = with_dropped(strategy.prepare(as_taken(batch), draws), dropped, draws)
        return attrs.evolve(empty, inputs=inputs, draws=draws.numbers)
    device = next(backbone.parameters()).device
    mixed = AUTOCAST[planned.config.acceleration.mixed_precision_mode]
    drops = CaptionDropout(dropped, Prompts(samples.texts, backbone))
    inputs = sent(prepared(strategy, backbone, batch, draws, device, drops), device)
    with torch.no_grad(), dropout(seed, empty.micro_batch, device), torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
        predicted = {name: velocity.float() for name, velocity in backbone(inputs.get("video"), inputs.get("audio")).items()}
    losses = strategy.loss(predicted, inputs)
    return attrs.evolve(empty, inputs=inputs, draws=draws.numbers, predicted=predicted, losses=losses)

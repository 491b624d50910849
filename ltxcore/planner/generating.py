"""The memory that generating a sample takes on a GPU, counted by running the real guidance and model on tensors without memory.

Nothing is kept for a backward, so a few blocks show what any number of blocks takes. Only copies of weights in the dtype of autocast add up
from block to block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.levels import noise_levels
from ltxcore.models.backbone import LTXBackbone, Perturbation
from ltxcore.models.base import Base
from ltxcore.models.quantized import is_quantizable
from ltxcore.planner.activations import Choice, Restoring, Tracer
from ltxcore.planner.trace import Uses, size_of, without_memory
from ltxcore.protocols import ModelInput, Text
from ltxcore.sample.guidance import Guidance
from ltxcore.sample.media_needs import Planned, applied_blank
from ltxcore.sample.request import Request
from ltxcore.state import LatentState


@attrs.frozen
class Generating:
    """The bytes that one step of generation takes, besides the weights.

    Attributes:
        inputs: the bytes of the model's inputs.
        highest: the most bytes besides.
        casts: the bytes of copies of weights in the dtype of autocast that the blocks which were not run add.
        uses: the uses of matrices that can be quantized.
    """

    inputs: int
    highest: int
    casts: int
    uses: Uses

    def peak(self, choice: Choice) -> int:
        """Return the most bytes at any moment. A quantized matrix is restored for each product."""
        most = self.highest
        if isinstance(choice.quantizer, Restoring):
            restored, itemsize = choice.quantizer.restoring_bytes, (choice.autocast or choice.dtype).itemsize
            most = max([most, *(max(a + round(n * restored), b + n * itemsize) for n, (a, b) in self.uses.items())])
        return self.inputs + most + self.casts


def largest_sample(samples: Sequence[Planned], base: Base, length: int) -> tuple[Planned, dict[str, ModelInput]] | None:
    """Return the sample with the most tokens, and its inputs at the first step, without content; None if there are no samples. Tokens that
    conditions with masks append are not counted, because the masks are not read yet.

    Args:
        samples: the samples.
        base: the model.
        length: the number of tokens of a prompt.
    """
    each = [(sample, _inputs(sample, base, length)) for sample in samples]
    return max(each, key=lambda one: sum(given.tokens.shape[1] for given in one[1].values()), default=None)


def _inputs(sample: Planned, base: Base, length: int) -> dict[str, ModelInput]:
    canvas, request = sample.canvas, sample.canvas.request
    features = {name: torch.zeros(1).expand(1, length, width) for name, width in base.context_widths.items()}
    text, found = Text(features, torch.ones(1, length)), {}
    for name in sorted(request.modalities, reverse=True):  # video first, as everywhere
        cut, is_generated = sample.frozen.get(name), name in request.generated
        state = canvas.empty(name)
        if cut is not None:
            blank = canvas.blank(canvas.grid(cut, name), name)
            state = LatentState.start(name, blank.grid, blank.rate, blank.tokens, blank.positions)
            state = attrs.evolve(state, denoise_mask=torch.zeros_like(state.denoise_mask))
        for planned in sample.conditions:
            if planned.modality == name and not planned.masks:
                state = applied_blank(planned, state, canvas)
        given = ModelInput.of(state, torch.ones(1) if is_generated else torch.zeros(1), text, is_generated=is_generated, marks=False)
        blank_tokens = torch.zeros(1).expand(1, given.tokens.shape[1], base.token_widths[name])
        clean = None if given.clean is None else blank_tokens[:, : given.clean.shape[1]]
        found[name] = attrs.evolve(given, tokens=blank_tokens, clean=clean)
    return found


def generating(
    tracer: Tracer, choice: Choice, trained: Mapping[str, ModelInput], sample: Planned, inputs: Mapping[str, ModelInput]
) -> Generating:
    """Run one step of generation, with all passes of its guidance, on a model of a few blocks.

    Args:
        tracer: the tracer of the run.
        choice: the settings of the run.
        trained: the inputs of a training step, which decide where adapters are.
        sample: the sample.
        inputs: the inputs of the sample, as `largest_sample` returns them.

    Source: docs/explanation/arithmetic.md#memory-of-a-device
    """
    plain = attrs.evolve(choice.plain, budget=None)
    times = [*tracer.blocks_run(choice.lora).values()]
    found: Generating = tracer.run(
        plain, trained, 1, partial(_one_step, plain=plain, request=sample.canvas.request, given=inputs, times=times)
    )
    return found


def _one_step(
    backbone: LTXBackbone,
    inputs: Mapping[str, ModelInput],
    loss: Any,
    *,
    plain: Choice,
    request: Request,
    given: Mapping[str, ModelInput],
    times: Sequence[int],
    dtype: Callable[[str], torch.dtype],
    batch_size: int,
    sequence_parallel: int,
    seen: dict[Any, Any],
) -> Generating:
    casts: list[int] = []
    uses: dict[int, tuple[int, int]] = {}

    def used(numbers: int, before: int, after: int) -> None:
        most = uses.get(numbers, (0, 0))
        uses[numbers] = max(most[0], before), max(most[1], after)

    def model(inputs: Mapping[str, ModelInput], perturbation: Perturbation | None) -> Mapping[str, Tensor]:
        casts.clear()
        with torch.autocast("cpu", dtype=plain.autocast, enabled=plain.autocast is not None):
            return backbone(inputs.get("video"), inputs.get("audio"), perturbation=perturbation)

    blocks = backbone.transformer.transformer_blocks
    with (
        ExitStack() as hooks,
        torch.no_grad(),
        without_memory(backbone, given, dtype, batch_size, sequence_parallel, seen) as (mode, there),
    ):
        for block in blocks:
            hooks.callback(block.register_forward_pre_hook(lambda *_: casts.append(mode.casts)).remove)
        hooks.callback(blocks[-1].register_forward_hook(lambda *_: casts.append(mode.casts)).remove)
        weights = backbone.transformer.named_parameters()
        mode.watch((each for name, each in weights if is_quantizable(name) and not each.requires_grad), used)
        current = {name: _at(each) for name, each in there.items()}
        scales = {name: scale for name, scale in request.scales.items() if name in request.generated}
        is_led = any(scale.cfg != 1 for scale in scales.values())
        negative = {name: (torch.empty_like(there[name].context), None) for name in scales if is_led}
        Guidance(scales, negative, (), len(blocks)).denoiser(model)(current)
        added = sum((count - 1) * (after - before) for count, (before, after) in zip(times, pairwise(casts), strict=True))
        return Generating(size_of(there.values()), mode.peak, added, uses)


def _at(given: ModelInput) -> ModelInput:
    """Return an input with tokens and noise levels of its own, as every step makes them."""
    if not given.is_generated or given.denoise_mask is None:
        return given
    return attrs.evolve(given, tokens=given.tokens * 1, timesteps=noise_levels(1.0, given.denoise_mask, given.levels))

"""Apply guidance: run several passes of the model per step, and combine their predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
from torch import Tensor

from ltxcore.models.backbone import Perturbation
from ltxcore.protocols import ModelInput
from ltxcore.sample.euler import Denoiser, clean_prediction

PerturbedModel = Callable[[Mapping[str, ModelInput], Perturbation | None], Mapping[str, Tensor]]
"""A model without the parts that a perturbation leaves out, which returns velocities by modality."""


@attrs.frozen
class Scales:
    """The strengths of guidance for a modality. The defaults have no effect.

    Attributes:
        cfg: the strength of guidance towards the text and away from the negative text; 1 is off.
        stg: the strength of guidance away from the prediction without self-attention in some blocks; 0 is off.
        modality: the strength of guidance towards the other modality; 1 is off.
        rescale: how much of the contrast that guidance adds is removed again, from 0 to 1.
    """

    cfg: float = 1.0
    stg: float = 0.0
    modality: float = 1.0
    rescale: float = 0.0


@attrs.frozen(eq=False)
class Passes:
    """The clean predictions of one modality, `[B, T, D]`, one for each pass. Passes that the scales do not need may be
    missing.

    Attributes:
        whole: the prediction with the text and the whole model.
        negative: the prediction with the negative text.
        perturbed: the prediction with self-attention left out of some blocks.
        isolated: the prediction without the other modality.
    """

    whole: Tensor
    negative: Tensor | None = None
    perturbed: Tensor | None = None
    isolated: Tensor | None = None


def combine(passes: Passes, scales: Scales) -> Tensor:
    """Combine the predictions of all passes in float32. The tensors hold a single sample, because the contrast is
    measured over a whole tensor.

    Source: docs/explanation/arithmetic.md#guidance, #rescaled-guidance
    """
    whole = passes.whole.float()
    guided = whole
    for weight, other in ((scales.cfg - 1, passes.negative), (scales.stg, passes.perturbed), (scales.modality - 1, passes.isolated)):
        if weight != 0:
            if other is None:
                raise ValueError("a pass that its scale needs was not run")
            guided = guided + weight * (whole - other.float())
    if scales.rescale != 0:
        guided = guided * (scales.rescale * whole.std() / guided.std() + (1 - scales.rescale))
    return guided


@attrs.frozen(eq=False)
class Guidance:
    """The guidance of a sample.

    Attributes:
        scales: the scales of each modality; missing and frozen modalities are not guided.
        negative: the text features of the negative prompt, `[B, L, E]`, and their mask, by modality.
        stg_blocks: the blocks without self-attention in the perturbed pass; empty for all `num_layers` blocks.
        num_layers: the number of blocks in the model.
    """

    scales: Mapping[str, Scales]
    negative: Mapping[str, tuple[Tensor, Tensor | None]]
    stg_blocks: Sequence[int]
    num_layers: int

    def denoiser(self, model: PerturbedModel) -> Denoiser:
        """Return a denoiser that predicts with guidance. A pass without effect on any modality is skipped.

        Source: docs/explanation/arithmetic.md#guidance
        """

        def denoise(inputs: Mapping[str, ModelInput]) -> dict[str, Tensor]:
            scales = self._effective(inputs)
            whole = _clean(inputs, model(inputs, None))
            negative = perturbed = isolated = None
            cfg = {name for name, scale in scales.items() if scale.cfg != 1}
            if cfg:
                changed = {name: self._with_negative(name, given) if name in cfg else given for name, given in inputs.items()}
                negative = _clean(changed, model(changed, None))
            stg = {name for name, scale in scales.items() if scale.stg != 0}
            if stg:
                blocks = frozenset(self.stg_blocks or range(self.num_layers))
                perturbed = _clean(inputs, model(inputs, Perturbation(pass_self_attention=dict.fromkeys(stg, blocks))))
            if any(scale.modality != 1 for scale in scales.values()):
                isolated = _clean(inputs, model(inputs, Perturbation.isolated()))
            absent: Mapping[str, Tensor] = {}
            others = [found or absent for found in (negative, perturbed, isolated)]
            return {name: combine(Passes(whole[name], *(found.get(name) for found in others)), scale) for name, scale in scales.items()}

        return denoise

    def _effective(self, inputs: Mapping[str, ModelInput]) -> dict[str, Scales]:
        """Return the scales of the generated modalities. Guidance towards the other modality is off if there is no
        other modality.
        """
        found = {name: self.scales.get(name, Scales()) for name, given in inputs.items() if given.is_generated}
        return found if len(inputs) > 1 else {name: attrs.evolve(scale, modality=1.0) for name, scale in found.items()}

    def _with_negative(self, name: str, given: ModelInput) -> ModelInput:
        context, mask = self.negative[name]
        return attrs.evolve(given, context=context, context_mask=mask)


def _clean(inputs: Mapping[str, ModelInput], velocities: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: clean_prediction(given, velocities[name]) for name, given in inputs.items() if given.is_generated}

"""The interface of objectives: the passes that an objective asks for, what it is given, and its type."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from ltxcore.protocols import ModelInput

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Pass:
    """A forward pass, over a micro-batch, that an objective asks for.

    Attributes:
        name: the name by which `loss` asks for the predictions of this pass.
        text: the text that the model sees: "own" for the caption of each sample, "empty" for the empty caption, or a
            prompt that replaces the captions of all samples. Prompts are encoded once and stored beside the data.
        adapters: whether the LoRA is applied. Without it, the predictions are those of the base model, and have no
            gradient. Full fine-tuning allows this only with a frozen copy of the base.
        gradient: whether the loss is differentiated through this pass. All passes of an objective that have a gradient
            are in memory at once.
        batch: the samples that the model sees: "own" for the samples of the run, or the name of the objective's key that contains the path
            of another dataset. All passes of an objective have the same batch.
        weights: the trained weights that the model has: "live" for those of the present step, or "ema" for their moving
            average, which a run has only with `[ema]`. With the average, there is no dropout and no gradient.
        guidance: the scale of classifier-free guidance towards the text and away from the empty caption, for all
            generated modalities or by modality; a modality that is not named has the scale 1. Unless all scales are 1,
            the pass takes two forwards, and the prediction is the guided one.
    """

    name: str
    text: str = "own"
    adapters: bool = True
    gradient: bool = True
    batch: str = "own"
    weights: Literal["live", "ema"] = "live"
    guidance: float | Mapping[str, float] = attrs.field(default=1.0, hash=False)

    @property
    def forwards(self) -> int:
        """The number of times that the model is run."""
        scales = self.guidance.values() if isinstance(self.guidance, Mapping) else [self.guidance]
        return 1 if all(scale == 1 for scale in scales) else 2

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts that the pass shows the model in place of captions."""
        return (*(() if self.prompt is None else (self.prompt,)), *(("",) if self.forwards > 1 else ()))

    def scales(self, modalities: Collection[str]) -> dict[str, float]:
        """Return the guidance scale of each of these modalities that is guided."""
        each = self.guidance if isinstance(self.guidance, Mapping) else dict.fromkeys(modalities, self.guidance)
        return {name: each[name] for name in modalities if each.get(name, 1.0) != 1}

    @property
    def prompt(self) -> str | None:
        """The text that replaces the captions; None if the model sees the captions."""
        return None if self.text == "own" else "" if self.text == "empty" else self.text


@attrs.frozen(eq=False)
class Prepared:
    """The data that `ObjectiveType.loss` receives besides the predictions, all on the model's device.

    Attributes:
        inputs: the model's inputs, by the name of the pass and by modality.
        masks: the data of the objective's roles, by role, `[B, T]` float32. Roles for which the run file names no
            folder are missing.
        own_loss: the loss function of the run's strategy. It takes the predictions and the inputs of a pass by
            modality, and returns the loss of every sample, `[B]`, for each generated modality.
    """

    inputs: Mapping[str, Mapping[str, ModelInput]]
    masks: Mapping[str, Tensor]
    own_loss: Callable[[Mapping[str, Tensor], Mapping[str, ModelInput]], Mapping[str, Tensor]]


class ObjectiveType(Protocol):
    """The type that the hook `ltx_objectives` registers: an attrs class whose fields are the keys of an entry of
    `[[objectives]]`.

    The core runs the same passes on all processes, applies `weight` and `probability`, and computes the gradients.
    `roles` may be left out.

    Attributes:
        passes: the forward passes that the objective needs, at least one of them with a gradient. They may depend on
            its keys, but not on the data.
        roles: the further data that the objective needs, each for one modality.
    """

    @property
    def passes(self) -> tuple[Pass, ...]: ...

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the loss of every sample, `[B]`, for each modality.

        This must be a pure function of its arguments, and the loss of a sample must depend on that sample alone. The
        modalities must be the same for all samples. Predictions, `[B, T + R, D]` by pass and by modality, are float32
        velocities; only those of the T target tokens are meaningful.
        """
        ...

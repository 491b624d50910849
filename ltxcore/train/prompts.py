"""The prompts of a run's objectives, in place of the captions of its samples."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from ltxcore.codecs.source import Codecs
from ltxcore.devices import moved
from ltxcore.encode.prompts import encode_prompts, read_prompts
from ltxcore.engines.process import Processes
from ltxcore.logs import inform
from ltxcore.objectives import prompts_of
from ltxcore.protocols import MODALITIES, Backbone, ModelInput, Text
from ltxcore.runs.fits import text_encoder_of
from ltxcore.runs.run_plan import RunPlan


@attrs.frozen(eq=False)
class Prompts:
    """The prompts of a run, each passed through the model's connectors when it is first asked for.

    Attributes:
        texts: the text features of each prompt, `[1, L, E]`, as they are stored.
        backbone: connects the text.
    """

    texts: Mapping[str, Text]
    backbone: Backbone
    _connected: dict[str, Text] = attrs.field(factory=dict, init=False)

    def instead(self, inputs: Mapping[str, ModelInput], prompt: str) -> dict[str, ModelInput]:
        """Return the model's inputs with a prompt in place of the captions of all samples."""
        text = self._text(prompt, inputs)
        return {name: _with_text(given, text.features[name], None if text.is_whole else text.mask) for name, given in inputs.items()}

    def _text(self, prompt: str, inputs: Mapping[str, ModelInput]) -> Text:
        if prompt not in self._connected:
            device, text = next(iter(inputs.values())).tokens.device, self.texts[prompt]
            features = {name: moved(each, device) for name, each in text.features.items()}
            with torch.no_grad():
                connected = self.backbone.connect(
                    attrs.evolve(text, features=features, mask=moved(text.mask, device)), [name for name in MODALITIES if name in inputs]
                )
            self._connected[prompt] = connected
        return self._connected[prompt]


def _with_text(given: ModelInput, features: torch.Tensor, mask: torch.Tensor | None) -> ModelInput:
    size = len(given.sigma)
    context, device = features.to(given.context.dtype).expand(size, -1, -1), given.tokens.device
    return attrs.evolve(given, context=context.to(device), context_mask=None if mask is None else mask.expand(size, -1).to(device))


def load_prompts(plan: RunPlan, codecs: Codecs, processes: Processes) -> dict[str, Text]:
    """Return the prompts of a run's objectives; those that are not kept beside its data yet are encoded and kept, by
    the first process.

    Raises:
        ConfigError: one has to be encoded, and there is no text encoder.
    """
    prompts = prompts_of(plan.config.objectives)
    if not prompts:
        return {}
    root, encoder = plan.outline.root, text_encoder_of(plan.outline, plan.manifest)
    missing = processes.together(lambda: encode_prompts(root, prompts, encoder, codecs.text) if processes.rank == 0 else 0)
    if missing:
        inform(f"encoded {missing} {'prompt' if missing == 1 else 'prompts'} of the objectives, kept in {root} for the next run")
    return processes.together(lambda: read_prompts(root, prompts, encoder))

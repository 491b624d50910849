"""Replace the captions of samples with prompts: with those of a run's objectives and, if captions are dropped, with the
empty caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch

from ltxcore.codecs.source import Codecs
from ltxcore.devices import moved
from ltxcore.encode.prompts import encode_prompts, in_words, read_prompts
from ltxcore.encoded.micro_batch import padded
from ltxcore.engines.process import Processes
from ltxcore.logs import inform
from ltxcore.protocols import MODALITIES, Backbone, ModelInput, Text
from ltxcore.runs.fits import text_encoder_of
from ltxcore.runs.run_plan import RunPlan


@attrs.frozen(eq=False)
class Prompts:
    """The prompts of a run. A prompt passes through the model's connectors when it is first needed.

    Attributes:
        texts: the stored text features of each prompt, `[1, L, E]`.
        backbone: connects the text.
    """

    texts: Mapping[str, Text]
    backbone: Backbone
    _connected: dict[tuple[str, int], Text] = attrs.field(factory=dict, init=False)

    def instead(self, inputs: Mapping[str, ModelInput], prompt: str) -> dict[str, ModelInput]:
        """Return the model's inputs with a prompt in place of the captions of all samples."""
        text = self.connected(prompt, inputs)
        return {name: _with_text(given, text.features[name], None if text.is_whole else text.mask) for name, given in inputs.items()}

    def connected(self, prompt: str, inputs: Mapping[str, ModelInput], length: int | None = None) -> Text:
        """Return the text features of a prompt after the connectors, `[1, L, E]`, on the device of the inputs'
        captions.

        Args:
            prompt: the prompt.
            inputs: the model's inputs by modality.
            length: the number L of positions to which the prompt is padded; by default, the number to which its encoder
                pads it.
        """
        text = self.texts[prompt]
        stored = text.mask.shape[1]
        length = stored if length is None else length
        if (prompt, length) not in self._connected:
            if length != stored:
                words = text.mask[0] > 0
                text = padded({name: each[0, words] for name, each in text.features.items()}, length)
            device = next(iter(inputs.values())).context.device
            features = {name: moved(each, device) for name, each in text.features.items()}
            with torch.no_grad():
                connected = self.backbone.connect(
                    attrs.evolve(text, features=features, mask=moved(text.mask, device)), [name for name in MODALITIES if name in inputs]
                )
            self._connected[prompt, length] = connected
        return self._connected[prompt, length]


def _with_text(given: ModelInput, features: torch.Tensor, mask: torch.Tensor | None) -> ModelInput:
    size = len(given.sigma)
    context, device = features.to(given.context.dtype).expand(size, -1, -1), given.tokens.device
    return attrs.evolve(given, context=context.to(device), context_mask=None if mask is None else mask.expand(size, -1).to(device))


def load_prompts(plan: RunPlan, prompts: Sequence[str], codecs: Codecs, processes: Processes) -> dict[str, Text]:
    """Return the text features of a run's prompts. The first process encodes the prompts that are not yet stored beside
    the run's data, and stores their text features beside the data.

    Args:
        plan: the run.
        prompts: the prompts, such as those that `prompts_of_run` returns.
        codecs: loads the text encoder.
        processes: the processes of the run.

    Raises:
        ConfigError: a prompt has to be encoded, and there is no text encoder.
    """
    if not prompts:
        return {}
    root, encoder = plan.outline.root, text_encoder_of(plan.outline, plan.manifest)
    missing = processes.together(lambda: encode_prompts(root, prompts, encoder, codecs.text) if processes.rank == 0 else [])
    if missing:
        inform(f"encoded for this run, and stored in {root} for the next: {in_words(missing)}")
    return processes.together(lambda: read_prompts(root, prompts, encoder))

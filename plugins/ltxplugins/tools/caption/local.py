"""Write captions with a model of transformers on this machine, from a folder that the user names."""

from __future__ import annotations

import base64
import io
import threading
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import ConfigError, DataError
from ltxcore.api.commands import is_out_of_memory, reason_of

ENDINGS = ("ForConditionalGeneration", "ForImageTextToText", "ForCausalLM", "LMHeadModel")
"""The endings of the names of models that write text."""


@attrs.frozen
class LocalModel:
    """The model that writes the captions.

    Attributes:
        folder: the folder of the model, as transformers saves it.
        max_tokens: the maximum number of tokens in an answer.
    """

    folder: Path
    max_tokens: int = 1024

    def client(self) -> LocalClient:
        """Return a client that runs the model, which is loaded when it is first used.

        Raises:
            ConfigError: the folder contains no model that writes text.
        """
        from ltxcore.api.models import Pretrained

        return LocalClient(self, Pretrained.find(self.folder, ENDINGS))


@attrs.define(eq=False)
class LocalClient:
    """Runs a model, one request at a time. It is safe to use from several threads.

    Attributes:
        settings: the model and its settings.
        pretrained: the model, before it is loaded.
    """

    settings: LocalModel
    pretrained: Any
    _model: Any = attrs.field(default=None, init=False)
    _processor: Any = attrs.field(default=None, init=False)
    _device: str = attrs.field(default="", init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def sound_rate(self) -> int | None:
        """The samples per second of the audio that the model understands; None if it understands none."""
        extractor = getattr(self._processor, "feature_extractor", None)
        return None if extractor is None else int(extractor.sampling_rate)

    def meet(self, pictures: int) -> None:
        """Load the model.

        Args:
            pictures: the number of pictures in a request.

        Raises:
            ConfigError: the model cannot be loaded, or cannot be asked anything.
        """
        self._model, self._processor, self._device = self.pretrained.load("AutoProcessor", dtype="auto")
        if not getattr(self._processor, "chat_template", None):
            raise ConfigError(
                "the model has no chat template, so it cannot be given an instruction",
                where=str(self.settings.folder),
                remedy="Name a model that follows instructions, with its chat_template.jinja.",
            )

    def ask(self, parts: Sequence[dict[str, Any]]) -> str:
        """Return the model's answer to one message.

        Raises:
            DataError: the model cannot process the message, or the answer is cut off.
        """
        import torch

        if any(part["type"] == "image_url" for part in parts) and getattr(self._processor, "image_processor", None) is None:
            # A chat template may leave pictures out without a word.
            raise DataError("the model does not understand pictures", remedy="Name a model that does.")
        message = {"role": "user", "content": [_content(part) for part in parts]}
        with self._lock, torch.inference_mode():
            try:
                inputs = self._processor.apply_chat_template(
                    [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
                ).to(self._device, dtype=self._model.dtype)
                tokens = self._model.generate(**inputs, max_new_tokens=self.settings.max_tokens, do_sample=False)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                remedy = "Try fewer or smaller pictures with --frames and --size."
                raise DataError(f"the model cannot process this: {reason_of(error)}", remedy=remedy) from error
        answer = tokens[0] if self._model.config.is_encoder_decoder else tokens[0, inputs["input_ids"].shape[1] :]
        if len(answer) >= self.settings.max_tokens and int(answer[-1]) not in self._ends:
            raise DataError(f"the answer is longer than {self.settings.max_tokens} tokens", remedy="Allow more tokens with --max-tokens.")
        return str(self._processor.decode(answer, skip_special_tokens=True))

    @property
    def _ends(self) -> list[int]:
        """The tokens that end an answer."""
        ends = self._model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]


def _content(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a message as transformers expects it."""
    import numpy as np
    from PIL import Image

    if part["type"] == "image_url":
        return {"type": "image", "image": Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))}
    if part["type"] == "input_audio":
        with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return {"type": "audio", "audio": samples.astype(np.float32) / 32768}
    return part

"""The text encoder, which turns captions into token numbers, and token numbers into the text features that the connectors read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.official.gemma import Gemma, language_model, open_gemma
from ltxcore.codecs.official.metadata import check_gemma
from ltxcore.codecs.official.modules import Part, spoken_dtype, with_options
from ltxcore.codecs.official.part_files import part_folder
from ltxcore.codecs.official.projections import FeatureExtractor, extractor, open_projections
from ltxcore.codecs.official.text_memory import in_8_bit, layer_by_layer
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.headers import read_file

LENGTH = 1024
"""The number of positions that loaded text features are padded to, on the left.

Source: docs/explanation/arithmetic.md#tokens-of-a-caption
"""


@attrs.frozen
class Placement:
    """The device and the numeric format in which a text encoder computes.

    Attributes:
        device: the device that the encoder computes on.
        dtype: the dtype that the encoder computes in.
        in_8_bit: whether the encoder's linear layers have 8-bit weights.
        offload: whether the weights stay in host memory and are moved to the device one layer at a time.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.bfloat16
    in_8_bit: bool = False
    offload: bool = False


@attrs.define(eq=False)
class GemmaTextEncoder:
    """An encoder that turns captions into text features `[l, E]` for each modality, one per token, where l is at most 1024.

    A single caption is encoded at the full length, as in training. Several captions are padded to the longest of them; their features
    differ from those of single captions by rounding. The weights are read when the first caption is encoded.

    Attributes:
        fingerprint: a hash that changes whenever the text features would change. It begins with the generation of models that can read the
            features, such as "ltx-2.3/".
        length: the length that loaded text features are padded to.
    """

    length: int = attrs.field(default=LENGTH, init=False)
    fingerprint: str
    _tokenizer: Tokenizer
    _model: Part
    _projections: Part
    _placement: Placement
    _extract: FeatureExtractor | None = attrs.field(default=None, init=False)

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Encode captions to text features for each modality, `[l, E]`, without padding, on the CPU in the encoder's
        dtype.

        Raises:
            CheckpointError: the weights cannot be read.
        """
        if not captions:
            return []
        extract, device = self._filled(), self._placement.device
        tokens = [self._tokenizer(caption) for caption in captions]
        words = [int(mask.sum()) for _, mask in tokens]
        length = self.length if len(captions) == 1 else max(words, default=0)
        ids, mask = (torch.cat(each)[:, -length:].to(device) for each in zip(*tokens, strict=True))
        # The last token has the same position at any length, so that the angles of rotary embeddings are the same too.
        positions = torch.arange(self.length - length, self.length, device=device).expand(len(captions), -1)
        with torch.no_grad():
            states = self._model.module(
                input_ids=ids, attention_mask=mask, position_ids=positions, output_hidden_states=True, use_cache=False
            ).hidden_states
            return [self.features(extract, [state[row : row + 1, -count:] for state in states]) for row, count in enumerate(words)]

    @property
    def parts(self) -> tuple[Part, Part]:
        """The language model and the projections of its states to features; their weights may not be read yet."""
        return self._model, self._projections

    def features(self, extract: FeatureExtractor, states: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the features of a caption from the states `[1, l, D]` of all layers. Only words have states here: the features of padding
        are never read, and all layers of several captions at full length would take gigabytes.
        """
        hidden = torch.stack([*states], dim=-1)
        found = extract(hidden, torch.ones(hidden.shape[:2], dtype=torch.int64, device=hidden.device))
        return {name: features[0].cpu() for name, features in found.items()}

    def _filled(self) -> FeatureExtractor:
        if self._extract is None:
            place = self._placement
            waits = place.in_8_bit or place.offload
            self._model.fill(device="cpu" if waits else place.device, dtype=place.dtype)
            if place.in_8_bit:
                in_8_bit(self._model.module, place.device)
            elif place.offload:
                layer_by_layer(self._model.module, place.device)
            else:
                self._model.module.to(place.device)  # computed buffers are not in the file
            self._projections.fill(device=place.device, dtype=place.dtype)
            self._extract = extractor(self._projections)
        return self._extract


def load(
    model_path: Path, own_path: Path | None = None, placement: Placement | None = None, connectors_path: Path | None = None
) -> GemmaTextEncoder:
    """Load the text encoder of a model; its files are checked now, and its weights are read when they are needed.

    Args:
        model_path: the model's file or folder.
        own_path: the text encoder's folder or packed file; None if the model's folder has one.
        placement: the encoder's device and numeric format; None for the defaults.
        connectors_path: the separate file of the text projections, if they are not in the model's file.

    Raises:
        ConfigError: no text encoder is named, or the text encoder cannot compute as asked.
        CheckpointError: the text encoder does not match its configuration, cannot be read, or does not belong to the model.
    """
    place = placement or Placement()
    if place.in_8_bit and place.offload:
        raise ConfigError("a text encoder with 8-bit weights cannot also be offloaded", remedy="Choose one of the two settings.")
    if own_path is None and not model_path.is_dir():
        raise ConfigError(
            "the file of this checkpoint does not contain the text encoder",
            where=str(model_path),
            remedy="Set text_encoder_path under [model] to the folder of Gemma 3 (LTX-2 and 2.3) or to the text encoder's file (2.5).",
        )
    if own_path is None:
        part_folder(model_path, "text_encoder")
    gemma = open_gemma(own_path or model_path)
    if model_path.is_file():
        check_gemma(read_file(model_path), gemma.told, str(gemma.where))
    model = language_model(gemma)
    projections = open_projections(model_path, gemma, model.module.config, connectors_path)
    tokenizer = Tokenizer.of(
        gemma.tokenizer,
        begin=_token(model, "bos_token_id"),
        padding=_token(model, "pad_token_id"),
        length=LENGTH,
        vocabulary=int(model.module.config.vocab_size),
        where=str(gemma.where),
    )
    return GemmaTextEncoder(_fingerprint(gemma, model, projections, place), tokenizer, model, projections, place)


def _token(model: Part, key: str) -> int:
    number = getattr(model.module.config, key, None)
    if not isinstance(number, int):
        raise CheckpointError(f"the configuration of the text encoder does not say which token is {key}", where=str(model.weights.where))
    return number


def _fingerprint(gemma: Gemma, model: Part, projections: Part, place: Placement) -> str:
    identity = model.fingerprint(hashlib.sha256(gemma.tokenizer).hexdigest(), projections.fingerprint(), str(LENGTH))
    return with_options(f"ltx-{_generation(gemma, projections)}/{identity}", dtype=spoken_dtype(place.dtype), bits=8 * place.in_8_bit)


def _generation(gemma: Gemma, projections: Part) -> str:
    """Return the generation of models that can read this text encoder's features. Source: docs/explanation/model-files.md#text-encoders"""
    if "both.weight" in projections.stored:
        return "2.0"
    return "2.3" if gemma.family == "gemma3" else "2.5"


@attrs.frozen(eq=False)
class Tokenizer:
    """The tokenizer of a text encoder; it follows the rules that LTX-2 was trained with.

    A caption is stripped of surrounding whitespace, starts with the token that begins a text, gets no end token, is cut after `length`
    tokens and is padded on the left.

    Source: docs/explanation/arithmetic.md#tokens-of-a-caption

    Attributes:
        tokenizer: a tokenizer of the library `tokenizers`.
        begin: the number of the token that begins a text.
        padding: the number of the padding token.
        length: L, the number of positions.
    """

    tokenizer: Any
    begin: int
    padding: int
    length: int

    @classmethod
    def of(cls, content: bytes, *, begin: int, padding: int, length: int, vocabulary: int, where: str) -> Tokenizer:
        """Read the tokenizer from a tokenizer.json.

        Args:
            content: the content of the file.
            begin: the number of the token that begins a text.
            padding: the number of the padding token.
            length: the number of positions.
            vocabulary: the number of tokens for which the text encoder has vectors.
            where: the file, for messages.

        Raises:
            CheckpointError: the file is not a tokenizer, or has more tokens than the text encoder.
        """
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception:  # noqa: BLE001 - the library raises bare Exception
            raise CheckpointError("is not a tokenizer", where=where, remedy="Download or copy the file again.") from None
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        if size > vocabulary:
            raise CheckpointError(
                f"this tokenizer has {size} tokens, but the text encoder beside it has {vocabulary}; the two do not belong together",
                where=where,
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, begin, padding, length)

    def __call__(self, caption: str) -> tuple[Tensor, Tensor]:
        """Convert a caption to token numbers and a mask that is 1 where a token counts, both `[1, L]` int64."""
        numbers = [self.begin, *self.tokenizer.encode(caption.strip(), add_special_tokens=False).ids][: self.length]
        missing = self.length - len(numbers)
        ids = torch.tensor([[self.padding] * missing + numbers])
        mask = torch.tensor([[0] * missing + [1] * len(numbers)])
        return ids, mask

"""A text encoder with a model's connectors behind it: what is stored is what the blocks attend to."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.encoded.padding import padded
from ltxcore.errors import ConfigError
from ltxcore.models.checkpoint_files import Checkpoint, open_checkpoint
from ltxcore.models.connectors import Connectors, connectors_fingerprint, connectors_of
from ltxcore.models.load_base import describe
from ltxcore.protocols import MODALITIES, Text, TextEncoder, with_connectors


@attrs.define(eq=False)
class ConnectedTextEncoder:
    """Captions to context by modality, `[L, E]`: registers take the place of padding, so that all positions count.

    Each caption goes through the connectors by itself, in bfloat16, as a run in bf16 would have it. Their weights are read at the first caption.

    Attributes:
        length: L.
        fingerprint: that of the text encoder, and of the connectors.
    """

    length: int
    fingerprint: str
    _encoder: TextEncoder
    _checkpoint: Checkpoint
    _device: str
    _connectors: Connectors | None = attrs.field(default=None, init=False)

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """For each caption its context by modality, `[L, E]` bfloat16, on the CPU.

        Raises:
            CheckpointError: weights cannot be read.
        """
        if self._connectors is None:
            self._connectors = connectors_of(self._checkpoint, MODALITIES, torch.bfloat16)
        return [self._context(self._connectors, padded(features, self.length)) for features in self._encoder.encode(captions)]

    def _context(self, connectors: Connectors, text: Text) -> dict[str, Tensor]:
        moved = {name: features.to(self._device) for name, features in text.features.items()}
        found = connectors(Text(moved, text.mask.to(self._device)))
        return {name: context[0].cpu() for name, context in found.features.items()}


def connected(encoder: TextEncoder, model_path: str, device: str) -> ConnectedTextEncoder:
    """A text encoder with the connectors of a model behind it.

    Raises:
        ConfigError: the model has none.
        CheckpointError: its file cannot be read.
    """
    info = describe(model_path)
    if not info.has_connectors:
        raise no_connectors(info.name)
    checkpoint = open_checkpoint(model_path)
    identity = with_connectors(encoder.fingerprint, connectors_fingerprint(checkpoint))
    return ConnectedTextEncoder(encoder.length, identity, encoder, checkpoint, device)


def no_connectors(name: str) -> ConfigError:
    """The error of a model whose text goes through no connectors."""
    return ConfigError(
        f"the model {name} has no text connectors, so there are no outputs of theirs to store",
        remedy="Leave this out: its text features are what its blocks attend to.",
    )
